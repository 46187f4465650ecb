"""The focal length of one pointmap (Weiszfeld's iterations)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from recon.stage_results import FocalEstimate

DEFAULT_FOCAL = 1.2
"""Focal length over long side that is assumed when nothing is known (COLMAP's default, too). The
0.85 of :data:`pointmap.network.matched.matcher.USUAL_FOCAL` is another thing: part of a checkpoint,
the focal length around which that network searches."""
DEFAULT_LOG_SIGMA = 0.4
"""Standard deviation of the logarithm of that guess: one sigma spans 0.8 to 1.8."""
_ROUNDS = 20


def weiszfeld_focal(
    points: ArrayLike,
    pixels: ArrayLike,
    confidence: ArrayLike | None = None,
    *,
    fallback_px: float,
) -> FocalEstimate:
    """Return the focal length f that minimises sum c |pixel - f (x, y) / z| (DUSt3R, eq. 5).

    ``points`` (..., 3) in the camera frame; ``pixels`` (..., 2) of the same points relative to the
    principal point, in the unit that f is wanted in; ``confidence`` (...) or 1. Solved by Weiszfeld
    iterations (re-weighted least squares) from a weighted median of the votes |pixel| z / |(x, y)|.

    Points with z <= 0, non-finite ones and those of zero confidence are left out. With fewer than
    10 left, or if the result is outside a twentieth to twenty times ``fallback_px``, the fallback
    comes back with ``source`` "default".
    """
    points = np.asarray(points, np.float64).reshape(-1, 3)
    pixels = np.asarray(pixels, np.float64).reshape(-1, 2)
    weight = np.ones(len(points)) if confidence is None else np.ravel(confidence).astype(np.float64)
    fallback = FocalEstimate(fallback_px, DEFAULT_LOG_SIGMA, "default")
    usable = (points[:, 2] > 0) & np.isfinite(points).all(1) & (weight > 0) & np.isfinite(weight)
    slopes = points[usable, :2] / np.maximum(points[usable, 2:], 1e-12)
    pixels, weight = pixels[usable], weight[usable]
    agreement, power = (pixels * slopes).sum(1), (slopes**2).sum(1)
    votes = agreement > 0
    if votes.sum() < 10:
        return fallback
    reach = np.linalg.norm(pixels, axis=1)
    # A pixel's vote is as certain as it is far from the centre.
    focal = weighted_median(
        (reach / np.sqrt(np.maximum(power, 1e-24)))[votes], (weight * reach)[votes]
    )
    for _ in range(_ROUNDS):
        distance = np.linalg.norm(pixels - focal * slopes, axis=1)
        robust = weight / np.maximum(distance, 1e-8)
        # Not products of BLAS, whose last bits depend on the number of threads.
        focal = float((robust * agreement).sum() / (robust * power).sum())
    if not fallback_px / 20 < focal < fallback_px * 20:
        return fallback
    misfit = weighted_median(np.linalg.norm(pixels - focal * slopes, axis=1), weight)
    typical = max(weighted_median(reach, weight), 1e-12)
    return FocalEstimate(
        focal, float(np.clip(misfit / typical, 0.05, DEFAULT_LOG_SIGMA)), "network"
    )


def weighted_median(values: ArrayLike, weights: ArrayLike) -> float:
    """Return the value at which half of the total weight is reached; NaN without any weight."""
    values, weights = np.asarray(values, np.float64), np.asarray(weights, np.float64)
    if not weights.sum() > 0:
        return float("nan")
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(reached, reached[-1] / 2)])
