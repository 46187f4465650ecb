"""A photo's depth as fusion takes it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array, pixel_centres, pixel_rays
from pointmap.lens import PINHOLE, Lens
from recon.depth.undistorted import Places, kept_grid, resampled
from recon.scene import View
from recon.stage_results import DepthMap


@dataclass(frozen=True)
class Frame:
    """One usable depth map of a ``view``: ``depth`` (h, w) float32, 0 where masked; its
    ``confidence``. ``places``: where its pixels are in the photo; None: they are its own.
    """

    view: View
    depth: NDArray[np.float32]
    confidence: NDArray[np.float32]
    intrinsics: Array
    cam_to_world: Array
    lens: Lens = PINHOLE
    places: Places | None = None

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """The colours (h, w, 3) RGB; the photo may be read for them."""
        import cv2

        if self.places is None:
            return self.view.pixels
        moved = cv2.remap(self.view.pixels, *self.places, cv2.INTER_LINEAR)
        return np.asarray(moved, np.uint8)


@dataclass(frozen=True)
class UsableDepth:
    """What stays in memory of a ``view``: its usable depth, 2 bytes a pixel, and its camera.

    ``padded`` (h + 2, w + 2) float16 times ``unit`` is depth to 0.05 %, 0 where masked and in a rim
    of one pixel around the photo. ``moved``: packed bits of the pixels where it is another than the
    view's, None for none.
    """

    view: View
    padded: NDArray[np.float16]
    unit: float
    intrinsics: Array
    cam_to_world: Array
    lens: Lens
    moved: NDArray[np.uint8] | None = None

    @property
    def rounded(self) -> NDArray[np.float16]:
        """Depth (h, w) over ``unit``."""
        return self.padded[1:-1, 1:-1]

    @property
    def known(self) -> NDArray[np.bool_]:
        """Where depth (h, w) is usable."""
        return self.rounded > 0

    @property
    def depth(self) -> NDArray[np.float32]:
        """Depth (h, w), rounded, 0 where masked."""
        return self.rounded.astype(np.float32) * np.float32(self.unit)

    def rays(self, where: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Return rays (3, P) with z = 1 through the pixels ``where`` (h, w)."""
        height, width = self.rounded.shape
        return rays_of(width, height, self.intrinsics.tobytes(), self.lens)[:, where]

    def points(self, where: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Return the points (3, P) in the camera's frame of the pixels ``where`` (h, w)."""
        depth = self.rounded[where].astype(np.float32) * np.float32(self.unit)
        return self.rays(where) * depth

    def world_points(self) -> NDArray[np.float32]:
        """Return all points (3, P) in the world's frame."""
        rotation, centre = np.hsplit(self.cam_to_world[:3].astype(np.float32), [3])
        return rotation @ self.points(self.known) + centre

    def frame(self) -> Frame:
        """Return the depth as it was measured, or moved, with its confidence."""
        depth = np.where(self.known, self.view.depth, 0).astype(np.float32)
        if self.moved is not None:
            moved = unpacked(self.moved, depth.shape)
            depth[moved] = self.depth[moved]
        return Frame(
            self.view,
            depth,
            self.view.confidence.astype(np.float32),
            self.intrinsics,
            self.cam_to_world,
            self.lens,
        )


def as_pinhole(frame: Frame, max_depth_jump: float) -> Frame:
    """Return the frame as a pinhole would have taken it: itself when there is no distortion."""
    if not frame.lens:
        return frame
    height, width = frame.depth.shape
    grid = kept_grid(width, height, frame.intrinsics.tobytes(), frame.lens)
    moved = resampled(DepthMap(frame.depth, frame.confidence), grid.places, max_depth_jump)
    return Frame(
        frame.view,
        moved.depth,
        moved.confidence,
        grid.intrinsics,
        frame.cam_to_world,
        places=grid.places,
    )


def unpacked(bits: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return packed ``bits`` as truth values of a ``shape``."""
    return np.unpackbits(bits, count=int(np.prod(shape))).reshape(shape).astype(bool)


@lru_cache(maxsize=4)
def rays_of(width: int, height: int, intrinsics: bytes, lens: Lens) -> NDArray[np.float32]:
    """Return rays (3, h, w) with z = 1; photos of one camera share them."""
    K = np.frombuffer(intrinsics).reshape(3, 3)
    rays = pixel_rays(pixel_centres(width, height), K, lens)
    return np.ascontiguousarray(np.moveaxis(rays, -1, 0), np.float32)
