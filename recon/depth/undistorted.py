"""Photos of any lens as a pinhole would have taken them, and depth found there back in the photo.

Stereo and fusion compare photos along straight lines; so they are done on pinholes. What a pixel
sees along its ray it sees on both sides, and depth along z is the same.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array, pinhole_grid, pixel_centres, pixel_rays, project
from pointmap.lens import Lens
from recon.stage_results import DepthMap
from recon.stereo.view import StereoView

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
    intrinsics, xy = kept_grid(width, height, view.intrinsics.tobytes(), lens)
    inside: NDArray[np.bool_] = np.asarray(((xy >= 0) & (xy <= [width, height])).all(axis=-1))
    if view.usable is not None:
        inside &= _nearest(view.usable.astype(np.uint8), xy) > 0
    pixels = cv2.remap(
        view.pixels, *opencv_maps(xy), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    prior = resampled(view.prior, xy)
    return replace(
        view,
        pixels=pixels.astype(np.uint8),
        intrinsics=intrinsics,
        prior=prior,
        usable=inside,
    )


def in_photo(found: DepthMap, prior: DepthMap, intrinsics: Array, lens: Lens) -> DepthMap:
    """Return the depth ``found`` by the pinhole of :func:`as_pinhole`, at the photo's own pixels.

    ``prior``: the photo's depth, which stays where the pinhole doesn't reach; ``intrinsics`` (3, 3)
    at its size.
    """
    if not lens:
        return found
    height, width = prior.depth.shape
    ideal, _ = kept_grid(width, height, intrinsics.tobytes(), lens)
    xy = project(pixel_rays(pixel_centres(width, height), intrinsics, lens), ideal)
    rows, columns = found.depth.shape
    outside = ~((xy >= 0) & (xy <= [columns, rows])).all(axis=-1)
    back = resampled(found, xy)
    return DepthMap(
        np.where(outside, prior.depth, back.depth),
        np.where(outside, prior.confidence, back.confidence),
    )


def resampled(found: DepthMap, xy: Array, jump: float = _JUMP) -> DepthMap:
    """Return depth at the places ``xy`` (h, w, 2) of its own pixels; NaN is nowhere.

    Interpolated on surfaces (inverse depth, linear on planes) and taken from the nearest pixel
    between them, where depths differ by more than ``jump``, relatively.
    """
    depth = np.ascontiguousarray(found.depth)
    near = _nearest(depth, xy)
    inverse = np.where(depth > 0, 1 / np.maximum(depth, 1e-12), 0).astype(np.float32)
    smooth = 1 / np.maximum(cv2.remap(inverse, *opencv_maps(xy), cv2.INTER_LINEAR), 1e-12)
    on_surface = np.abs(smooth - near) < jump * near
    return DepthMap(
        np.where(on_surface, smooth, near).astype(np.float32),
        _nearest(np.ascontiguousarray(found.confidence), xy).astype(np.float32),
    )


def opencv_maps(xy: Array) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return what OpenCV wants, which counts pixels from the centre of the first; beyond the lens
    there is nothing.
    """
    x, y = np.moveaxis(np.nan_to_num(xy - 0.5, nan=-1e4).astype(np.float32), -1, 0)
    return x, y


@lru_cache(maxsize=4)
def kept_grid(width: int, height: int, intrinsics: bytes, lens: Lens) -> tuple[Array, Array]:
    """Return :func:`pointmap.camera.pinhole_grid` of ``intrinsics``, the bytes of a (3, 3) array;
    photos of one camera share it.
    """
    return pinhole_grid(width, height, np.frombuffer(intrinsics).reshape(3, 3), lens)


def _nearest(values: NDArray[Any], xy: Array) -> NDArray[Any]:
    return np.asarray(cv2.remap(values, *opencv_maps(xy), cv2.INTER_NEAREST))
