"""Matches of two photos by their pointmaps alone: 3D reciprocal neighbours, as DUSt3R has them.

The product matches features where pointmaps say instead (:mod:`recon.two_view.guided_matching`), to
a fraction of a pixel. These, on the network's grid, are what the methods of relative pose and the
stored reference results are compared on.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from pointmap.camera import Array
from pointmap.images import Photo
from pointmap.inference import PairPrediction
from recon.prediction.descriptor_matches import matches_of_pixels
from recon.stage_results import PairMatches

_STARTS = 4000
_MAX_GAP = 0.05


def match_pointmaps(
    prediction_ij: PairPrediction,
    prediction_ji: PairPrediction,
    photos: Sequence[Photo],
    *,
    limit: int = 1000,
) -> PairMatches:
    """Return pixels of the two photos whose 3D points are each other's nearest neighbours.

    The two predictions of one pair (i < j), each in its own frame, are searched separately, from a
    sub-sampled grid of photo i's pixels. Neighbours further apart than 5 % of their depth are no
    match. The ``limit`` most confident ones are kept (geometric mean of both confidences).
    """
    first = _reciprocal_pixels(
        prediction_ij.points_i,
        prediction_ij.confidence_i,
        prediction_ij.points_j,
        prediction_ij.confidence_j,
    )
    # In the other direction's frame photo i is the second photo.
    second = _reciprocal_pixels(
        prediction_ji.points_j,
        prediction_ji.confidence_j,
        prediction_ji.points_i,
        prediction_ji.confidence_i,
    )
    return matches_of_pixels(
        prediction_ij,
        photos,
        np.concatenate([first[0], second[0]]),
        np.concatenate([first[1], second[1]]),
        limit=limit,
    )


def reciprocal_neighbours(
    points_1: Array, points_2: Array, starts: NDArray[np.int64] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the numbers of points (N, 3) and (M, 3) that are each other's nearest.

    ``starts``: numbers of the points of the first set to try; None tries all.
    """
    starts = np.arange(len(points_1)) if starts is None else starts
    if not len(starts) or not len(points_2):
        none = np.zeros(0, np.int64)
        return none, none
    _, there = KDTree(points_2).query(points_1[starts])
    _, back = KDTree(points_1).query(points_2[there])
    mutual = back == starts
    return starts[mutual], there[mutual]


def _reciprocal_pixels(
    points_i: NDArray[np.float32],
    confidence_i: NDArray[np.float32],
    points_j: NDArray[np.float32],
    confidence_j: NDArray[np.float32],
) -> tuple[NDArray[np.int64], Array]:
    """Return flat pixel numbers (M, 2) in photos i and j, and confidences (M,), in one frame."""
    number_i, number_j = _usable_pixels(points_i), _usable_pixels(points_j)
    flat_i = points_i.reshape(-1, 3)[number_i].astype(np.float64)
    flat_j = points_j.reshape(-1, 3)[number_j].astype(np.float64)
    stride = max(1, len(number_i) // _STARTS)
    near_i, near_j = reciprocal_neighbours(flat_i, flat_j, np.arange(0, len(number_i), stride))
    gap = np.linalg.norm(flat_i[near_i] - flat_j[near_j], axis=1)
    close = gap < _MAX_GAP * flat_i[near_i, 2]
    pixels = np.stack([number_i[near_i[close]], number_j[near_j[close]]], axis=1)
    product = confidence_i.ravel()[pixels[:, 0]] * confidence_j.ravel()[pixels[:, 1]]
    return pixels, np.sqrt(product.astype(np.float64))


def _usable_pixels(points: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the flat numbers of pixels in front of the camera."""
    usable = np.isfinite(points).all(-1) & (points[..., 2] > 0)
    return np.flatnonzero(usable)
