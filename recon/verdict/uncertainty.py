"""How far the cameras may be off: their covariance, and what a richer camera would make of them.

Where the camera that was solved for is the true one, the step that a system of cameras proposes
which may do more (:mod:`recon.verdict.camera_system`) is noise. Where it is not, the cameras would
move, and by how much is a measure of how wrong they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pointmap.camera import Array, Index, rotation_exp
from pointmap.images import Photo
from recon.alignment.explained import one_place_length
from recon.alignment.principal_points import CENTRE_SIGMA
from recon.stage_results import Alignment
from recon.verdict.camera_system import LENS, POSE, Freedom, camera_system

# Cameras as they are solved for, and richer ones.
_USUAL = Freedom(0.001, (0.2, CENTRE_SIGMA, CENTRE_SIGMA, 0.01, 0.01))
_RICHER = Freedom(0.1, (0.2, 0.1, 0.1, 0.1, 0.1))
# Where among the lens's five unknowns the principal point is, and how far it may be off by itself.
_CENTRE, _ANYWHERE = np.array([1, 2]), 1.0
# Pairs of photos at most that are compared.
_PAIRS = 4000


@dataclass(frozen=True)
class Uncertainty:
    """What the observations say of the cameras' errors, in degrees of relative poses.

    ``rotation_deg``, ``direction_deg`` (N,): typical error (median) of a photo's rotation and
    direction relative to the others that follows from the observations' errors alone;
    ``shift_deg`` (N,): how far a richer camera would move it, the larger of both, beyond what these
    errors would; NaN where a photo sees no points. ``left``: the share of squared errors that the
    richer camera leaves. Of the median pair of photos, NaN where none sees points: ``pair_deg``,
    its typical error where errors of one region of a photo are alike, and ``pair_shift_deg``, how
    far a richer camera would move it.
    """

    rotation_deg: Array
    direction_deg: Array
    shift_deg: Array
    left: float
    pair_deg: float
    pair_shift_deg: float

    @staticmethod
    def unknown(count: int) -> Uncertainty:
        """Return that of photos which see no points."""
        nothing = np.full(count, np.nan)
        return Uncertainty(nothing, nothing, nothing, 1.0, np.nan, np.nan)


def uncertainty(
    photos: Sequence[Photo], alignment: Alignment, *, seed: int = 0, own_lenses: bool = False
) -> Uncertainty:
    """Return how far the poses of a scene may be off, by its own observations.

    ``own_lenses``: the richer camera is another one for each photo.
    """
    rng = np.random.default_rng(seed)
    system = camera_system(photos, alignment, rng, own_lenses=own_lenses)
    if system is None:
        return Uncertainty.unknown(len(photos))
    usual, richer = system.prior(_USUAL), system.prior(_RICHER)

    def with_lenses(noise: Array, rng: np.random.Generator) -> Array:
        return noise + np.sqrt(usual)[:, None] * rng.standard_normal(noise.shape)

    draws = system.solve(usual, with_lenses(system.noise, rng))
    regional = system.solve(usual, with_lenses(system.regional, rng.spawn(1)[0]))
    steps = system.solve(richer, np.column_stack([-system.gradient, system.noise]))
    if draws is None or regional is None or steps is None:
        return Uncertainty.unknown(len(photos))
    step, chance = steps[:, 0], steps[:, 1:]
    poses = np.stack([np.asarray(alignment.cam_to_world[k]) for k in system.seen])
    pairs = _some_pairs(len(system.seen), rng)
    apart = np.linalg.norm(poses[pairs[:, 0], :3, 3] - poses[pairs[:, 1], :3, 3], axis=1)
    moves = apart > one_place_length(alignment)

    def moved_deg(step: Array) -> tuple[Array, Array]:
        rotation, direction = _moved_deg(poses, step, pairs)
        # Within one place there is no direction to err in.
        return rotation, np.where(moves, direction, 0.0)

    rotation, direction = zip(*(moved_deg(draw) for draw in draws.T), strict=True)
    moved = np.maximum(*moved_deg(step))
    by_chance = np.mean([np.maximum(*moved_deg(s)) ** 2 for s in chance.T], axis=0)
    shift = np.sqrt(np.maximum(moved**2 - by_chance, 0.0))
    by_photo = np.full((3, len(photos)), np.nan)
    each = (
        np.median(np.stack(rotation), axis=0),
        np.median(np.stack(direction), axis=0),
        shift,
    )
    for values, of_pairs in zip(by_photo, each, strict=True):
        values[system.seen] = _by_photo(of_pairs, pairs, len(system.seen))
    left = max(1 + float((system.free * system.gradient) @ step) / max(system.cost, 1e-12), 0.0)
    # By chance it would move by what the errors cause that it leaves.
    pair_shift = np.sqrt(np.maximum(moved**2 - left * by_chance, 0.0))
    of_median = [float(np.median(np.maximum(*moved_deg(draw)))) for draw in regional.T]
    return Uncertainty(
        by_photo[0],
        by_photo[1],
        by_photo[2],
        left,
        float(np.median(of_median)),
        float(np.median(pair_shift)),
    )


def centre_sigma(photos: Sequence[Photo], alignment: Alignment) -> float:
    """Return how well the observations hold principal points: the standard deviation of the least
    certain one, in shares of the photo's long side, all else of the cameras being free.

    Photos that all turn about one axis, as on a turntable, hardly tell a principal point along it
    from another tilt of the cameras and focal length.
    """
    system = camera_system(photos, alignment, np.random.default_rng(0))
    if system is None:
        return np.inf
    focal, _, _, k1, k2 = _RICHER.lens
    prior = system.prior(Freedom(_RICHER.own, (focal, _ANYWHERE, _ANYWHERE, k1, k2)))
    first = len(prior) - LENS * system.lenses
    columns = (first + LENS * np.arange(system.lenses)[:, None] + _CENTRE).ravel()
    asked = np.zeros((len(prior), len(columns)))
    asked[columns, np.arange(len(columns))] = 1.0
    covariance = system.solve(prior, asked)
    if covariance is None:
        return np.inf
    return float(np.sqrt(covariance[columns, np.arange(len(columns))].max()))


def _some_pairs(count: int, rng: np.random.Generator) -> Index:
    first, second = np.triu_indices(count, 1)
    if len(first) > _PAIRS:
        chosen = np.sort(rng.choice(len(first), _PAIRS, replace=False))
        first, second = first[chosen], second[chosen]
    return np.stack([first, second], axis=1)


def _by_photo(of_pairs: Array, pairs: Index, count: int) -> Array:
    """Return each photo's median over the pairs it is in."""
    result = np.full(count, np.nan)
    for k in range(count):
        mine = (pairs == k).any(axis=1)
        if mine.any():
            result[k] = np.median(of_pairs[mine])
    return result


def _moved_deg(poses: Array, step: Array, pairs: Index) -> tuple[Array, Array]:
    """Return by how many degrees a step changes rotation and direction of pairs of cameras."""
    step = step[: POSE * len(poses)].reshape(-1, POSE)
    turned = rotation_exp(np.clip(step[:, :3], -1.0, 1.0))
    world_from = poses[:, :3, :3]
    moved_from = world_from @ turned.transpose(0, 2, 1)
    centre, moved = poses[:, :3, 3], poses[:, :3, 3] + step[:, 3:]
    i, j = pairs.T
    before = world_from[i].transpose(0, 2, 1) @ world_from[j]
    after = moved_from[i].transpose(0, 2, 1) @ moved_from[j]
    trace = np.einsum("kab,kab->k", before, after)
    rotation = np.degrees(np.arccos(np.clip((trace - 1) / 2, -1, 1)))
    t = np.einsum("kba,kb->ka", world_from[i], centre[j] - centre[i])
    t_moved = np.einsum("kba,kb->ka", moved_from[i], moved[j] - moved[i])
    across = np.linalg.norm(np.cross(t, t_moved), axis=1)
    direction = np.degrees(np.arctan2(across, (t * t_moved).sum(axis=1)))
    return rotation, direction
