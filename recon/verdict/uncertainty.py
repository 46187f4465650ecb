"""How far the cameras may be off: their covariance, and what a richer camera would make of them.

The observations of a solved scene are linearised once more (Gauss-Newton; Triggs et al. 2000,
"Bundle adjustment: a modern synthesis", sections 4 and 9), now with cameras that may do more: each
photo has a focal length of its own, each lens a principal point off the photo's centre and two
coefficients of radial distortion. Where the camera that was solved for is the true one, the step
that this system proposes is noise. Where it is not, the cameras would move, and by how much is a
measure of how wrong they are.

Errors of observations that lie side by side are alike where the camera was not the true one, and
don't average out then. So each region of a photo has its observations' own errors drawn with one
sign and size (wild cluster bootstrap; Cameron, Gelbach and Miller 2008, "Bootstrap-based
improvements for inference with clustered errors").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from pointmap.camera import Array, Index, Mask, pixel_rays, project, rotation_exp
from pointmap.images import Photo
from pointmap.lens import PINHOLE
from recon.alignment.camera_model import (
    BundleOptions,
    BundleProblem,
    RichLenses,
    State,
    linearise,
)
from recon.alignment.explained import one_place_length, unit_px
from recon.alignment.positive_system import solve_positive
from recon.alignment.principal_points import CENTRE_SIGMA
from recon.stage_results import Alignment

# Observations of each photo that take part, about. More of them share their errors, and time
# grows with them.
_PER_PHOTO = 150
# How accurate an observation is at 640 px, and where the loss (Cauchy) leaves the square.
_SIGMA_PX, _LOSS_SCALE = 0.5, 2.0
# How free a camera is (standard deviations): a photo's own focal length (logarithm); then of its
# lens the focal length (logarithm), the principal point in shares of the photo's long side, and two
# radial coefficients. Cameras as they are solved for, and the richer ones.
_USUAL = 0.001, (0.2, CENTRE_SIGMA, CENTRE_SIGMA, 0.01, 0.01)
_RICHER = 0.1, (0.2, 0.1, 0.1, 0.1, 0.1)
_POSE, _LENS = 6, 5
# Where among the lens's five unknowns the principal point is, and how far it may be off by itself.
_CENTRE, _ANYWHERE = np.array([1, 2]), 1.0
# Errors may be so much smaller or larger than that (variances).
_SPREAD = 0.1, 16.0
# Draws from the cameras' distribution, and pairs of photos at most that are compared.
_DRAWS, _PAIRS = 16, 4000
# Regions of a photo (columns, rows) whose errors are drawn together, in so many draws.
_REGIONS, _REGIONAL_DRAWS = np.array([3, 3]), 48


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


@dataclass(frozen=True)
class _System:
    """Normal equations of the cameras, points eliminated: ``matrix`` (D, D), ``gradient`` (D,),
    ``noise`` (D, K) gradients of observations that have nothing but their errors, ``regional``
    (D, L) those of errors that are alike within a region, ``cost`` the squared errors; ``free``
    (D,) 0 where an unknown is held. ``seen`` (C,): the photos that it is of, of ``lenses`` lenses.
    """

    matrix: sparse.csc_array
    gradient: Array
    noise: Array
    regional: Array
    cost: float
    free: Array
    seen: Index
    lenses: int

    def prior(self, freedom: tuple[float, tuple[float, ...]]) -> Array:
        """Return the weights (D,) that hold cameras which are as free as that."""
        own, lens = freedom
        poses, photos = np.zeros(_POSE * len(self.seen)), np.full(len(self.seen), own)
        sigmas = np.concatenate([photos, np.tile(lens, self.lenses)])
        return np.concatenate([poses, sigmas**-2])

    def solve(self, prior: Array, right: Array) -> Array | None:
        """Return the solution of the system with a prior for each column of ``right`` (D, K)."""
        matrix = self.matrix + sparse.diags_array(np.where(self.free > 0, prior, 1.0))
        return solve_positive(sparse.csc_array(matrix), right * self.free[:, None])


def uncertainty(
    photos: Sequence[Photo], alignment: Alignment, *, seed: int = 0, own_lenses: bool = False
) -> Uncertainty:
    """Return how far the poses of a scene may be off, by its own observations.

    ``own_lenses``: the richer camera is another one for each photo.
    """
    rng = np.random.default_rng(seed)
    system = _reduced_system(photos, alignment, rng, own_lenses=own_lenses)
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
    system = _reduced_system(photos, alignment, np.random.default_rng(0))
    if system is None:
        return np.inf
    own, (focal, _, _, k1, k2) = _RICHER
    prior = system.prior((own, (focal, _ANYWHERE, _ANYWHERE, k1, k2)))
    first = len(prior) - _LENS * system.lenses
    columns = (first + _LENS * np.arange(system.lenses)[:, None] + _CENTRE).ravel()
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
    photos: Sequence[Photo],
    alignment: Alignment,
    rng: np.random.Generator,
    *,
    own_lenses: bool = False,
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
    K, xy = alignment.intrinsics[seen], tracks.xy[rows]
    lenses_of = [alignment.lenses[k] for k in seen]
    for n, given in enumerate(lenses_of):
        if not (given.is_radial or given.is_fisheye):
            # Known to the last coefficient: as a pinhole in its place shows it.
            xy[camera == n] = project(pixel_rays(xy[camera == n], K[n], given), K[n])
            lenses_of[n] = PINHOLE
    k1, k2 = np.array([one.k1_k2 for one in lenses_of]).T
    fisheye = np.array([one.is_fisheye for one in lenses_of])
    unit = np.array([unit_px(photos[k]) for k in seen])
    long_side = np.array([max(photos[k].width, photos[k].height) for k in seen], np.float64)
    # Photos of one lens, as far as was solved: those of equal focal length and distortion.
    told = np.stack([K[:, 0, 0] / long_side, k1, k2, fisheye], axis=1)
    lens = np.unique(told, axis=0, return_inverse=True)[1].ravel()
    if own_lenses:
        lens = np.arange(len(seen))
    count, lenses = len(seen), int(lens.max()) + 1
    none, one = np.zeros(count), np.ones(count)
    problem = BundleProblem(
        cam_to_world=poses,
        principal=K[:, :2, 2],
        focals_px=K[:, 0, 0],
        focal_index=np.arange(count),
        points=tracks.points[points],
        camera_index=camera,
        point_index=point,
        xy=xy,
        sigma_px=_SIGMA_PX * unit[camera],
        fixed_pose=none > 0,
        fixed_focal=none > 0,
        focal_prior_px=K[:, 0, 0],
        focal_log_sigma=np.full(count, np.inf),
        k1=k1,
        k1_sigma=one,
        more=RichLenses(fisheye, k2, one, one),
    )
    linear = linearise(problem, State.first(problem), BundleOptions(loss_scale=_LOSS_SCALE))
    to_point, to_camera = linear.point, linear.camera
    # Columns: pose and logarithm of the focal length of each photo; of each lens the logarithm of
    # the focal length, the principal point, in long sides, k1 and k2.
    width = _POSE + 1 + _LENS
    jacobian = to_camera[:, :, [0, 1, 2, 3, 4, 5, 6, 6, 9, 10, 7, 8]]
    jacobian[:, :, 8:10] *= long_side[camera][:, None, None]
    columns = np.empty((len(rows), width), np.int64)
    columns[:, :6] = 6 * camera[:, None] + np.arange(6)
    columns[:, 6] = 6 * count + camera
    columns[:, 7:] = 7 * count + _LENS * lens[camera][:, None] + np.arange(_LENS)
    size = 7 * count + _LENS * lenses
    J = sparse.csr_array(
        (
            jacobian.reshape(-1),
            np.repeat(columns, 2, axis=0).reshape(-1),
            np.arange(0, 2 * width * len(rows) + 1, width),
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
    r = linear.residual.reshape(-1)
    V = np.zeros((len(points), 3, 3))
    np.add.at(V, point, to_point.transpose(0, 2, 1) @ to_point)
    V += (1e-9 * np.trace(V, axis1=1, axis2=2) + 1e-30)[:, None, None] * np.eye(3)
    inverse = sparse.bsr_array(
        (np.linalg.inv(V), np.arange(len(points)), np.arange(len(points) + 1)),
        shape=2 * (3 * len(points),),
    )
    taken = (J.T @ B) @ inverse
    free = np.ones(size)
    free[: 6 * count] = ~_gauge(poses)
    matrix = J.T @ J - taken @ (B.T @ J)
    matrix = sparse.diags_array(free) @ matrix @ sparse.diags_array(free)
    noise = rng.standard_normal((len(r), _DRAWS))
    # In units of the errors that there are.
    freedom = max(2 * len(rows) - 3 * len(points) - 7 * count, len(rows) / 4)
    noise *= np.clip(float(r @ r) / freedom, *_SPREAD) ** 0.5
    sides = np.array([[photos[k].width, photos[k].height] for k in seen])
    region = _regions(tracks.xy[rows] / sides[camera], camera)
    # One column a region, of its own errors.
    own = sparse.csr_array(
        (r * (len(r) / freedom) ** 0.5, region.repeat(2), np.arange(len(r) + 1)),
        shape=(len(r), int(region.max()) + 1),
    )
    errors = np.column_stack([r, noise])
    gradients = J.T @ errors - taken @ (B.T @ errors)
    drawn = rng.spawn(1)[0].standard_normal((own.shape[1], _REGIONAL_DRAWS))
    regional = (J.T @ own - taken @ (B.T @ own)) @ drawn
    return _System(
        matrix, gradients[:, 0], gradients[:, 1:], regional, float(r @ r), free, seen, lenses
    )


def _regions(share: Array, camera: Index) -> Index:
    """Return the number of the region of its photo that each observation (M,) lies in, from its
    place (M, 2) in shares of the sides.
    """
    column, row = np.clip((share * _REGIONS).astype(np.int64), 0, _REGIONS - 1).T
    return np.asarray((camera * _REGIONS[1] + row) * _REGIONS[0] + column)


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
