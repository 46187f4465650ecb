"""Scale and shift of all depth maps of a scene at once: photos that see one place agree about it.

The scene points of a photo without much texture lie close together, and tell its map's scale and
shift there alone: a shift fitted to the map's own error bends the rest of it. Other photos look at
the rest from elsewhere; that their maps make one surface of it tells the shift (as the alignment of
depth maps of several views does, arXiv 2407.14121 among others).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.linalg import spsolve

from pointmap.camera import (
    Array,
    Index,
    Mask,
    invert_rigid,
    pixel_rays,
    project,
    transform_points,
)
from pointmap.lens import Lens
from pointmap.metrics import MAD_TO_SIGMA
from recon.prediction.affine_fit import AffineFit, fit_affine
from recon.prediction.given_maps import PriorMap
from recon.prediction.small_map import ALIKE, POSITIVE, SmallMap, made_small

if TYPE_CHECKING:
    from pointmap.images import Photo

# Photos that each one is compared with.
_NEIGHBOURS = 8
# Typical log error of a map, at first and at least and at most; beyond so many of it a map shows
# another surface than the one it is asked about, or is wrong.
_FIRST, _LEAST, _MOST = 0.04, 0.01, 0.1
_ANOTHER = 4.0
# Of the robust loss (Cauchy), in typical errors.
_LOSS = 2.0
# Points close together share one error of the map; a fit is refused that leaves more than so many.
_WORSE = 3.0
# A photo of which other photos agree on less is begun with anew.
_AGREES = 0.5
# Rounds, and the step of a logarithm below which they end.
_ROUNDS, _SETTLED = 30, 1e-3
# Farthest step of a round.
_STEP = 0.2
# Relative step of depth by which it is seen how what another photo says changes with it.
_NUDGE = 0.01


@dataclass(frozen=True)
class PlacedMap:
    """A photo's ``map_`` with the ``fit`` to begin with; its camera, of the original photo, and the
    scene points in it: ``xy`` (P, 2) original pixels and depths ``z`` (P,).
    """

    map_: PriorMap
    photo: Photo
    fit: AffineFit
    cam_to_world: Array
    intrinsics: Array
    lens: Lens
    xy: Array
    z: Array


def agreeing_fits(placed: Sequence[PlacedMap]) -> list[AffineFit]:
    """Return the scales and shifts with which maps of one kind meet the scene points and each
    other.

    Robust least squares of log depth: at the scene points, weighted so that many close together
    count as one, and at places of each photo that others show, too, where what differs by more than
    maps err is taken for hidden. A photo whose scene points then fit much worse than before, and
    worse than maps err, keeps its ``fit``: the cameras there, or the map, are not to be believed.
    """
    if not placed:
        return []
    views = [_View.of(one) for one in placed]
    lines = np.array([view.start for view in views])
    asked = _neighbours(views, lines)
    before = [view.error(line) for view, line in zip(views, lines, strict=True)]
    lines, sigma = _settled(views, lines, asked)
    anew = [_anew(i, views, lines, asked[i], sigma) for i in range(len(views))]
    if any(line is not None for line in anew):
        fresh = [old if line is None else line for line, old in zip(anew, lines, strict=True)]
        lines, sigma = _settled(views, np.array(fresh), asked)
    found = []
    for one, view, line, least in zip(placed, views, lines, before, strict=True):
        error = view.error(line)
        worse = error > max(_LOSS * least, _WORSE * sigma)
        found.append(one.fit if worse else view.fit(line, error))
    return found


@dataclass(frozen=True)
class _View(SmallMap):
    """A photo's map made small and its camera, K at the map's size; the scene points' values
    ``anchor`` (P,), ``log_z`` (P,) and ``weight`` (P,); the line to ``start`` from.
    """

    cam_to_world: Array
    intrinsics: Array
    lens: Lens
    anchor: Array
    log_z: Array
    weight: Array
    start: Array

    @staticmethod
    def of(one: PlacedMap) -> _View:
        small = made_small(one.map_, one.fit.kind)
        scale = small.size / [one.photo.width, one.photo.height]
        level = small.level
        seen = one.map_.at(one.xy, one.photo) / level
        use = seen != 0
        cells = np.floor(one.xy[use] * scale / (ALIKE * small.size.max())).astype(np.int64)
        _, cell, count = np.unique(cells, axis=0, return_inverse=True, return_counts=True)
        K = one.intrinsics.copy()
        K[:2] *= scale[:, None]
        # In units of the level: a v + b = (a level) (v / level + b / (a level)).
        slope = one.fit.scale * level
        shift = max(one.fit.shift / slope, POSITIVE - float(np.median(np.abs(small.at))))
        return _View(
            small.kind,
            level,
            small.values,
            small.places,
            small.at,
            one.cam_to_world,
            K,
            one.lens,
            seen[use],
            np.log(one.z[use]),
            1 / count[np.ravel(cell)],
            np.array([np.log(slope), shift]),
        )

    @cached_property
    def rays(self) -> Array:
        """Rays (S, 3), z = 1, of the places."""
        return pixel_rays(self.places, self.intrinsics, self.lens)

    def error(self, line: Array) -> float:
        """Return the typical log error at the scene points, each cell of them counting once."""
        off = np.abs(self.log_depth(self.anchor, line) - self.log_z)
        if not len(off):
            return 0.0
        order = np.argsort(off)  # NaN last
        half = np.searchsorted(np.cumsum(self.weight[order]), self.weight.sum() / 2)
        return float(MAD_TO_SIGMA * np.nan_to_num(off[order][half], nan=np.inf))

    def fit(self, line: Array, error: float) -> AffineFit:
        """Return a line for the map's own values."""
        slope = float(np.exp(line[0]))
        return AffineFit(self.kind, slope / self.level, slope * float(line[1]), error)


