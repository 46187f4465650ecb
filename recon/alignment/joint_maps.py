"""Cameras and depth maps of several photos at once: what is matched meets, and what two photos show
of one place lies at one depth.

The unknowns are poses, focal lengths, and each map's scale and shift. A map lifts a match by
itself, so that photos whose matches lie on one box, or under no parallax, still have one pose; and
all of what two maps show in common tells on which side of a plane a camera stands (monocular depth
in relative pose: Yu et al., arXiv 2501.05446; in structure from motion: Pataki et al., arXiv
2504.20040). Levenberg-Marquardt on robust residuals; lenses are taken for pinholes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from pointmap.camera import Array, Mask, cross_matrix, rotation_exp
from recon.prediction.small_map import POSITIVE, SmallMap

# A photo's unknowns: its pose, and the line that makes depth of its map.
_POSE, _OWN = 6, 8
FITS = 3.0
"""Sigmas within which a match, or a place that two photos show, fits."""
# Of the robust loss (Cauchy), in sigmas; by how many maps of two surfaces differ.
_LOSS, _ANOTHER = 2.0, 4.0
# Photos whose maps say the same of a place count as so many at most.
_WITNESSES = 4
# Far to near depth of a photo, whatever its scale: a factor of four, or of two, or eight.
_RANGE, _RANGE_SIGMA = float(np.log(4.0)), 0.7
# The farthest step of a line and of the logarithm of a focal length.
_LINE_STEP, _FOCAL_STEP = 0.3, 0.1
# Lines of sight that meet a surface at so slant an angle tell little of it.
_SLANT = 5.0
_SETTLED = 1e-4


@dataclass(frozen=True)
class MapView:
    """A photo's map, made small, and its camera: pixels are the map's.

    ``centre`` (2,): the principal point; ``scale``: pixels of the map in one of the photo;
    ``sigma_px``: of a key point; ``focal_index``: which focal length it has; ``trusted``: whether
    its map is asked, else matches alone tell of it; ``in_metres``: whether it has no shift.
    """

    map_: SmallMap
    centre: Array
    scale: float
    sigma_px: float
    focal_index: int
    trusted: bool = True
    in_metres: bool = False

    @cached_property
    def _ends(self) -> Array:
        known = self.map_.values[self.map_.values != 0]
        return np.percentile(known, [5, 95])

    def range_prior(self, shift: float) -> tuple[float, float]:
        """Return how far the photo's farthest depth is from what is usual beside its nearest, in
        sigmas, and how that changes with the map's shift: without it a map of one plane may be as
        flat as it likes.
        """
        near, far = np.maximum(self._ends + shift, POSITIVE)
        off = (np.log(far / near) - _RANGE) / _RANGE_SIGMA
        return float(off), float((1 / far - 1 / near) / _RANGE_SIGMA)


@dataclass(frozen=True)
class LiftedMatches:
    """Matches of two photos: pixels of their maps (M, 2), and the maps' values there (M,), 0 where
    unknown.
    """

    xy_i: Array
    xy_j: Array
    value_i: Array
    value_j: Array

    def __len__(self) -> int:
        return len(self.xy_i)

    def swapped(self) -> LiftedMatches:
        """Return the matches as of (j, i)."""
        return LiftedMatches(self.xy_j, self.xy_i, self.value_j, self.value_i)


@dataclass(frozen=True)
class MapState:
    """``cam_to_world`` (N, 4, 4); ``lines`` (N, 2) of the maps; ``log_focal`` (G,), of original
    pixels.
    """

    cam_to_world: Array
    lines: Array
    log_focal: Array

    def placed(self, k: int, cam_to_world: Array, line: Array) -> MapState:
        """Return the state with another pose and line of photo k."""
        poses, lines = self.cam_to_world.copy(), self.lines.copy()
        poses[k], lines[k] = cam_to_world, line
        return replace(self, cam_to_world=poses, lines=lines)


@dataclass(frozen=True)
class Agreement:
    """Of the places of photos that others show: how many ``agree``, and how many lie in front of
    what another photo sees there, ``contradict``; of the matches the share that ``fits``. Places
    are counted as if errors were independent.
    """

    agree: float
    contradict: float
    fits: float


@dataclass(frozen=True)
class JointMaps:
    """N photos with maps and what relates them: ``matches`` of pairs (i, j), i < j.

    The logarithms of focal lengths are drawn to ``log_focal`` (G,) with ``log_sigma`` (G,), 0 where
    they are known. ``sigma``: typical log error of a map.
    """

    views: Sequence[MapView]
    matches: Mapping[tuple[int, int], LiftedMatches]
    log_focal: Array
    log_sigma: Array
    sigma: float = 0.04

    def of(self, i: int, j: int) -> LiftedMatches | None:
        """Return the matches of two photos in this order, None where there are none."""
        if i < j:
            return self.matches.get((i, j))
        found = self.matches.get((j, i))
        return None if found is None else found.swapped()

    def solve(
        self,
        state: MapState,
        use: Sequence[int],
        *,
        only: int | None = None,
        focals: bool = False,
        rounds: int = 30,
    ) -> tuple[MapState, float]:
        """Return the state nearest to ``state`` in which the photos ``use`` agree best, and its
        cost. Of photo ``only`` alone the camera and the map's line change, by default of all, but
        that the first one's pose stays. ``focals``: whether focal lengths change, too.
        """
        free = self._free(use, only, focals)
        pairs = [(i, j) for n, i in enumerate(use) for j in use[n + 1 :]]
        if only is not None:
            pairs = [pair for pair in pairs if only in pair]
        moved = list(use) if only is None else [only]
        # All of a scene may be larger by one factor: the mean of the maps' is held.
        held = None if only is not None else float(state.lines[moved, 0].sum())
        normal, gradient, cost = self._system(state, pairs, moved, held)
        damping = 1e-3
        for _ in range(rounds):
            gain = 0.0
            while damping < 1e6:
                step = _damped(normal, gradient, free, damping)
                trial = _moved(state, step)
                system = self._system(trial, pairs, moved, held)
                if system[2] < cost:
                    gain = cost - system[2]
                    state, (normal, gradient, cost) = trial, system
                    damping = max(damping / 8, 1e-6)
                    break
                damping *= 8
            if gain <= _SETTLED * abs(cost):
                break
        return state, cost

    def agreement(self, state: MapState, k: int, others: Iterable[int]) -> Agreement:
        """Return how well photo k agrees with ``others``."""
        agree = contradict = 0.0
        fits: list[Mask] = [np.zeros(0, bool)]
        for j in others:
            for a, b in ((k, j), (j, k)):
                off, _ = self._depths(state, a, b)
                share, limit = self.views[a].map_.share, self.sigma
                with np.errstate(invalid="ignore"):
                    agree += share * float((np.abs(off) < FITS * limit).sum())
                    contradict += share * float((off > _ANOTHER * limit).sum())
                matches = self.of(a, b)
                if matches is not None and self.views[a].trusted:
                    known = matches.value_i != 0
                    fits.append(self.match_errors(state, a, b, matches)[0][known] < FITS)
        every = np.concatenate(fits)
        return Agreement(agree, contradict, float(every.mean()) if len(every) else 0.0)

    def match_errors(
        self, state: MapState, i: int, j: int, matches: LiftedMatches
    ) -> tuple[Array, Array]:
        """Return how far matches (M,) lie from where map i has them in photo j, in sigmas, infinite
        where it has them nowhere; and the same along two axes, with its slopes (M, 2, 19).
        """
        shown = self._shown(state, i, j, matches.xy_i, matches.value_i)
        off = shown.pixels - matches.xy_j
        # A point next to a camera's plane is shown anywhere.
        known = np.isfinite(off).all(axis=1) & (np.abs(shown.along) < 1e4).all(axis=1)
        known &= matches.value_i != 0
        off = np.where(known[:, None], off, 0)
        along = np.where(known[:, None], shown.along, 0)
        spread = self.sigma**2 * along[:, :, None] * along[:, None]
        spread += self.views[j].sigma_px ** 2 * np.eye(2)
        whiten = np.linalg.inv(np.linalg.cholesky(spread))
        slopes = np.where(known[:, None, None], shown.slopes, 0)
        joined = whiten @ np.concatenate([slopes, off[:, :, None]], axis=2)
        size = np.linalg.norm(joined[:, :, -1], axis=1)
        return np.where(known, size, np.inf), joined

    def _free(self, use: Sequence[int], only: int | None, focals: bool) -> Mask:
        """Return which unknowns change."""
        own: Mask = np.zeros((len(self.views), _OWN), bool)
        own[list(use) if only is None else only] = True
        if only is None:
            own[use[0], :_POSE] = False
        for k, view in enumerate(self.views):
            own[k, _POSE:] &= view.trusted & np.array([True, not view.in_metres])
        return np.concatenate([own.ravel(), focals & (self.log_sigma > 0)])

    def _system(
        self,
        state: MapState,
        pairs: Sequence[tuple[int, int]],
        moved: Sequence[int],
        held: float | None,
    ) -> tuple[Array, Array, float]:
        """Return the normal equations and the cost."""
        system = _System(len(self.views), len(self.log_focal))
        witnesses = min(len({k for pair in pairs for k in pair}), _WITNESSES)
        for i, j in pairs:
            for a, b in ((i, j), (j, i)):
                focals = self.views[a].focal_index, self.views[b].focal_index
                self._add_depths(system, state, (a, b), focals, witnesses)
                matches = self.of(a, b)
                if matches is not None and self.views[a].trusted:
                    _, joined = self.match_errors(state, a, b, matches)
                    squared = (joined[:, :, -1] ** 2).sum(axis=1)
                    # Every match is asked both ways.
                    weight = np.repeat(1 / (1 + squared / _LOSS**2) / 2, 2)
                    flat = joined.reshape(-1, joined.shape[2])
                    system.add(a, b, focals, flat[:, :-1], flat[:, -1], weight)
                    system.cost += float(_LOSS**2 * np.log1p(squared / _LOSS**2).sum() / 2)
        for k in moved:
            if self.views[k].trusted:
                system.draw_line(k, *self.views[k].range_prior(state.lines[k, 1]))
        told = self.log_sigma > 0
        sigma = np.where(told, self.log_sigma, 1.0)
        system.draw_focals(np.where(told, (state.log_focal - self.log_focal) / sigma, 0), 1 / sigma)
        if held is not None:
            system.hold_scale(moved, float(state.lines[list(moved), 0].sum()) - held)
        return system.normal, system.gradient, system.cost

    def _add_depths(
        self,
        system: _System,
        state: MapState,
        pair: tuple[int, int],
        focals: tuple[int, int],
        witnesses: int,
    ) -> None:
        off, slopes = self._depths(state, *pair)
        with np.errstate(invalid="ignore"):
            use = np.abs(off) < _ANOTHER * self.sigma
        off, slopes = off[use] / self.sigma, slopes[use] / self.sigma
        # Every pair is compared both ways.
        share = self.views[pair[0]].map_.share / 2 / witnesses
        system.add(*pair, focals, slopes, off, share / (1 + (off / _LOSS) ** 2))
        # A place that is compared costs less than one that isn't.
        loss = np.log1p((off / _LOSS) ** 2) - np.log1p((_ANOTHER / _LOSS) ** 2)
        system.cost += float(_LOSS**2 * share * loss.sum())

    def _depths(self, state: MapState, i: int, j: int) -> tuple[Array, Array]:
        """Return how much farther map j is than the places (S,) of map i, in logarithms, as a map's
        own error would be; NaN where it doesn't show them; and the slopes (S, 18).
        """
        one, other = self.views[i], self.views[j]
        count = len(one.map_.places)
        if not (one.trusted and other.trusted):
            return np.full(count, np.nan), np.zeros((count, 2 * _OWN + 2))
        shown = self._shown(state, i, j, one.map_.places, one.map_.at)
        values, gradient = other.map_.between_pixels(shown.pixels)
        line_slopes = other.map_.slopes(values, state.lines[j])
        with np.errstate(invalid="ignore"):
            off = other.map_.log_depth(values, state.lines[j]) - np.log(shown.z)
            gradient = gradient * line_slopes[:, 1:]
            slopes = np.einsum("pa,pab->pb", gradient, shown.slopes) - shown.log_slopes
            slopes[:, 2 * _OWN - 2 : 2 * _OWN] += line_slopes
            slope = np.einsum("pa,pa->p", gradient, shown.along) - shown.log_along
            spread = np.where(np.abs(slope) < _SLANT, np.sqrt(1 + slope**2), np.nan)
        return off / spread, slopes / spread[:, None]

    def _shown(self, state: MapState, i: int, j: int, xy: Array, values: Array) -> _Shown:
        """Return where photo j shows what map i has at its pixels xy (P, 2), of ``values`` (P,)."""
        one, other = self.views[i], self.views[j]
        focal_i, focal_j = (
            float(np.exp(state.log_focal[v.focal_index])) * v.scale for v in (one, other)
        )
        z = np.exp(one.map_.log_depth(values, state.lines[i]))
        points = np.column_stack([(xy - one.centre) / focal_i, np.ones(len(xy))]) * z[:, None]
        turn_j = state.cam_to_world[j][:3, :3].T
        turn = turn_j @ state.cam_to_world[i][:3, :3]
        along = points @ turn.T
        moved = along + turn_j @ (state.cam_to_world[i][:3, 3] - state.cam_to_world[j][:3, 3])
        slopes = np.zeros((len(xy), 3, 2 * _OWN + 2))
        slopes[:, :, :3] = -turn @ cross_matrix(points)
        slopes[:, :, 3:6] = turn_j
        slopes[:, :, 6:8] = along[:, :, None] * one.map_.slopes(values, state.lines[i])[:, None]
        slopes[:, :, 8:11] = cross_matrix(moved)
        slopes[:, :, 11:14] = -turn_j
        slopes[:, :, 16] = -(points * [1, 1, 0]) @ turn.T
        depth = np.where(moved[:, 2] > 1e-6, moved[:, 2], np.nan)
        q = moved[:, :2] / depth[:, None]
        bend = np.zeros((len(xy), 2, 3))
        bend[:, 0, 0] = bend[:, 1, 1] = 1
        bend[:, :, 2] = -q
        bend *= (focal_j / depth)[:, None, None]
        seen = bend @ slopes
        seen[:, :, 17] += focal_j * q
        return _Shown(
            focal_j * q + other.centre,
            depth,
            seen,
            slopes[:, 2] / depth[:, None],
            np.einsum("pab,pb->pa", bend, along),
            along[:, 2] / depth,
        )


@dataclass(frozen=True)
class _Shown:
    """What a photo shows of P points of another's map: ``pixels`` (P, 2) and depths ``z`` (P,), NaN
    behind it; the derivatives of pixels (P, 2, 18) and log z (P, 18) by the unknowns of the two
    photos and by their focal lengths; those by the points' own log depth, ``along`` (P, 2) and
    ``log_along`` (P,).
    """

    pixels: Array
    z: Array
    slopes: Array
    log_slopes: Array
    along: Array
    log_along: Array


class _System:
    """Normal equations of all photos' unknowns and of the focal lengths, and the cost."""

    def __init__(self, photos: int, focals: int) -> None:
        size = _OWN * photos + focals
        self._first_focal = _OWN * photos
        self.normal, self.gradient, self.cost = np.zeros((size, size)), np.zeros(size), 0.0

    def add(
        self, i: int, j: int, focals: tuple[int, int], slopes: Array, off: Array, weight: Array
    ) -> None:
        """Add residuals ``off`` (P,) with ``slopes`` (P, 18)."""
        own = np.arange(_OWN)
        columns = np.concatenate(
            [own + _OWN * i, own + _OWN * j, np.array(focals) + self._first_focal]
        )
        weighted = slopes * weight[:, None]
        # Both focal lengths may be one.
        np.add.at(self.normal, np.ix_(columns, columns), slopes.T @ weighted)
        np.add.at(self.gradient, columns, weighted.T @ off)

    def draw_line(self, k: int, off: float, slope: float) -> None:
        """Add what draws the shift of a photo's map."""
        place = _OWN * k + _POSE + 1
        self.normal[place, place] += slope**2
        self.gradient[place] += slope * off
        self.cost += off**2

    def draw_focals(self, off: Array, slope: Array) -> None:
        """Add what draws focal lengths (G,)."""
        places = np.arange(len(off)) + self._first_focal
        self.normal[places, places] += slope**2
        self.gradient[places] += slope * off
        self.cost += float((off**2).sum())

    def hold_scale(self, moved: Sequence[int], off: float) -> None:
        """Add what holds the sum of the maps' log factors."""
        places = _OWN * np.array(moved) + _POSE
        self.normal[np.ix_(places, places)] += 1
        self.gradient[places] += off
        self.cost += off**2


def _damped(normal: Array, gradient: Array, free: Mask, damping: float) -> Array:
    columns = np.flatnonzero(free)
    part = normal[np.ix_(columns, columns)].copy()
    part[np.diag_indices(len(columns))] += damping * part.diagonal() + 1e-9
    step = np.zeros(len(free))
    step[columns] = -np.linalg.solve(part, gradient[columns])
    return step


def _moved(state: MapState, step: Array) -> MapState:
    count = len(state.lines)
    own = step[: _OWN * count].reshape(count, _OWN)
    poses = state.cam_to_world.copy()
    poses[:, :3, :3] = poses[:, :3, :3] @ rotation_exp(own[:, :3])
    poses[:, :3, 3] += own[:, 3:_POSE]
    return MapState(
        poses,
        state.lines + np.clip(own[:, _POSE:], -_LINE_STEP, _LINE_STEP),
        state.log_focal + np.clip(step[_OWN * count :], -_FOCAL_STEP, _FOCAL_STEP),
    )
