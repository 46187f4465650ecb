"""How right depth maps are, once what they leave open is settled.

``predicted`` and ``truth`` are z-depths of one photo at the same pixels; 0 and non-finite values
are unknown and do not count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike

from pointmap.camera import Array
from recon.evaluation.depth_alignment import DepthAlignment, DepthTransform, fit_depth


@dataclass(frozen=True)
class DepthErrors:
    """Errors of depths p against the truth t over N pixels; logarithms are natural unless said.

    ``abs_rel`` mean |p - t| / t; ``sq_rel`` mean (p - t)^2 / t; ``rmse`` sqrt(mean (p - t)^2);
    ``rmse_log`` sqrt(mean (ln p - ln t)^2); ``delta1`` to ``delta3`` the share of pixels with
    max(p / t, t / p) < 1.25^k (all Eigen et al., arXiv 1406.2283, section 4.3; RMSE and SqRel carry
    the truth's unit); ``log10`` mean |log10 p - log10 t| (Make3D, Saxena et al. 2009); ``silog``
    100 sqrt(mean e^2 - (mean e)^2) of e = ln p - ln t (KITTI's depth benchmark, arXiv 1708.06500,
    from Eigen's scale-invariant error).
    """

    abs_rel: float
    sq_rel: float
    rmse: float
    rmse_log: float
    silog: float
    log10: float
    delta1: float
    delta2: float
    delta3: float


@dataclass(frozen=True)
class DepthScores:
    """Scores of a scene: ``errors`` are means over its photos, None where nothing compares.

    ``coverage`` is the share of truth pixels that have a prediction; ``transforms`` what was
    applied per photo (None where nothing could be compared).
    """

    errors: DepthErrors | None
    coverage: float
    transforms: tuple[DepthTransform | None, ...]

    @property
    def abs_rel(self) -> float | None:
        """The mean relative error, 1 is 100 %."""
        return self.errors.abs_rel if self.errors else None

    @property
    def delta(self) -> float | None:
        """The share of pixels within a factor 1.25 of the truth."""
        return self.errors.delta1 if self.errors else None


def depth_errors(predicted: ArrayLike, truth: ArrayLike) -> DepthErrors:
    """Return the errors of ``predicted`` (N,) against ``truth`` (N,), all above 0, N at least 1."""
    p, t = np.asarray(predicted, np.float64), np.asarray(truth, np.float64)
    log_error = np.log(p) - np.log(t)
    ratio = np.exp(np.abs(log_error))
    deltas = [float(np.mean(ratio < 1.25**k)) for k in (1, 2, 3)]
    return DepthErrors(
        float(np.mean(np.abs(p - t) / t)),
        float(np.mean((p - t) ** 2 / t)),
        float(np.sqrt(np.mean((p - t) ** 2))),
        float(np.sqrt(np.mean(log_error**2))),
        100 * float(np.std(log_error)),
        float(np.mean(np.abs(np.log10(p) - np.log10(t)))),
        *deltas,
    )


def score_depths(
    predicted: Sequence[ArrayLike],
    truth: Sequence[ArrayLike],
    *,
    alignment: DepthAlignment = "median",
    robust: bool = False,
    per_sequence: bool = False,
) -> DepthScores:
    """Score the depth maps of a scene, each ``predicted`` against ``truth`` of the same shape.

    ``per_sequence`` aligns all photos by one transform, which also measures whether they agree;
    otherwise each gets its own. Scores are means over the photos that can be compared, so that each
    counts alike however many pixels it has.
    """
    maps = [
        (np.asarray(p, np.float64), np.asarray(t, np.float64))
        for p, t in zip(predicted, truth, strict=True)
    ]
    known = [known_in_both(p, t) for p, t in maps]
    transforms: list[DepthTransform | None]
    if per_sequence and known:
        every_p, every_t = (np.concatenate(side) for side in zip(*known, strict=True))
        transforms = [fit_depth(every_p, every_t, alignment, robust=robust)] * len(maps)
    else:
        transforms = [fit_depth(p, t, alignment, robust=robust) for p, t in known]
    found = [
        depth_errors(transform.apply(p, far=t.max()), t)
        for (p, t), transform in zip(known, transforms, strict=True)
        if p.size and transform is not None
    ]
    total = sum(int(is_known(t).sum()) for _, t in maps)
    compared = sum(len(p) for p, _ in known)
    return DepthScores(mean_errors(found), compared / total if total else 0.0, tuple(transforms))


def mean_errors(errors: Sequence[DepthErrors]) -> DepthErrors | None:
    """Return the mean of each figure, None of nothing."""
    if not errors:
        return None
    rows = [asdict(error) for error in errors]
    return DepthErrors(**{name: float(np.mean([row[name] for row in rows])) for name in rows[0]})


def is_known(depth: Array) -> np.ndarray:
    """Return where a depth map (h, w) is known: finite and above 0."""
    return np.isfinite(depth) & (depth > 0)


def known_in_both(predicted: ArrayLike, truth: ArrayLike) -> tuple[Array, Array]:
    """Return the values (N,) known in both maps, which must have one shape."""
    p, t = np.asarray(predicted, np.float64), np.asarray(truth, np.float64)
    if p.shape != t.shape:
        raise ValueError(f"depth of shape {p.shape} against truth of shape {t.shape}")
    both = is_known(p) & is_known(t)
    return p[both], t[both]