def _neighbours(views: Sequence[_View], lines: Array) -> list[list[int]]:
    """Return which others each photo is compared with: those that show the most of it."""
    world_to_cam = np.array([invert_rigid(view.cam_to_world) for view in views])
    focal = np.array([view.intrinsics[[0, 1], [0, 1]] for view in views])
    centre = np.array([view.intrinsics[:2, 2] for view in views])
    size = np.array([view.values.shape[::-1] for view in views])
    found = []
    for n, view in enumerate(views):
        few = slice(None, None, 5)
        z = np.exp(view.log_depth(view.at[few], lines[n]))
        world = transform_points(view.cam_to_world, view.rays[few] * z[:, None])
        points = world @ world_to_cam[:, :3, :3].transpose(0, 2, 1) + world_to_cam[:, None, :3, 3]
        with np.errstate(all="ignore"):
            xy = points[..., :2] / points[..., 2:] * focal[:, None] + centre[:, None]
            inside = (points[..., 2] > 0) & ((xy > 0) & (xy < size[:, None])).all(axis=-1)
        count = inside.sum(axis=1)
        count[n] = 0
        best: list[int] = np.argsort(-count, kind="stable")[:_NEIGHBOURS].tolist()
        found.append([j for j in best if count[j]])
    return found


def _settled(
    views: Sequence[_View], lines: Array, asked: Sequence[Sequence[int]]
) -> tuple[Array, float]:
    """Return the lines (V, 2) that agree best, from ``lines`` on, and the maps' typical error."""
    sigma = _FIRST
    for _ in range(_ROUNDS):
        step, sigma = _step(views, lines, asked, sigma)
        lines = lines + step
        if np.abs(step).max(initial=0.0) < _SETTLED:
            break
    return lines, sigma


def _anew(
    i: int, views: Sequence[_View], lines: Array, asked: Sequence[int], sigma: float
) -> Array | None:
    """Return the line of a photo that others contradict in most places, fitted to their points.

    Too far off to be drawn to them. None where it agrees, or its own points contradict the others.
    """
    view = views[i]
    compared = [_compared(view, views[j], lines[i], lines[j], sigma).use for j in asked]
    if not compared or np.any(compared, axis=0).mean() > _AGREES:
        return None
    values, depths = [view.anchor], [np.exp(view.log_z)]
    for j in asked:
        other = views[j]
        points = transform_points(
            invert_rigid(view.cam_to_world) @ other.cam_to_world,
            other.rays * np.exp(other.log_depth(other.at, lines[j]))[:, None],
        )
        points = points[points[:, 2] > 0]
        values.append(view.between_pixels(project(points, view.intrinsics, view.lens))[0])
        depths.append(points[:, 2])
    fit = fit_affine(np.concatenate(values), np.concatenate(depths), kind=view.kind)
    if fit is None:
        return None
    line = np.array([np.log(fit.scale), fit.shift / fit.scale])
    return line if view.error(line) < _WORSE * sigma else None


