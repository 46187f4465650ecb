"""Photos of any lens as a pinhole would have taken them, and depth found there back in the photo.

Stereo and fusion compare photos along straight lines; so they are done on pinholes. What a pixel
sees along its ray it sees on both sides, and depth along z is the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array, pinhole_grid, pixel_centres, pixel_rays, project
from pointmap.lens import Lens
from recon.stage_results import DepthMap
from recon.stereo.view import StereoView

Places = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Places x, y (h, w) in a photo for OpenCV, which counts pixels from the centre of the first."""

# Depths of neighbouring pixels that differ by more, relatively, are of two surfaces.
_JUMP = 0.03


def as_pinhole(view: StereoView, lens: Lens) -> StereoView:
    """Return the view that a pinhole in its place would have; ``view`` as it is for a pinhole.

    It is as large as the photo's border reaches, within bounds
    (:func:`pointmap.camera.pinhole_grid`); where the photo shows nothing it is not usable.
    """
    if not lens:
        return view
    height, width = view.pixels.shape[:2]
    grid = kept_grid(width, height, view.intrinsics.tobytes(), lens)
    usable = grid.inside
    if view.usable is not None:
        usable = usable & (_nearest(view.usable.astype(np.uint8), grid.places) > 0)
    pixels = cv2.remap(view.pixels, *grid.places, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return replace(
        view,
        pixels=pixels.astype(np.uint8),
        intrinsics=grid.intrinsics,
        prior=resampled(view.prior, grid.places),
        usable=usable,
    )


def in_photo(found: DepthMap, prior: DepthMap, intrinsics: Array, lens: Lens) -> DepthMap:
    """Return the depth ``found`` by the pinhole of :func:`as_pinhole`, at the photo's own pixels.

    ``prior``: the photo's depth, which stays where the pinhole doesn't reach; ``intrinsics`` (3, 3)
    at its size.
    """
    if not lens:
        return found
    height, width = prior.depth.shape
    ideal = kept_grid(width, height, intrinsics.tobytes(), lens).intrinsics
    xy = project(pixel_rays(pixel_centres(width, height), intrinsics, lens), ideal)
    rows, columns = found.depth.shape
    outside = ~((xy >= 0) & (xy <= [columns, rows])).all(axis=-1)
    back = resampled(found, _places(xy))
    return DepthMap(
        np.where(outside, prior.depth, back.depth),
        np.where(outside, prior.confidence, back.confidence),
    )


def resampled(found: DepthMap, places: Places, jump: float = _JUMP) -> DepthMap:
    """Return depth at these places (h, w) of its own pixels; nowhere is 0.

    Interpolated on surfaces (inverse depth, linear on planes) and taken from the nearest pixel
    between them, where depths differ by more than ``jump``, relatively.
    """
    depth = np.ascontiguousarray(found.depth)
    near = _nearest(depth, places)
    inverse = np.where(depth > 0, 1 / np.maximum(depth, 1e-12), 0).astype(np.float32)
    smooth = 1 / np.maximum(cv2.remap(inverse, *places, cv2.INTER_LINEAR), 1e-12)
    on_surface = np.abs(smooth - near) < jump * near
    return DepthMap(
        np.where(on_surface, smooth, near).astype(np.float32),
        _nearest(np.ascontiguousarray(found.confidence), places).astype(np.float32),
    )


@dataclass(frozen=True)
class PinholeGrid:
    """A pinhole's ``intrinsics`` (3, 3), the ``places`` of its pixels (h, w) in the photo, and
    which of them are ``inside``.
    """

    intrinsics: Array
    places: Places
    inside: NDArray[np.bool_]


@lru_cache(maxsize=4)
def kept_grid(width: int, height: int, intrinsics: bytes, lens: Lens) -> PinholeGrid:
    """Return :func:`pointmap.camera.pinhole_grid` of ``intrinsics``, the bytes of a (3, 3) array;
    photos of one camera share it.
    """
    ideal, xy = pinhole_grid(width, height, np.frombuffer(intrinsics).reshape(3, 3), lens)
    inside = np.asarray(((xy >= 0) & (xy <= [width, height])).all(axis=-1))
    return PinholeGrid(ideal, _places(xy), inside)


def _places(xy: Array) -> Places:
    """Return points (h, w, 2) as OpenCV wants them; beyond the lens there is nothing."""
    x, y = np.moveaxis(np.nan_to_num(xy - 0.5, nan=-1e4).astype(np.float32), -1, 0)
    return np.ascontiguousarray(x), np.ascontiguousarray(y)


def _nearest(values: NDArray[Any], places: Places) -> NDArray[Any]:
    return np.asarray(cv2.remap(values, *places, cv2.INTER_NEAREST))
