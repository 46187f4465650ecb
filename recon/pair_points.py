"""What a pair's two predictions say, as plain arrays: shared points, implied intrinsics."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array, pinhole, pixel_centres
from recon.intrinsics import DEFAULT_FOCAL, weiszfeld_focal

if TYPE_CHECKING:
    from pointmap.images import Photo
    from pointmap.inference import PairPrediction


def both_frames(
    prediction_ij: PairPrediction, prediction_ji: PairPrediction
) -> tuple[Array, Array, Array]:
    """Return points (M, 3) in camera i's and in camera j's frame of pixels of both photos, and
    their confidence (M,), thinned to a few thousand.
    """
    first, second, weight = [], [], []
    for in_i, conf_i, in_j, conf_j in (
        (
            prediction_ij.points_i,
            prediction_ij.confidence_i,
            prediction_ji.points_j,
            prediction_ji.confidence_j,
        ),
        (
            prediction_ij.points_j,
            prediction_ij.confidence_j,
            prediction_ji.points_i,
            prediction_ji.confidence_i,
        ),
    ):
        few = thin(conf_i.shape)
        first.append(in_i[few].reshape(-1, 3))
        second.append(in_j[few].reshape(-1, 3))
        weight.append(np.sqrt(conf_i[few] * conf_j[few]).ravel())
    points_1, points_2 = np.concatenate(first), np.concatenate(second)
    usable = (points_1 != 0).any(1) & (points_2 != 0).any(1)
    return (
        points_1[usable].astype(np.float64),
        points_2[usable].astype(np.float64),
        np.concatenate(weight)[usable].astype(np.float64),
    )


def implied_intrinsics(
    points: NDArray[np.float32], confidence: NDArray[np.float32], photo: Photo
) -> Array:
    """Return K (3, 3) in original pixels of a pointmap in its own camera's frame."""
    few = thin(confidence.shape)
    pixels = original_pixels(confidence.shape, photo)[few] - [photo.width / 2, photo.height / 2]
    fallback = DEFAULT_FOCAL * max(photo.width, photo.height)
    focal = weiszfeld_focal(points[few], pixels, confidence[few], fallback_px=fallback)
    return pinhole(focal.focal_px, photo.width, photo.height)


def original_pixels(shape: tuple[int, ...], photo: Photo) -> Array:
    """Return the positions (h, w, 2) in the original photo of a network-sized map's pixels."""
    height, width = shape
    return pixel_centres(width, height) * [photo.width / width, photo.height / height]


def thin(shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Return slices that leave about 3000 pixels of a map."""
    stride = max(1, int(np.sqrt(shape[0] * shape[1] / 3000)))
    return slice(stride // 2, None, stride), slice(stride // 2, None, stride)
