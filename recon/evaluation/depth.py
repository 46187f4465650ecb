"""How right depth maps are, once the free scale is settled.

``predicted`` and ``truth`` are z-depths of one photo at the same pixels; 0 and non-finite values
are unknown and do not count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from pointmap.camera import Array

Alignment = Literal["none", "median", "least-squares"]


@dataclass(frozen=True)
class DepthScores:
    """Scores of one scene or photo.

    ``abs_rel`` (1 is 100 %) and ``delta`` (share in [0, 1]) are means over photos, None where no
    pixel could be compared; ``coverage`` is the share of truth pixels that have a prediction;
    ``scales`` are the factors applied per photo (None where nothing could be compared).
    """

    abs_rel: float | None
    delta: float | None
    coverage: float
    scales: tuple[float | None, ...]


def depth_scale(predicted: ArrayLike, truth: ArrayLike, alignment: Alignment) -> float | None:
    """Return the factor for ``predicted``, or None when no pixel is known in both.

    "median": median(truth) / median(predicted) (Zhou et al., CVPR 2017); "least-squares":
    sum(p t) / sum(p p), the minimiser of sum (s p - t)^2; "none": 1.
    """
    p, t = _known(predicted, truth)
    if not p.size:
        return None
    if alignment == "none":
        return 1.0
    if alignment == "median":
        return float(np.median(t) / np.median(p))
    return float(p @ t / (p @ p))


def score_depths(
    predicted: Sequence[ArrayLike],
    truth: Sequence[ArrayLike],
    *,
    alignment: Alignment = "median",
    one_scale: bool = False,
) -> DepthScores:
    """Score the depth maps of a scene, each ``predicted`` against ``truth`` of the same shape.

    AbsRel = mean |s p - t| / t; delta = share of pixels with max(s p / t, t / (s p)) < 1.25
    (Eigen et al., NIPS 2014; t is the truth). ``one_scale`` finds s over all photos together, which
    also measures whether they agree; otherwise each photo gets its own. Scores are means over the
    photos that can be compared, so that each counts alike however many pixels it has.
    """
    maps = [
        (np.asarray(p, np.float64), np.asarray(t, np.float64))
        for p, t in zip(predicted, truth, strict=True)
    ]
    if one_scale and maps:
        p, t = (np.concatenate([m.ravel() for m in side]) for side in zip(*maps, strict=True))
        scales = [depth_scale(p, t, alignment)] * len(maps)
    else:
        scales = [depth_scale(p, t, alignment) for p, t in maps]
    abs_rel, delta, compared, known = [], [], 0, 0
    for (p_map, t_map), scale in zip(maps, scales, strict=True):
        p, t = _known(p_map, t_map)
        compared += p.size
        known += int(_valid(t_map).sum())
        if p.size and scale is not None:
            abs_rel.append(float(np.mean(np.abs(scale * p - t) / t)))
            ratio = scale * p / t
            delta.append(float(np.mean(np.maximum(ratio, 1 / ratio) < 1.25)))
    return DepthScores(
        float(np.mean(abs_rel)) if abs_rel else None,
        float(np.mean(delta)) if delta else None,
        compared / known if known else 0.0,
        tuple(scales),
    )


def sample_at(depth: ArrayLike, height: int, width: int) -> Array:
    """Return a depth map of the whole photo at the pixel centres of another size, by nearest pixel.

    Nearest and not interpolated: a mean over an edge lies on neither surface.
    """
    depth = np.asarray(depth, np.float64)
    rows = ((np.arange(height) + 0.5) * depth.shape[0] / height).astype(np.int64)
    columns = ((np.arange(width) + 0.5) * depth.shape[1] / width).astype(np.int64)
    return depth[rows[:, None], columns]


def _valid(depth: Array) -> np.ndarray:
    return np.isfinite(depth) & (depth > 0)


def _known(predicted: ArrayLike, truth: ArrayLike) -> tuple[Array, Array]:
    """Return the values known in both, flat."""
    p, t = np.asarray(predicted, np.float64), np.asarray(truth, np.float64)
    if p.shape != t.shape:
        raise ValueError(f"depth of shape {p.shape} against truth of shape {t.shape}")
    both = _valid(p) & _valid(t)
    return p[both], t[both]
