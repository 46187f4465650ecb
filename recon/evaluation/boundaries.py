"""Whether depth edges are where they should be, with the right sides in front."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pointmap.camera import Array
from recon.evaluation.depth import is_known

THRESHOLDS = tuple(np.linspace(1.05, 1.25, 10))
"""Ratios of neighbouring depths that count as an edge: 5 to 25 %."""


def boundary_f1(predicted: ArrayLike, truth: ArrayLike) -> float | None:
    """Return the boundary F1 in [0, 1] of a depth map (H, W), None when the truth has no edge.

    Depth Pro's (arXiv 2410.02073, section 3.4): pixel q lies behind its neighbour p when
    d(q) / d(p) > r. For every ratio r in 1.05 to 1.25 and each of the four directions, precision is
    the share of predicted such pairs that are true, recall the share of true ones predicted;
    directions are averaged and F1 = 2 P R / (P + R) averaged over r with weights proportional to r.
    No alignment is needed: ratios don't change with the scale. Pairs unknown in either map don't
    count; directions without an edge on one side contribute 0 to its mean, as in the paper's code.
    """
    p, t = np.asarray(predicted, np.float64), np.asarray(truth, np.float64)
    if p.shape != t.shape:
        raise ValueError(f"depth of shape {p.shape} against truth of shape {t.shape}")
    both = is_known(p) & is_known(t)
    p, t = np.where(both, p, np.nan), np.where(both, t, np.nan)
    weights, scores, edges = np.array(THRESHOLDS), [], 0
    for ratio in THRESHOLDS:
        precision, recall = [], []
        for predicted_edge, true_edge in zip(_edges(p, ratio), _edges(t, ratio), strict=True):
            right = int(np.count_nonzero(predicted_edge & true_edge))
            true = int(np.count_nonzero(true_edge))
            precision.append(right / max(int(np.count_nonzero(predicted_edge)), 1))
            recall.append(right / max(true, 1))
            edges += true
        P, R = float(np.mean(precision)), float(np.mean(recall))
        scores.append(2 * P * R / (P + R) if P + R else 0.0)
    return float(weights @ scores / weights.sum()) if edges else None


def _edges(depth: Array, ratio: float) -> list[NDArray[np.bool_]]:
    """Return where a pixel lies behind its neighbour to the left, right, above and below."""
    with np.errstate(invalid="ignore"):  # NaN compares false
        x, y = depth[:, 1:] / depth[:, :-1], depth[1:] / depth[:-1]
        return [x > ratio, 1 / x > ratio, y > ratio, 1 / y > ratio]
