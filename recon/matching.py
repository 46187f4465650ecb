"""Pixel matches between two photos: SIFT features, and 3D reciprocal neighbours of pointmaps.

All positions are x, y in the ORIGINAL photo, pixel centres at +0.5 (see :mod:`pointmap.camera`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array


@dataclass(frozen=True)
class PhotoFeatures:
    """Key points of one photo.

    ``xy`` (K, 2) float64 original pixels; ``descriptors`` (K, 128) float32, unit length (RootSIFT);
    ``colours`` (K, 3) uint8 RGB.
    """

    xy: Array
    descriptors: NDArray[np.float32]
    colours: NDArray[np.uint8]


@dataclass(frozen=True)
class PairMatches:
    """Matches of photos ``i`` < ``j``.

    ``xy_i``, ``xy_j`` (M, 2) float64 original pixels; ``index_i``, ``index_j`` (M,) int64 key point
    numbers, -1 where the match comes from pointmaps; ``sigma_px``: how accurate these matches are,
    in original pixels.
    """

    i: int
    j: int
    xy_i: Array
    xy_j: Array
    index_i: NDArray[np.int64]
    index_j: NDArray[np.int64]
    sigma_px: float
