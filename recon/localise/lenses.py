"""What is known of a new photo's lens before it is placed."""

from __future__ import annotations

from collections.abc import Sequence

from pointmap.camera import pinhole
from pointmap.images import Photo
from recon.localise.resection import Lens
from recon.scene import Camera
from recon.two_view.focal_lengths import EXIF_LOG_SIGMA


def stated_lens(photo: Photo, others: Sequence[tuple[Photo, Camera]]) -> tuple[Lens, bool] | None:
    """Return the lens that files tell, and whether that is certain; None where they tell nothing.

    ``others``: photos of the scene with their cameras, likeliest first. The camera of the first of
    them that was taken with the same one is as good as calibrated: certain if EXIF names it, a
    guess to be tried if nothing but the size is the same. Else EXIF's focal length.
    """
    same = [camera for other, camera in others if other.camera_key == photo.camera_key]
    named = any(photo.camera_key.split("|")[:2])
    if same and named:
        return Lens(_held_as(photo, same[0]), 0.0, "the scene's camera"), True
    if photo.exif_focal_px is not None:
        K = photo.pinhole(photo.exif_focal_px)
        return Lens(Camera(K, photo.width, photo.height, None), EXIF_LOG_SIGMA, "EXIF"), False
    if same:
        return Lens(_held_as(photo, same[0]), 0.0, "the scene's camera"), False
    return None


def _held_as(photo: Photo, camera: Camera) -> Camera:
    """Return the lens of ``camera`` for a photo of the same sides, upright or lying."""
    size, K = (photo.width, photo.height), camera.intrinsics
    if size != (camera.width, camera.height):
        # Which way it was turned is not known, nor with it where an odd principal point goes.
        K = pinhole(float(K[0, 0] * K[1, 1]) ** 0.5, *size)
    return Camera(K, *size, None, camera.lens)
