"""Cameras of photos one by one, from matches that depth maps lift and what maps have in common.

A pair's pose comes from several guesses of the maps' shifts: with each, a similarity of the lifted
matches, then all of it refined together (:mod:`recon.alignment.joint_maps`). From the surest pair
on the photo with most matches comes next, by the pair that leaves the least contradiction.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pointmap.camera import (
    Array,
    Index,
    fit_similarities,
    invert_rigid,
    rigid,
    rotation_angle_deg,
    transform_points,
)
from recon.alignment.joint_maps import JointMaps, MapState
from recon.two_view.absolute_pose import ransac_pnp

logger = logging.getLogger(__name__)

# Matches that a pair is asked by; more of them than this make no pair surer.
_FEWEST_MATCHES, _MANY_MATCHES = 8, 100
# Shifts of the two maps that are tried, in medians of their values.
_SHIFTS = (-0.25, 0.0, 0.4)
# Samples of matches for a similarity, their size, and the share of matches that it is judged by.
_SAMPLES, _SAMPLE, _QUANTILE = 60, 4, 0.7
# Guesses that are refined a little, and of the best of them many times.
_FIRST_ROUNDS, _BEST, _ROUNDS = 5, 3, 20
# A photo's rounds beside photos that have their place, and those of all of them together after it.
_ADDED_ROUNDS, _TOGETHER = 20, 6
# Maps that fit less of the matches, or contradict other maps in more of what agrees or does, are
# not to be believed.
_FITS, _AGREES = 0.65, 0.7
# Photos from which on focal lengths may change, and the angle by which some must be turned to each
# other: with shifts of the maps unknown, photos in one direction have any focal length.
_FOCAL_PHOTOS, _FOCAL_DEG = 4, 25.0
# How far, in radians, a key point may be from where another photo's map has it: maps err.
_PNP_REACH = 0.02


@dataclass(frozen=True)
class Grown:
    """The cameras that maps tell: ``joint`` with the maps that are believed, the ``state``, and the
    photos that have their place, in the order in which they came, the ``placed`` ones.
    """

    joint: JointMaps
    state: MapState
    placed: tuple[int, ...]

    @property
    def trusted(self) -> tuple[int, ...]:
        """Those of the placed photos whose maps are believed."""
        return tuple(k for k in self.placed if self.joint.views[k].trusted)


def grow_from_maps(joint: JointMaps) -> Grown | None:
    """Return the cameras of all photos that matches and maps connect; None without a pair to start
    from. Photos whose maps contradict the others are placed by the others' maps alone.
    """
    pairs = {
        pair: found
        for pair, matches in joint.matches.items()
        if len(matches) >= _FEWEST_MATCHES and (found := _pair(joint, pair)) is not None
    }
    if not pairs:
        return None

    def worth(pair: tuple[int, int]) -> float:
        told = joint.agreement(pairs[pair], pair[0], [pair[1]])
        sure = (told.agree - 2 * told.contradict) * told.fits
        return sure * min(len(joint.matches[pair]), _MANY_MATCHES)

    first = max(pairs, key=worth)
    grown = Grown(joint, pairs[first], first)
    while waiting := _waiting(grown, pairs):
        grown_by = (_with_photo(grown, pairs, k) for k in waiting)
        # One that contradicts the others may agree once more of them, and the focal lengths, stand.
        grown = next((one for one in grown_by if one), None) or _without_map(grown, waiting[0])
    return _settled(grown)


def _pair(joint: JointMaps, pair: tuple[int, int]) -> MapState | None:
    """Return the best state of two photos by themselves, the first at the origin."""
    tried = []
    for start in _starts(joint, pair):
        tried.append(joint.solve(start, pair, rounds=_FIRST_ROUNDS))
    tried.sort(key=lambda one: one[1])
    found = [joint.solve(state, pair, rounds=_ROUNDS) for state, _ in tried[:_BEST]]
    return min(found, key=lambda one: one[1])[0] if found else None


def _starts(joint: JointMaps, pair: tuple[int, int]) -> list[MapState]:
    i, j = pair
    matches = joint.matches[pair]
    use = (matches.value_i != 0) & (matches.value_j != 0)
    if use.sum() < _FEWEST_MATCHES:
        return []
    none = MapState(
        np.tile(np.eye(4), (len(joint.views), 1, 1)),
        np.zeros((len(joint.views), 2)),
        joint.log_focal,
    )
    rng = np.random.default_rng(pair)
    samples = np.array(
        [rng.choice(int(use.sum()), _SAMPLE, replace=False) for _ in range(_SAMPLES)]
    )
    shifts_i, shifts_j = ((0.0,) if joint.views[k].in_metres else _SHIFTS for k in pair)
    found = []
    for shift_i, shift_j in itertools.product(shifts_i, shifts_j):
        lines = np.array([[0.0, shift_i], [0.0, shift_j]])
        clouds = [
            lifted(joint, joint.log_focal, k, xy[use], values[use], line)
            for k, xy, values, line in zip(
                pair, (matches.xy_i, matches.xy_j), (matches.value_i, matches.value_j), lines,
                strict=True,
            )
        ]  # fmt: skip
        best = _best_similarity(clouds[1], clouds[0], samples)
        if best is None:
            continue
        scale, turn, shift = best
        sign = joint.views[j].map_.sign
        start = none.placed(i, np.eye(4), lines[0])
        found.append(start.placed(j, rigid(turn, shift), lines[1] + [sign * np.log(scale), 0]))
    return found


def lifted(
    joint: JointMaps, log_focal: Array, k: int, xy: Array, values: Array, line: Array
) -> Array:
    """Return the points (P, 3) in the frame of photo k at pixels (P, 2) of its map; NaN behind."""
    view = joint.views[k]
    focal = float(np.exp(log_focal[view.focal_index])) * view.scale
    z = np.exp(view.map_.log_depth(values, line))
    return np.column_stack([(xy - view.centre) / focal, np.ones(len(xy))]) * z[:, None]


def _best_similarity(
    source: Array, target: Array, samples: Index
) -> tuple[float, Array, Array] | None:
    """Return the similarity of one of the ``samples`` (S, P) of points that takes most of the
    source (M, 3) near to where the target has it; None where the points lie behind a camera.
    """
    if not (np.isfinite(source).all() and np.isfinite(target).all()):
        return None
    every = np.ones(samples.shape)
    scale, turn, shift = fit_similarities(source[samples], target[samples], every)
    moved = scale[:, None, None] * (source @ turn.transpose(0, 2, 1)) + shift[:, None]
    z = np.maximum(moved[..., 2], 1e-6)
    off = np.linalg.norm(moved[..., :2] / z[..., None] - target[:, :2] / target[:, 2:], axis=-1)
    off += np.abs(np.log(z / target[:, 2]))
    score = np.where(scale > 0, np.quantile(off, _QUANTILE, axis=1), np.inf)
    best = int(np.argmin(score))
    return (float(scale[best]), turn[best], shift[best]) if scale[best] > 0 else None


def _waiting(grown: Grown, pairs: dict[tuple[int, int], MapState]) -> list[int]:
    """Return the photos without a place that match some that have one, best matched first."""
    counts = np.zeros(len(grown.joint.views))
    for i, j in pairs:
        for k, other in ((i, j), (j, i)):
            if other in grown.trusted and k not in grown.placed and grown.joint.views[k].trusted:
                counts[k] += len(grown.joint.matches[i, j])
    order: list[int] = np.argsort(-counts, kind="stable").tolist()
    return [k for k in order if counts[k]]


def _with_photo(grown: Grown, pairs: dict[tuple[int, int], MapState], k: int) -> Grown | None:
    """Return the cameras with photo k among them; None where its map contradicts the others."""
    joint, use = grown.joint, grown.trusted
    tried = []
    for j in use:
        pair = min(j, k), max(j, k)
        if pair in pairs:
            start = _beside(grown, pairs[pair], j, k)
            tried.append(joint.solve(start, [*use, k], only=k, rounds=_ADDED_ROUNDS))
    state = min(tried, key=lambda one: one[1])[0]
    if not believed(joint, state, k, use):
        return None
    use = (*use, k)
    state, _ = joint.solve(state, use, focals=tell_focals(state, use), rounds=_TOGETHER)
    return Grown(joint, state, (*grown.placed, k))


def believed(joint: JointMaps, state: MapState, k: int, others: Sequence[int]) -> bool:
    """Return whether the map of photo k agrees with those of the others."""
    told = joint.agreement(state, k, [j for j in others if j != k])
    compared = told.agree + told.contradict
    logger.debug("photo %d: %s", k, told)
    return told.fits > _FITS and told.agree >= _AGREES * compared


def _beside(grown: Grown, pair: MapState, j: int, k: int) -> MapState:
    """Return the state with photo k where the ``pair`` has it beside photo j."""
    joint, state = grown.joint, grown.state
    here, there = joint.views[j].map_, joint.views[k].map_
    larger = here.log_depth(here.at, state.lines[j]) - here.log_depth(here.at, pair.lines[j])
    log_scale = float(np.nanmedian(larger))
    step = invert_rigid(pair.cam_to_world[j]) @ pair.cam_to_world[k]
    step[:3, 3] *= np.exp(log_scale)
    line = pair.lines[k] + [there.sign * log_scale, 0]
    return state.placed(k, state.cam_to_world[j] @ step, line)


def _without_map(grown: Grown, k: int) -> Grown:
    """Return the cameras with photo k placed by the other photos' maps alone, if they tell."""
    views = list(grown.joint.views)
    views[k] = replace(views[k], trusted=False)
    joint, state, use = replace(grown.joint, views=views), grown.state, grown.trusted
    use = tuple(j for j in use if j != k)
    points, pixels = [np.zeros((0, 3))], [np.zeros((0, 2))]
    for j in use:
        matches = joint.of(j, k)
        if matches is not None:
            known = matches.value_i != 0
            seen = matches.xy_i[known], matches.value_i[known]
            there = lifted(joint, state.log_focal, j, *seen, state.lines[j])
            points.append(transform_points(state.cam_to_world[j], there))
            pixels.append(matches.xy_j[known])
    focal = float(np.exp(state.log_focal[views[k].focal_index])) * views[k].scale
    K = np.array([[focal, 0, views[k].centre[0]], [0, focal, views[k].centre[1]], [0, 0, 1]])
    every, seen_at = np.concatenate(points), np.concatenate(pixels)
    finite = np.isfinite(every).all(axis=1)
    placed = tuple(j for j in grown.placed if j != k)
    world_to_cam = None
    if finite.sum() >= _FEWEST_MATCHES:
        world_to_cam = ransac_pnp(
            every[finite],
            seen_at[finite],
            K,
            _PNP_REACH * focal,
            p3p=True,
            least_inliers=_FEWEST_MATCHES,
        )
    if world_to_cam is None:
        # Put last, with no place: matches alone may give it one later.
        return Grown(joint, state, placed)
    state = state.placed(k, invert_rigid(world_to_cam), state.lines[k])
    state, _ = joint.solve(state, [*use, k], only=k, rounds=_ADDED_ROUNDS)
    return Grown(joint, state, (*placed, k))


def tell_focals(state: MapState, use: Sequence[int]) -> bool:
    """Return whether maps of these photos can tell focal lengths."""
    turns = state.cam_to_world[list(use), :3, :3]
    between = turns[:, None].swapaxes(-1, -2) @ turns[None]
    return len(use) >= _FOCAL_PHOTOS and float(rotation_angle_deg(between).max()) > _FOCAL_DEG


def _together(grown: Grown) -> MapState:
    focals = tell_focals(grown.state, grown.trusted)
    return grown.joint.solve(grown.state, grown.trusted, focals=focals)[0]


def _settled(grown: Grown) -> Grown:
    """Return the cameras solved together, without maps that contradict them then."""
    state = _together(grown)
    grown = replace(grown, state=state)
    for k in grown.trusted:
        if len(grown.trusted) > 2 and not believed(grown.joint, grown.state, k, grown.trusted):
            logger.debug("the depth map of photo %d contradicts the others in the end", k)
            grown = _without_map(grown, k)
            state = _together(grown)
            grown = replace(grown, state=state)
    return grown