def _step(
    views: Sequence[_View], lines: Array, asked: Sequence[Sequence[int]], sigma: float
) -> tuple[Array, float]:
    """Return the Gauss-Newton step of all lines (V, 2) and the maps' typical error."""
    system = _System(len(views))
    every = [np.zeros(0)]
    for i, view in enumerate(views):
        off = view.log_depth(view.anchor, lines[i]) - view.log_z
        use = np.isfinite(off)
        weight = view.weight[use] * _trust(off[use], sigma)
        system.add((i,), view.slopes(view.anchor[use], lines[i]), off[use], weight)
        compared = [(j, _compared(view, views[j], lines[i], lines[j], sigma)) for j in asked[i]]
        # What several photos say of a place is compared with one error of this map.
        times = np.sum([one.use for _, one in compared], axis=0)
        for j, one in compared:
            slopes = np.concatenate(
                [
                    one.slope[:, None] * view.slopes(view.at[one.use], lines[i]),
                    views[j].slopes(one.values, lines[j]),
                ],
                axis=1,
            )
            spread = np.sqrt(1 + one.slope**2)
            weight = _trust(one.off / spread, sigma) / spread**2
            # Every pair is compared both ways.
            weight *= view.share / np.maximum(times, 1)[one.use] / 2
            system.add((i, j), slopes, one.off, weight)
            every.append(np.abs(one.off) / spread)
    typical = np.concatenate(every)
    if len(typical):
        sigma = float(np.clip(MAD_TO_SIGMA * np.median(typical), _LEAST, _MOST))
    return np.clip(system.solved(), -_STEP, _STEP), sigma


def _trust(off: Array, sigma: float) -> Array:
    return 1 / (1 + (off / (_LOSS * sigma)) ** 2)


@dataclass(frozen=True)
class _Compared:
    """Which places (S,) of a photo another photo shows, too, as far as can be told; of those the
    other's ``values`` (U,), how much farther it says they are, ``off`` (U,), in logarithms, and the
    ``slope`` (U,) of that with this photo's own log depth.
    """

    use: Mask
    values: Array
    off: Array
    slope: Array


def _compared(view: _View, other: _View, line: Array, others: Array, sigma: float) -> _Compared:
    log_z = view.log_depth(view.at, line)
    values, off = _beyond(view, other, log_z, others)
    _, nudged = _beyond(view, other, log_z + _NUDGE, others)
    slope = (nudged - off) / _NUDGE
    with np.errstate(invalid="ignore"):
        use = np.isfinite(slope) & (np.abs(off) < _ANOTHER * sigma)
    return _Compared(use, values[use], off[use], slope[use])


def _beyond(view: _View, other: _View, log_z: Array, others: Array) -> tuple[Array, Array]:
    """Return what the other photo's map has (S,) where it shows the places, at log depths (S,), and
    the logarithm of its depth there over theirs; NaN where it doesn't show them.
    """
    points = transform_points(
        invert_rigid(other.cam_to_world) @ view.cam_to_world, view.rays * np.exp(log_z)[:, None]
    )
    z = np.where(points[:, 2] > 0, points[:, 2], np.nan)
    with np.errstate(invalid="ignore"):
        values, _ = other.between_pixels(project(points, other.intrinsics, other.lens))
        return values, other.log_depth(values, others) - np.log(z)


class _System:
    """The normal equations of all lines: two unknowns per photo."""

    def __init__(self, count: int) -> None:
        self._gradient = np.zeros((count, 2))
        self._blocks: list[tuple[int, int, Array]] = []

    def add(self, numbers: tuple[int, ...], slopes: Array, off: Array, weight: Array) -> None:
        """Add residuals ``off`` (P,) that change by ``slopes`` (P, 2 V) with V photos' lines."""
        weighted = slopes * weight[:, None]
        normal, gradient = slopes.T @ weighted, weighted.T @ off
        for a, i in enumerate(numbers):
            self._gradient[i] += gradient[2 * a : 2 * a + 2]
            for b, j in enumerate(numbers):
                self._blocks.append((i, j, normal[2 * a : 2 * a + 2, 2 * b : 2 * b + 2]))

    def solved(self) -> Array:
        """Return the step (V, 2); 0 of a photo that nothing is known of."""
        count = len(self._gradient)
        places = np.array([(i, j) for i, j, _ in self._blocks], np.int64)
        rows: Index = np.ravel(2 * places[:, :1] + [0, 0, 1, 1])
        columns: Index = np.ravel(2 * places[:, 1:] + [0, 1, 0, 1])
        entries = np.concatenate([block.ravel() for _, _, block in self._blocks])
        shape = (2 * count, 2 * count)
        normal = coo_array((entries, (rows, columns)), shape=shape).tocsr()
        # Held where nothing tells: the step of a photo by itself would be anything.
        diagonal = 1e-6 * normal.diagonal() + 1e-9
        held = coo_array((diagonal, (np.arange(2 * count),) * 2), shape=shape).tocsr()
        return np.asarray(spsolve(normal + held, -self._gradient.ravel())).reshape(count, 2)
