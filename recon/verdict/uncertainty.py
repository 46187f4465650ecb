"""How far the cameras may be off: their covariance, and what a richer camera would make of them.

The observations of a solved scene are linearised once more (Gauss-Newton; Triggs et al. 2000,
"Bundle adjustment: a modern synthesis", sections 4 and 9), now with cameras that may do more: each
photo has a focal length of its own, each lens a principal point off the photo's centre and two
coefficients of radial distortion. Where the camera that was solved for is the true one, the step
that this system proposes is noise. Where it is not, the cameras would move, and by how much is a
measure of how wrong they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from pointmap.camera import Array, Index, Mask, rotation_exp
from pointmap.images import Photo
from recon.alignment.positive_system import solve_positive
from recon.stage_results import Alignment
from recon.verdict.explained import unit_px

# Observations of each photo that take part, about. More of them share their errors, and time
# grows with them.
_PER_PHOTO = 150
# How accurate an observation is at 640 px, and where the loss (Cauchy) leaves the square.
_SIGMA_PX, _LOSS_SCALE = 0.5, 2.0
# How free a camera is (standard deviations): each photo's focal length (logarithm); the principal
# point, in shares of the photo's long side; the two radial coefficients.
_FOCAL_SIGMA, _PRINCIPAL_SIGMA, _RADIAL_SIGMA = 0.1, 0.1, 0.1
_POSE = 6
# Draws from the cameras' distribution, and pairs of photos at most that are compared.
_DRAWS, _PAIRS = 16, 4000


@dataclass(frozen=True)
class Uncertainty:
    """What the observations say of the cameras' errors, in degrees of relative poses.

    ``rotation_deg``, ``direction_deg`` (N,): typical error (median) of a photo's rotation and
    direction relative to the others that follows from the observations' errors alone;
    ``shift_deg`` (N,): how far a richer camera would move it, the larger of both; NaN where a
    photo sees no points. ``left``: the share of squared errors that the richer camera leaves.
    """

    rotation_deg: Array
    direction_deg: Array
    shift_deg: Array
    left: float

    @staticmethod
    def unknown(count: int) -> Uncertainty:
        """Return that of photos which see no points."""
        nothing = np.full(count, np.nan)
        return Uncertainty(nothing, nothing, nothing, 1.0)


@dataclass(frozen=True)
class _System:
    """Normal equations of the cameras, points eliminated: ``matrix`` (D, D), ``gradient`` (D,),
    ``noise`` (D, K) gradients of observations that have nothing but their errors, ``cost`` the
    squared errors. ``seen`` (C,): the photos that it is of.
    """

    matrix: sparse.csc_array
    gradient: Array
    noise: Array
    cost: float
    seen: Index


def uncertainty(photos: Sequence[Photo], alignment: Alignment, *, seed: int = 0) -> Uncertainty:
    """Return how far the poses of a scene may be off, by its own observations."""
    rng = np.random.default_rng(seed)
    system = _reduced_system(photos, alignment, rng)
    if system is None:
        return Uncertainty.unknown(len(photos))
    solved = solve_positive(
        system.matrix, np.concatenate([-system.gradient[:, None], system.noise], axis=1)
    )
    if solved is None:
        return Uncertainty.unknown(len(photos))
    step, draws = solved[:, 0], solved[:, 1:].T
    poses = np.stack([np.asarray(alignment.cam_to_world[k]) for k in system.seen])
    pairs = _some_pairs(len(system.seen), rng)
    rotation, direction = zip(*(_moved_deg(poses, draw, pairs) for draw in draws), strict=True)
    shift = np.maximum(*_moved_deg(poses, step, pairs))
    by_photo = np.full((3, len(photos)), np.nan)
    each = (
        np.median(np.stack(rotation), axis=0),
        np.median(np.stack(direction), axis=0),
        shift,
    )
    for values, of_pairs in zip(by_photo, each, strict=True):
        values[system.seen] = _by_photo(of_pairs, pairs, len(system.seen))
    left = 1 + float(system.gradient @ step) / max(system.cost, 1e-12)
    return Uncertainty(by_photo[0], by_photo[1], by_photo[2], max(left, 0.0))


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
    step = step[: _POSE * len(poses)].reshape(-1, _POSE)
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


def _reduced_system(
    photos: Sequence[Photo], alignment: Alignment, rng: np.random.Generator
) -> _System | None:
    tracks = alignment.tracks
    placed = np.array([pose is not None for pose in alignment.cam_to_world], bool)
    rows = _chosen(tracks.point_index, tracks.view_index, len(photos), rng)
    rows = rows[placed[tracks.view_index[rows]]]
    seen, camera = np.unique(tracks.view_index[rows], return_inverse=True)
    if len(seen) < 2:
        return None
    points, point = np.unique(tracks.point_index[rows], return_inverse=True)
    poses = np.stack([np.asarray(alignment.cam_to_world[k]) for k in seen])
    K, k1 = alignment.intrinsics[seen], alignment.k1[seen]
    unit = np.array([unit_px(photos[k]) for k in seen])
    long_side = np.array([max(photos[k].width, photos[k].height) for k in seen], np.float64)
    # Photos of one lens, as far as was solved: those of equal focal length and distortion.
    lens = np.unique(np.stack([K[:, 0, 0] / long_side, k1], axis=1), axis=0, return_inverse=True)[1]
    lens = lens.ravel()
    rotation = poses[:, :3, :3].transpose(0, 2, 1)[camera]
    p = np.einsum("mab,mb->ma", rotation, tracks.points[points][point] - poses[camera, :3, 3])
    in_front = p[:, 2] > 1e-9
    z = np.where(in_front, p[:, 2], 1.0)
    flat = p[:, :2] / z[:, None]
    square = (flat**2).sum(axis=1)
    focal = K[camera, 0, 0]
    bend = 1 + k1[camera] * square
    sigma = _SIGMA_PX * unit[camera]
    pixels = (focal * bend)[:, None] * flat + K[camera, :2, 2]
    residual = (pixels - tracks.xy[rows]) / sigma[:, None]
    weight = 1 / (1 + (residual**2).sum(axis=1) / _LOSS_SCALE**2)
    scale = np.where(in_front, np.sqrt(weight), 0.0) / sigma
    residual = residual * (scale * sigma)[:, None]
    slope = scale * focal
    to_flat = 2 * (k1[camera] * slope)[:, None, None] * flat[:, :, None] * flat[:, None, :]
    to_flat[:, [0, 1], [0, 1]] += (slope * bend)[:, None]
    to_frame = np.empty((len(rows), 2, 3))
    to_frame[:, :, :2] = to_flat / z[:, None, None]
    to_frame[:, :, 2] = -(to_frame[:, :, :2] @ flat[:, :, None])[:, :, 0]
    to_point = to_frame @ rotation
    count, lenses = len(seen), int(lens.max()) + 1
    # Columns: pose (6) and logarithm of the focal length of each photo; of each lens the principal
    # point (2), k1 and k2.
    jacobian = np.empty((len(rows), 2, 11))
    jacobian[:, :, :3] = np.cross(p[:, None], to_frame)
    jacobian[:, :, 3:6] = -to_point
    jacobian[:, :, 6] = (slope * bend)[:, None] * flat
    jacobian[:, :, 7:9] = (scale * long_side[camera])[:, None, None] * np.eye(2)
    jacobian[:, :, 9] = (slope * square)[:, None] * flat
    jacobian[:, :, 10] = (slope * square**2)[:, None] * flat
    columns = np.empty((len(rows), 11), np.int64)
    columns[:, :6] = 6 * camera[:, None] + np.arange(6)
    columns[:, 6] = 6 * count + camera
    columns[:, 7:] = 7 * count + 4 * lens[camera][:, None] + np.arange(4)
    size = 7 * count + 4 * lenses
    J = sparse.csr_array(
        (
            jacobian.reshape(-1),
            np.repeat(columns, 2, axis=0).reshape(len(rows), 2, 11).reshape(-1),
            np.arange(0, 22 * len(rows) + 1, 11),
        ),
        shape=(2 * len(rows), size),
    )
    B = sparse.csr_array(
        (
            to_point.reshape(-1),
            np.repeat(3 * point, 2)[:, None].repeat(3, axis=1).reshape(-1)
            + np.tile(np.arange(3), 2 * len(rows)),
            np.arange(0, 6 * len(rows) + 1, 3),
        ),
        shape=(2 * len(rows), 3 * len(points)),
    )
    r = residual.reshape(-1)
    V = np.zeros((len(points), 3, 3))
    np.add.at(V, point, to_point.transpose(0, 2, 1) @ to_point)
    V += (1e-9 * np.trace(V, axis1=1, axis2=2) + 1e-30)[:, None, None] * np.eye(3)
    inverse = sparse.bsr_array(
        (np.linalg.inv(V), np.arange(len(points)), np.arange(len(points) + 1)),
        shape=2 * (3 * len(points),),
    )
    taken = (J.T @ B) @ inverse
    prior = np.zeros(size)
    prior[6 * count : 7 * count] = _FOCAL_SIGMA**-2
    lens_sigma = [_PRINCIPAL_SIGMA, _PRINCIPAL_SIGMA, _RADIAL_SIGMA, _RADIAL_SIGMA]
    prior[7 * count :] = np.tile(np.array(lens_sigma) ** -2, lenses)
    free = np.ones(size)
    free[: 6 * count] = ~_gauge(poses)
    matrix = J.T @ J - taken @ (B.T @ J) + sparse.diags_array(prior)
    matrix = sparse.diags_array(free) @ matrix @ sparse.diags_array(free)
    matrix = sparse.csc_array(matrix + sparse.diags_array(1 - free))
    errors = np.column_stack([r, rng.standard_normal((len(r), _DRAWS))])
    gradients = J.T @ errors - taken @ (B.T @ errors)
    gradients[:, 1:] += np.sqrt(prior)[:, None] * rng.standard_normal((size, _DRAWS))
    gradients *= free[:, None]
    return _System(matrix, gradients[:, 0], gradients[:, 1:], float(r @ r), seen)


def _gauge(poses: Array) -> Mask:
    """Return which pose parameters (6 C,) are held: the first camera, and one that sets scale."""
    held = np.zeros((len(poses), _POSE), bool)
    held[0] = True
    baseline = poses[:, :3, 3] - poses[0, :3, 3]
    far = int(np.argmax(np.linalg.norm(baseline, axis=1)))
    held[far, 3 + int(np.argmax(np.abs(baseline[far])))] = True
    return held.ravel()


def _chosen(point: Index, view: Index, count: int, rng: np.random.Generator) -> Index:
    """Return the rows of some points' observations: about so many of each photo."""
    order = np.lexsort((rng.permutation(int(point.max(initial=-1)) + 1)[point], view))
    starts = np.searchsorted(view[order], np.arange(count))
    rank = np.empty(len(view), np.int64)
    rank[order] = np.arange(len(view)) - starts[view[order]]
    kept = np.zeros(int(point.max(initial=-1)) + 1, bool)
    kept[point[rank < _PER_PHOTO]] = True
    return np.flatnonzero(kept[point])
