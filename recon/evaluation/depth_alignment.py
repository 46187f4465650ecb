"""What a depth map is free of: the scale, or the scale and shift, that best fits the truth.

Networks that see one photo leave one or two numbers open: a scale (DUSt3R), or the scale and shift
of inverse depth (MiDaS, arXiv 1907.01341, section 5) or of depth (MoGe, arXiv 2410.19115).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from pointmap.camera import Array
from pointmap.metrics import MAD_TO_SIGMA

DepthAlignment = Literal["none", "median", "scale", "scale-shift", "disparity"]
ALIGNMENTS: tuple[DepthAlignment, ...] = get_args(DepthAlignment)
ROBUST: tuple[DepthAlignment, ...] = ("scale", "scale-shift", "disparity")
"""The alignments that have a robust form: those fitted by least squares."""

# Pixels among which all pairs' slopes are taken, 160,000 of them.
_START_POINTS = 400
_TUKEY = 4.685
"""Tukey's constant: 95 % of least squares' efficiency on Gaussian noise."""


@dataclass(frozen=True)
class DepthTransform:
    """``scale`` s and ``shift`` b in the alignment's space: s d + b, or 1 / (s / d + b)."""

    alignment: DepthAlignment
    scale: float
    shift: float = 0.0

    def apply(self, depth: ArrayLike, *, far: float) -> Array:
        """Return the aligned depth; what a shift pushes behind the camera is put at an end.

        A disparity that is not above 0 means "beyond everything" and becomes ``far``, as MiDaS caps
        it; a depth that is not above 0 becomes a thousandth of ``far``.
        """
        depth = np.asarray(depth, np.float64)
        if self.alignment == "disparity":
            return 1 / np.maximum(self.scale / depth + self.shift, 1 / far)
        return np.maximum(self.scale * depth + self.shift, 1e-3 * far)


def fit_depth(
    predicted: ArrayLike, truth: ArrayLike, alignment: DepthAlignment, *, robust: bool = False
) -> DepthTransform | None:
    """Return what makes depths ``predicted`` (N,) fit ``truth`` (N,), all above 0; None for N = 0.

    With p the prediction and t the truth:

    - "none": nothing;
    - "median": s = median(t) / median(p) (Zhou et al., arXiv 1704.07813);
    - "scale": min sum (s p - t)^2, s = sum(p t) / sum(p p);
    - "scale-shift": min sum (s p + b - t)^2, two normal equations (Eigen's and MiDaS' form);
    - "disparity": the same of 1 / p and 1 / t (MiDaS, eq. 4).

    ``robust`` replaces the square by Tukey's biweight, by iterated re-weighting (Holland and
    Welsch 1977) with the scale from the median absolute residual. It starts at the median of t / p,
    or at Siegel's repeated medians of slopes (Biometrika 1982), so that almost half of the pixels
    may be wrong in any way. A prediction of one single depth has no slope: its scale alone is
    fitted.
    """
    p, t = np.asarray(predicted, np.float64).ravel(), np.asarray(truth, np.float64).ravel()
    if p.shape != t.shape:
        raise ValueError(f"{p.size} predicted depths against {t.size} true ones")
    if robust and alignment not in ROBUST:
        raise ValueError(f"alignment {alignment!r} has no robust form; {ROBUST} have one")
    if not p.size:
        return None
    if alignment == "none":
        return DepthTransform("none", 1.0)
    if alignment == "median":
        return DepthTransform("median", float(np.median(t) / np.median(p)))
    if alignment == "disparity":
        p, t = 1 / p, 1 / t
    flat = alignment == "scale" or np.ptp(p) <= 1e-9 * np.abs(p).max()
    scale, shift = _fit(p, t, _scale_only if flat else _line, robust=robust)
    return DepthTransform(alignment, scale, shift)


Fit = Callable[[Array, Array, Array], tuple[float, float]]


def _scale_only(p: Array, t: Array, weight: Array) -> tuple[float, float]:
    return float((weight * p) @ t / ((weight * p) @ p)), 0.0


def _line(p: Array, t: Array, weight: Array) -> tuple[float, float]:
    """Return slope and shift of weighted least squares, centred first to keep the digits."""
    mean_p, mean_t = np.average(p, weights=weight), np.average(t, weights=weight)
    dp = p - mean_p
    spread = float((weight * dp) @ dp)
    slope = float((weight * dp) @ (t - mean_t)) / spread if spread > 0 else 0.0
    return slope, float(mean_t - slope * mean_p)


def _fit(p: Array, t: Array, fit: Fit, *, robust: bool) -> tuple[float, float]:
    if not robust:
        return fit(p, t, np.ones(len(p)))
    scale, shift = _repeated_medians(p, t) if fit is _line else (float(np.median(t / p)), 0.0)
    for _ in range(50):
        residual = t - scale * p - shift
        # The floor lets exact data keep their weight where most residuals are rounding alone.
        width = _TUKEY * MAD_TO_SIGMA * float(np.median(np.abs(residual))) + 1e-12 * np.abs(t).max()
        weight = np.where(np.abs(residual) < width, (1 - (residual / width) ** 2) ** 2, 0)
        before = scale, shift
        scale, shift = fit(p, t, weight)
        if abs(scale - before[0]) <= 1e-12 * abs(scale) and np.isclose(shift, before[1], 1e-12):
            break
    return scale, shift


def _repeated_medians(p: Array, t: Array) -> tuple[float, float]:
    """Return Siegel's line: the median over points of the median slope to all other points."""
    if len(p) > _START_POINTS:
        # Random, not strided: a stride may fall in step with the rows of the map.
        chosen = np.random.default_rng(0).choice(len(p), _START_POINTS, replace=False)
        p, t = p[chosen], t[chosen]
    dp, dt = p[:, None] - p, t[:, None] - t
    slopes = np.where(dp == 0, np.nan, dt / np.where(dp == 0, 1, dp))
    has_slope = ~np.isnan(slopes).all(1)
    if not has_slope.any():
        return 0.0, float(np.median(t))
    slope = float(np.median(np.nanmedian(slopes[has_slope], axis=1)))
    return slope, float(np.median(t - slope * p))
