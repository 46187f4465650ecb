"""Depth known only up to scale and shift: both are recovered, and the focal length with them.

Networks for single photos predict depth, or its inverse, up to an unknown factor and an unknown
offset. The offset bends the scene, as does a wrong focal length (LeReS, arXiv 2012.09365, learns to
undo that from one cloud). Here geometry does it: between two photos a rigid motion keeps all
distances, which holds for one focal length and one offset per photo only. Where scene points are
known already, scale and offset are a robust line fit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pointmap.camera import Array, fit_similarity
from pointmap.metrics import MAD_TO_SIGMA

Kind = Literal["disparity", "depth"]
"""What a map holds, up to scale and shift: 1 / z or z."""
KINDS: tuple[Kind, ...] = ("disparity", "depth")
MapKind = Literal["disparity", "depth", "metres"]
"""What a model's map holds: 1 / z or z up to scale and shift, or z in metres."""

# Six matches give 15 distances for 4 unknowns; of 30 % wrong ones an eighth of the samples is free.
_SAMPLE = 6
# Seven of sixty are then free of wrong matches; each is solved from 27 starts.
_SAMPLES = 60
# Levenberg-Marquardt steps per start: three unknowns need fewer.
_ROUNDS = 15
# Matches of a pair that samples are drawn from and judged on; with fewer than the second there is
# no telling the right samples by the rest.
_MOST_MATCHES = 300
_FEWEST_MATCHES = 12
# Focal lengths over the spread of the matches' positions, and shifts over the median value.
_FOCAL_STARTS = (1.0, 2.5, 6.0)
_SHIFT_STARTS = (-0.4, 0.3, 2.0)
# Standard error of the log focal length from which the matches don't tell.
_UNDETERMINED = 0.25
# No map and no match is better than a thousandth, however well they agree.
_LEAST_NOISE = 1e-3
# Least depth, as a share of the mean one: where a shift would put points behind the camera.
_NEAREST = 1e-3


@dataclass(frozen=True)
class AffineFit:
    """``scale`` > 0 and ``shift``: scale x value + shift is z, or 1 / z for a disparity.

    ``error``: median relative error of the depth it leaves.
    """

    kind: Kind
    scale: float
    shift: float
    error: float

    def depth(self, values: ArrayLike) -> Array:
        """Return z of ``values``, 0 where it would be infinite or behind the camera."""
        linear = self.scale * np.asarray(values, np.float64) + self.shift
        if self.kind == "depth":
            return np.where(linear > 0, linear, 0.0)
        return np.where(linear > 1e-12, 1 / np.maximum(linear, 1e-12), 0.0)


@dataclass(frozen=True)
class ValueMatches:
    """Matches of photos ``i`` and ``j`` with what their maps say there.

    ``xy_i``, ``xy_j`` (M, 2) pixels from the photos' principal points, in one unit for all photos;
    ``value_i``, ``value_j`` (M,) map values.
    """

    i: int
    j: int
    xy_i: Array
    xy_j: Array
    value_i: Array
    value_j: Array


@dataclass(frozen=True)
class ShiftAndFocal:
    """``focal`` in the unit of the matches' positions with ``focal_log_sigma``, the standard error
    of its logarithm; ``shifts`` by photo: z is proportional to value + shift, or to its inverse for
    a disparity; ``error``: median of the matches' misfit, as a share of depth.
    """

    kind: Kind
    focal: float
    focal_log_sigma: float
    shifts: Mapping[int, float]
    error: float


def fit_affine(values: ArrayLike, z: ArrayLike, *, kind: Kind) -> AffineFit | None:
    """Return the scale and shift that take ``values`` (P,) to depths ``z`` (P,) > 0, robustly.

    Errors count relative to depth. Least median of squares over pairs of points, then least squares
    over what agrees with it: exact for exact points among up to 45 % wrong ones. None where fewer
    than three points differ in value, or where depth would fall as it should rise.
    """
    v, z = np.asarray(values, np.float64).ravel(), np.asarray(z, np.float64).ravel()
    known = np.isfinite(v) & np.isfinite(z) & (z > 0)
    v, z = v[known], z[known]
    if len(v) < 3 or np.ptp(v) <= 1e-9 * np.abs(v).max():
        return None
    # Both kinds are a line; weighted like this its residual is the relative error of depth.
    target, weight = (1 / z, z) if kind == "disparity" else (z, 1 / z)
    rng = np.random.default_rng(0)
    a, b = rng.integers(len(v), size=(2, 500))
    a, b = a[v[a] != v[b]], b[v[a] != v[b]]
    slope = (target[a] - target[b]) / (v[a] - v[b])
    lines = np.stack([slope, target[a] - slope * v[a]], 1)[slope > 0]
    if not len(lines):
        return None
    thin = np.linspace(0, len(v) - 1, min(len(v), 400)).astype(int)
    misfit = np.abs((lines[:, :1] * v[thin] + lines[:, 1:] - target[thin]) * weight[thin])
    line = lines[np.median(misfit, axis=1).argmin()]
    for _ in range(5):
        off = np.abs((line[0] * v + line[1] - target) * weight)
        agrees = off <= 2.5 * MAD_TO_SIGMA * np.median(off) + 1e-12
        if agrees.sum() < 3 or np.ptp(v[agrees]) == 0:
            break
        rows = np.stack([v, np.ones_like(v)], 1)[agrees] * weight[agrees, None]
        line = np.linalg.lstsq(rows, (target * weight)[agrees], rcond=None)[0]
    if line[0] <= 0:
        return None
    off = np.abs((line[0] * v + line[1] - target) * weight)
    return AffineFit(kind, float(line[0]), float(line[1]), float(np.median(off)))


