"""From photo to photo: the eye stops where each was taken, and it fades in over the scene."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array, pinhole, pixel_centres, project
from recon.fusion.full_photos import full_photo
from recon.scene import Scene, View
from viz.drawing.viewpoint import Viewpoint
from viz.paths.free_space import FreeSpace
from viz.paths.tour import tour

MOST_PHOTOS = 24
"""More would make a film that nobody watches to its end."""

_STAY_FRAMES, _FLY_FRAMES, _FADE_FRAMES = 40, 32, 10


@dataclass(frozen=True)
class PhotoFrame:
    """A frame from ``view``, over which photo ``index`` lies, a ``share`` of it from 0 to 1."""

    view: Viewpoint
    index: int
    share: float


def photo_to_photo(scene: Scene, *, aspect: float) -> list[PhotoFrame]:
    """Return the frames of a film that stops at up to :data:`MOST_PHOTOS` photos, spaced evenly.

    Between two it goes the shortest way that crosses no surface, and where there is none it cuts.
    """
    free = FreeSpace(scene)
    stops = tour(scene, free, aspect=aspect)
    chosen = np.unique(np.linspace(0, len(stops) - 1, min(len(stops), MOST_PHOTOS)).round())
    stops = [stops[int(k)] for k in chosen]
    frames: list[PhotoFrame] = []
    for number, (index, stop) in enumerate(stops):
        if number:
            before = frames[-1]
            way = free.way(before.view.eye, stop.eye)
            if way is not None:
                frames += [PhotoFrame(v, index, 0.0) for v in _flown(before.view, stop, way)]
        frames += [PhotoFrame(stop, index, share) for share in _shares()]
    return frames


def _shares() -> NDArray[np.floating]:
    """Return how much of the photo there is in each frame of its stay: in, whole, and out."""
    frames = np.arange(_STAY_FRAMES) + 0.5
    return np.clip(np.minimum(frames, _STAY_FRAMES - frames) / _FADE_FRAMES, 0, 1)


def _flown(start: Viewpoint, end: Viewpoint, way: Array) -> Iterator[Viewpoint]:
    """Yield the views between two along ``way`` (N, 3), slow at both ends."""
    from scipy.spatial.transform import Rotation, Slerp

    axes = np.array([view.world_to_cam()[:3, :3].T for view in (start, end)])
    turned = Slerp([0, 1], Rotation.from_matrix(axes))
    time = (np.arange(_FLY_FRAMES) + 1) / (_FLY_FRAMES + 1)
    share = time**2 * (3 - 2 * time)
    steps = np.linalg.norm(np.diff(way, axis=0), axis=1)
    along = np.concatenate([[0.0], np.cumsum(steps)])
    eyes = np.array([np.interp(share * along[-1], along, column) for column in way.T]).T
    ahead = np.linalg.norm([start.target - start.eye, end.target - end.eye], axis=1)
    for k, matrix in enumerate(turned(share).as_matrix()):
        s = share[k]
        distance = (1 - s) * ahead[0] + s * ahead[1]
        yield Viewpoint(
            eyes[k],
            eyes[k] + distance * matrix[:, 2],
            -matrix[:, 1],
            (1 - s) * start.field_of_view_deg + s * end.field_of_view_deg,
        )


def photo_over(
    view: View, viewpoint: Viewpoint, width: int, height: int
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return the photo as seen from its own place in a picture of ``width`` x ``height``, without
    its distortion, (h, w, 3), and where it lies (h, w), from 0 to 1.
    """
    import cv2

    camera = view.camera
    pixels = full_photo(view, min(1.0, 1.5 * max(width, height) / max(camera.width, camera.height)))
    focal = height / 2 / float(np.tan(np.radians(viewpoint.field_of_view_deg) / 2))
    K = pinhole(focal, width, height)
    rays = np.ones((height, width, 3))
    rays[..., :2] = (pixel_centres(width, height) - K[:2, 2]) / focal
    at = project(rays, camera.intrinsics_at(pixels.shape[1], pixels.shape[0]), camera.lens)
    x, y = np.moveaxis((np.nan_to_num(at, nan=-1e4) - 0.5).astype(np.float32), -1, 0)
    drawn = cv2.remap(pixels, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    whole = np.ones(pixels.shape[:2], np.float32)
    return drawn.astype(np.uint8), np.asarray(cv2.remap(whole, x, y, cv2.INTER_LINEAR))


def mixed(
    frame: NDArray[np.uint8], over: NDArray[np.uint8], there: NDArray[np.float32], share: float
) -> NDArray[np.uint8]:
    """Return ``frame`` with a ``share`` of ``over`` (h, w, 3) where that is ``there`` (h, w)."""
    weight = (share * there)[..., None]
    return np.rint((1 - weight) * frame + weight * over).astype(np.uint8)
