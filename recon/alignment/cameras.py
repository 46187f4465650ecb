"""The cameras of all photos under construction, as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pointmap.camera import Array, Index, Mask, stacked_poses
from pointmap.lens import Lens, fold_radius, undistort
from recon.alignment import loops
from recon.stage_results import Alignment, unit_px

if TYPE_CHECKING:
    from pointmap.images import Photo


@dataclass(frozen=True)
class Cameras:
    """Cameras of all photos, placed or not.

    ``cam_to_world`` (N, 4, 4), of use where ``registered`` (N,); ``focals_px`` (N,); ``principal``
    (N, 2) px; ``size_px`` (N, 2): width and height of the photo, of which the principal point need
    not be the middle; ``unit_px`` (N,): how many original pixels one pixel of a 640 px photo is.
    Pixel thresholds are stated at 640 px and multiplied by it; ``k1``, ``k2`` (N,) and ``fisheye``
    (N,): the lens (:mod:`pointmap.lens`).
    """

    cam_to_world: Array
    registered: Mask
    focals_px: Array
    principal: Array
    size_px: Array
    unit_px: Array
    k1: Array
    k2: Array
    fisheye: Mask

    @staticmethod
    def of(photos: Sequence[Photo], alignment: Alignment) -> Cameras:
        """Return the cameras of an alignment whose lenses were solved for."""
        cam_to_world, placed = stacked_poses(alignment.cam_to_world)
        k1, k2 = np.array([lens.k1_k2 for lens in alignment.lenses]).T
        return Cameras(
            cam_to_world,
            placed,
            alignment.intrinsics[:, 0, 0],
            alignment.intrinsics[:, :2, 2],
            sizes_px(photos),
            np.array([unit_px(photo) for photo in photos]),
            k1,
            k2,
            np.array([lens.is_fisheye for lens in alignment.lenses]),
        )

    @property
    def lenses(self) -> tuple[Lens, ...]:
        """The lens of each photo."""
        lenses = zip(self.k1.tolist(), self.k2.tolist(), self.fisheye.tolist(), strict=True)
        return tuple(Lens.solved(*lens) for lens in lenses)

    @property
    def world_to_cam_rotation(self) -> Array:
        """The rotation (N, 3, 3) from the world to each photo's frame."""
        return np.ascontiguousarray(self.cam_to_world[:, :3, :3].transpose(0, 2, 1), np.float64)

    @property
    def centre(self) -> Array:
        """Where each photo was taken (N, 3)."""
        return np.ascontiguousarray(self.cam_to_world[:, :3, 3], np.float64)

    def only(self, photo: int) -> Cameras:
        """Return the camera of one photo, by itself."""
        one = slice(photo, photo + 1)
        return Cameras(
            self.cam_to_world[one],
            self.registered[one],
            self.focals_px[one],
            self.principal[one],
            self.size_px[one],
            self.unit_px[one],
            self.k1[one],
            self.k2[one],
            self.fisheye[one],
        )

    def on_plane(self, view: Index, xy: Array) -> Array:
        """Return where rays through pixels ``xy`` (M, 2) of photos ``view`` (M,) meet z = 1."""
        flat = (xy - self.principal[view]) / self.focals_px[view, None]
        return undistort(flat, self.k1[view], self.k2[view], self.fisheye[view])

    def pinhole_pixels(self, view: Index, xy: Array) -> Array:
        """Return pixels ``xy`` (M, 2) of photos ``view`` (M,) where a pinhole would show them."""
        flat = self.on_plane(view, xy)
        return np.asarray(self.focals_px[view, None] * flat + self.principal[view])

    def directions(self, view: Index, xy: Array) -> Array:
        """Return world unit rays (M, 3) through pixels ``xy`` (M, 2) of photos ``view`` (M,)."""
        flat = self.on_plane(view, xy)
        rays = np.concatenate([flat, np.ones((len(flat), 1))], axis=1)
        rays /= np.linalg.norm(rays, axis=1, keepdims=True)
        return _rotate(self.cam_to_world[view, :3, :3], rays)

    def to_camera(self, view: Index, points: Array) -> Array:
        """Return world points (M, 3) in the frames of photos ``view`` (M,)."""
        moved = points - self.cam_to_world[view, :3, 3]
        return _rotate(self.cam_to_world[view, :3, :3].transpose(0, 2, 1), moved)

    def errors_px(self, view: Index, xy: Array, points: Array) -> Array:
        """Return reprojection errors (M,) of world points (M, 3); inf behind the camera."""
        return np.asarray(
            loops.errors_px(
                *self._all(),
                np.ascontiguousarray(view, np.int64),
                *(np.ascontiguousarray(values, np.float64) for values in (xy, points)),
            )
        )

    def agreement(
        self, view: Index, xy: Array, limits_px: Array, *, ends: Index, chain: Index, points: Array
    ) -> Array:
        """Return how well points (T, 3) fit what photos see of their ``chain`` (T,): MSAC's score.

        A chain's observations are ``ends[c]`` to ``ends[c + 1]`` of ``view`` (M,), ``xy`` (M, 2)
        and ``limits_px`` (M,), up to which an error counts.
        """
        numbers = [np.ascontiguousarray(values, np.float64) for values in (xy, limits_px, points)]
        indices = [np.ascontiguousarray(values, np.int64) for values in (view, chain, ends)]
        return np.asarray(
            loops.agreement(*self._all(), indices[0], *numbers[:2], *indices[1:], numbers[2])
        )

    def _all(self) -> tuple[Array | Mask, ...]:
        """Return what the loops over observations are given of all photos."""
        lens = self.focals_px, self.principal, self.k1, self.k2, fold_radius(self.k1, self.k2)
        return (
            self.world_to_cam_rotation,
            self.centre,
            *(np.ascontiguousarray(values, np.float64) for values in lens),
            np.ascontiguousarray(self.fisheye),
        )


def sizes_px(photos: Sequence[Photo]) -> Array:
    """Return width and height (N, 2) of photos in pixels."""
    return np.array([(photo.width, photo.height) for photo in photos], np.float64).reshape(-1, 2)


def _rotate(rotations: Array, vectors: Array) -> Array:
    return np.asarray((rotations @ vectors[:, :, None])[:, :, 0])