def recover_shift_and_focal(matches: Sequence[ValueMatches], *, kind: Kind) -> ShiftAndFocal | None:
    """Return the shifts of all matched maps and the focal length that their photos share.

    Assumes square pixels and no distortion. Each pair by itself first: random samples, the
    distances between whose points must keep their ratios, and the median misfit of all matches
    after the best similarity; then all pairs together over the matches that agree. None where the
    matches do not tell: too few of them, cameras that hardly turn or move, a plane.
    """
    from scipy.optimize import least_squares

    rng = np.random.default_rng(0)
    solved = [(m, s) for m in matches if (s := _solve_pair(m, kind, rng)) is not None]
    if not solved:
        return None
    views = sorted({k for m, _ in solved for k in (m.i, m.j)})
    column = {view: n for n, view in enumerate(views)}
    start = np.zeros(len(views) + 1)
    start[-1] = np.median([np.log(s.focal) for _, s in solved])
    for view in views:
        told = [s.shifts[view] for _, s in solved if view in s.shifts]
        start[column[view]] = np.median(told)
    unit = np.array([*(_level(view, solved) for view in views), 1.0])

    def residuals(unknown: Array) -> Array:
        x = unknown * unit
        parts = [
            _misfit(m, kind, (x[column[m.i]], x[column[m.j]], x[-1]), s.agrees)[s.agrees]
            for m, s in solved
        ]
        return np.concatenate(parts).ravel()

    spread = max(MAD_TO_SIGMA * float(np.median(np.abs(residuals(start / unit)))), 1e-9)
    fit = least_squares(residuals, start / unit, loss="cauchy", f_scale=2 * spread, x_scale="jac")
    left = residuals(fit.x)
    information = fit.jac.T @ fit.jac
    noise = max(MAD_TO_SIGMA * float(np.median(np.abs(left))), _LEAST_NOISE)
    try:
        variance = np.linalg.inv(information)[-1, -1] * noise**2
    except np.linalg.LinAlgError:
        return None
    # Residuals of one map share their errors: a tenth of them say all there is to say.
    sigma = float(np.sqrt(10 * max(variance, 0.0)))
    if not sigma < _UNDETERMINED:
        return None
    found = fit.x * unit
    shifts = {view: float(found[column[view]]) for view in views}
    error = float(np.median(np.linalg.norm(left.reshape(-1, 3), axis=1)))
    return ShiftAndFocal(kind, float(np.exp(found[-1])), sigma, shifts, error)


@dataclass(frozen=True)
class _PairSolution:
    focal: float
    shifts: dict[int, float]
    agrees: NDArray[np.bool_]


def _level(view: int, solved: Sequence[tuple[ValueMatches, _PairSolution]]) -> float:
    """Return the median absolute value of a view's map: the unit of its shift."""
    values = [m.value_i if m.i == view else m.value_j for m, _ in solved if view in (m.i, m.j)]
    return float(np.median(np.abs(np.concatenate(values)))) or 1.0


def _solve_pair(
    matches: ValueMatches, kind: Kind, rng: np.random.Generator
) -> _PairSolution | None:
    count = len(matches.value_i)
    if count < _FEWEST_MATCHES:
        return None
    level = [max(float(np.median(np.abs(v))), 1e-12) for v in (matches.value_i, matches.value_j)]
    spread = float(np.median(np.linalg.norm(np.concatenate([matches.xy_i, matches.xy_j]), axis=1)))
    thin = np.linspace(0, count - 1, min(count, _MOST_MATCHES)).astype(int)
    small = ValueMatches(
        matches.i,
        matches.j,
        matches.xy_i[thin] / spread,
        matches.xy_j[thin] / spread,
        matches.value_i[thin] / level[0],
        matches.value_j[thin] / level[1],
    )
    samples = np.stack([rng.permutation(len(thin))[:_SAMPLE] for _ in range(_SAMPLES)])
    unknown = _solve_samples(small, samples, kind)
    score = np.array(
        [
            np.median(np.linalg.norm(_misfit(small, kind, tuple(u), rows), axis=1))
            for u, rows in zip(unknown, samples, strict=True)
        ]
    )
    if not np.isfinite(score).any():
        return None
    best = unknown[np.nanargmin(score)]
    scaled = (best[0] * level[0], best[1] * level[1], best[2] + np.log(spread))
    agrees: NDArray[np.bool_] = np.zeros(count, bool)
    agrees[thin[samples[np.nanargmin(score)]]] = True
    for _ in range(3):
        off = np.linalg.norm(_misfit(matches, kind, scaled, agrees), axis=1)
        agrees = off <= 3 * MAD_TO_SIGMA * np.median(off) + 1e-9
    shifts = {matches.i: float(scaled[0]), matches.j: float(scaled[1])}
    return _PairSolution(float(np.exp(scaled[2])), shifts, agrees)


def _depth(values: Array, shift: Array | float, kind: Kind) -> Array:
    shifted = np.maximum(values + shift, _NEAREST * np.abs(values).mean())
    return 1 / shifted if kind == "disparity" else shifted


def _solve_samples(m: ValueMatches, samples: NDArray[np.int64], kind: Kind) -> Array:
    """Return shift i, shift j and log focal (S, 3) of samples of matches (S, P).

    Levenberg-Marquardt from a grid of starts, all at once, on the logarithms of squared distances
    between the sample's points: their differences between the photos have to be one constant.
    """
    first, second = np.triu_indices(samples.shape[1], 1)
    starts = np.array(
        [(a, b, np.log(f)) for a in _SHIFT_STARTS for b in _SHIFT_STARTS for f in _FOCAL_STARTS]
    )
    unknown = np.broadcast_to(starts, (len(samples), *starts.shape)).copy()

    def distances(xy: Array, values: Array, shift: Array, log_focal: Array) -> Array:
        z = _depth(values[samples][:, None], shift[..., None], kind)
        slope = xy[samples][:, None] / np.exp(log_focal)[..., None, None]
        points = np.concatenate([slope * z[..., None], z[..., None]], -1)
        apart = points[..., first, :] - points[..., second, :]
        return np.log((apart**2).sum(-1) + 1e-12)

    def residuals(x: Array) -> Array:
        ratio = distances(m.xy_i, m.value_i, x[..., 0], x[..., 2]) - distances(
            m.xy_j, m.value_j, x[..., 1], x[..., 2]
        )
        return ratio - ratio.mean(-1, keepdims=True)

    damping = np.full(unknown.shape[:2], 1e-2)
    left = residuals(unknown)
    for _ in range(_ROUNDS):
        step = 1e-6
        J = np.stack([(residuals(unknown + step * axis) - left) / step for axis in np.eye(3)], -1)
        normal = J.swapaxes(-1, -2) @ J
        normal += (damping[..., None, None] + 1e-9) * np.eye(3)
        move = np.linalg.solve(normal, (J.swapaxes(-1, -2) @ left[..., None]))[..., 0]
        tried = unknown - np.clip(move, -1, 1)
        after = residuals(tried)
        better = (after**2).sum(-1) < (left**2).sum(-1)
        unknown = np.where(better[..., None], tried, unknown)
        left = np.where(better[..., None], after, left)
        damping = np.clip(np.where(better, damping / 5, damping * 5), 1e-9, 1e6)
    best = (left**2).sum(-1).argmin(1)
    return unknown[np.arange(len(samples)), best]


def _misfit(
    m: ValueMatches,
    kind: Kind,
    unknown: tuple[float, ...],
    rows: NDArray[np.bool_] | NDArray[np.int64],
) -> Array:
    """Return (M, 3) how far points of j land from those of i: x, y as a share of the photo, log z.

    ``unknown``: shift i, shift j, log focal. The similarity between the cameras is that of the
    matches ``rows``. Pixels and not lengths: these would vanish with a focal length that grows.
    """
    focal = np.exp(unknown[2])
    clouds = []
    for xy, values, shift in ((m.xy_i, m.value_i, unknown[0]), (m.xy_j, m.value_j, unknown[1])):
        z = _depth(values, shift, kind)
        clouds.append(np.concatenate([xy / focal * z[:, None], z[:, None]], 1))
    scale, R, t = fit_similarity(clouds[1][rows], clouds[0][rows])
    moved = scale * clouds[1] @ R.T + t
    z = np.maximum(moved[:, 2], _NEAREST * clouds[0][:, 2])
    spread = np.median(np.linalg.norm(m.xy_i, axis=1))
    off = (focal * moved[:, :2] / z[:, None] - m.xy_i) / spread
    return np.concatenate([off, np.log(z / clouds[0][:, 2])[:, None]], 1)
