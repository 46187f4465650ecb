"""Cameras and depth scales of all photos from pairwise similarities, some of which are wrong.

Rotations, then scales, then positions are synchronised one after the other; all of them together
are then refined by Gauss-Newton steps on the pairs' robust errors (a pose graph with scales, as in
Strasdat et al. 2010, "Scale drift-aware large scale monocular SLAM"). Nothing is done per pixel:
the cost is that of a few sparse systems of seven unknowns per photo.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import splu

from pointmap.camera import (
    Array,
    Index,
    Mask,
    cross_matrix,
    rotation_exp,
    rotation_log,
    stacked_poses,
)
from recon.alignment.first_cameras import largest_component
from recon.alignment.known_poses import moved_onto
from recon.alignment.rotations import average_rotations
from recon.alignment.translations import synchronise_positions, synchronise_scales
from recon.two_view.pointmap_similarity import PairSimilarities

if TYPE_CHECKING:
    from recon.two_view.pointmap_pose import PointmapPoses

# Gauss-Newton steps at most; a few are the rule.
_ROUNDS = 20
# Of a photo: rotation, centre, log scale.
_UNKNOWNS = 7
# Errors that any pair is granted: of rotation (radians), baseline and scale (shares).
_LEAST_SIGMA = np.array([1e-5, 1e-5, 1e-5])
# A prediction's unit of length, from photo i's depths and from photo j's: the network sees the
# second photo's depth through the first one's frame, and errs about twice as much.
_UNIT_SHARE = np.array([0.8, 0.2])
# Weight of a pair falls to a quarter where its squared error is this many times the typical one.
_ROBUST_WIDTH = 4.0
# A photo is placed where this share of its trusted pairs agree with where it is.
_LEAST_AGREEING_SHARE = 0.25
# Baselines err by a share of their length, or of this share of the scene's distance if they are
# shorter: photos that only turned have none at all.
_LEAST_BASELINE = 0.05


@dataclass(frozen=True)
class GraphCameras:
    """``cam_to_world`` (N, 4, 4) and ``log_scale`` (N,), log of scene units per unit of the photo's
    prior, of the photos ``placed`` (N,); which pairs agree with them, ``used`` (E,).
    """

    cam_to_world: Array
    log_scale: Array
    placed: Mask
    used: Mask


@dataclass(frozen=True)
class _Errors:
    """Per pair: errors of rotation and baseline (E, 3), the baseline expected (E, 3), in the world,
    its length with a floor (E,), and the error of scale (E,).
    """

    rotation: Array
    baseline: Array
    expected: Array
    length: Array
    scale: Array


def solve_similarity_graph(
    count: int,
    pairs: PairSimilarities,
    weights: Array,
    *,
    claims: Mask,
    max_error_deg: float,
    known_cam_to_world: Array | None = None,
    known: Mask | None = None,
) -> GraphCameras:
    """Return the cameras of ``count`` photos that most ``pairs`` agree on.

    ``weights`` (E,): how much each pair deserves trust, 0 for none. Pairs that miss the result by
    more than ``max_error_deg`` in rotation, or twice that in the baseline, are not used.
    A photo is placed if used pairs connect it to the largest group: a quarter of those that are
    trusted, and two or more unless just one ``claims`` (E,) to know how it relates to another.

    The poses ``known_cam_to_world`` (N, 4, 4) of the photos ``known`` (N,) stay as they are;
    without any, the first placed photo has the identity and its prior's scale.
    """
    used = weights > 0
    if not used.any():
        nothing = np.zeros(count, bool)
        return GraphCameras(np.tile(np.eye(4), (count, 1, 1)), np.zeros(count), nothing, used)
    known = np.zeros(count, bool) if known is None else known
    start = _synchronise(count, pairs, weights, used, known, max_error_deg)
    if (start.placed & known).sum() < min(2, known.sum()):
        # Nothing ties the pairs to the known poses: neither their frame nor their scale.
        return replace(start, placed=known, used=np.zeros_like(used))
    if known_cam_to_world is not None and known.any():
        start = _onto(start, known_cam_to_world, known)
    solved = _refine(start, pairs, weights, known)
    solved = _holding(solved, pairs, weights, claims, known, max_error_deg)
    return solved if known.any() else _anchored(solved)


def _synchronise(
    count: int,
    pairs: PairSimilarities,
    weights: Array,
    used: Mask,
    known: Mask,
    max_error_deg: float,
) -> GraphCameras:
    """Return rough cameras: rotations, then scales, then positions; each robust by itself."""
    used = used.copy()
    relative = pairs.cam2_to_cam1[:, :3, :3]
    for _ in range(2):
        component = largest_component(count, pairs.pairs, weights, used, known)
        used &= component[pairs.pairs].all(axis=1)
        rotations, error_deg = average_rotations(
            count, pairs.pairs[used], relative[used], weights[used]
        )
        used[np.flatnonzero(used)[error_deg > max_error_deg]] = False
    component = largest_component(count, pairs.pairs, weights, used, known)
    used &= component[pairs.pairs].all(axis=1)
    chosen, ratios = pairs.pairs[used], (pairs.log_unit_1 - pairs.log_unit_2)[used]
    log_scale = synchronise_scales(count, chosen, ratios, weights[used])
    cam_to_world = np.tile(np.eye(4), (count, 1, 1))
    cam_to_world[:, :3, :3] = rotations
    rough = GraphCameras(cam_to_world, log_scale, component, used)
    expected = _errors(rough, pairs).expected[used]
    cam_to_world[:, :3, 3] = synchronise_positions(count, chosen, expected, np.sqrt(weights[used]))
    return rough


def _errors(cameras: GraphCameras, pairs: PairSimilarities) -> _Errors:
    i, j = pairs.pairs.T
    rotations, centres = cameras.cam_to_world[:, :3, :3], cameras.cam_to_world[:, :3, 3]
    relative = pairs.cam2_to_cam1
    unit_1 = cameras.log_scale[i] - pairs.log_unit_1
    unit_2 = cameras.log_scale[j] - pairs.log_unit_2
    unit = np.exp(np.stack([unit_1, unit_2], 1) @ _UNIT_SHARE)
    expected = unit[:, None] * (rotations[i] @ relative[:, :3, 3, None])[..., 0]
    closing = rotations[i] @ relative[:, :3, :3] @ rotations[j].transpose(0, 2, 1)
    length = np.linalg.norm(expected, axis=1)
    return _Errors(
        rotation_log(closing),
        expected - (centres[j] - centres[i]),
        expected,
        np.maximum(length, _LEAST_BASELINE * unit * pairs.distance + 1e-12),
        unit_1 - unit_2,
    )


def _refine(
    cameras: GraphCameras,
    pairs: PairSimilarities,
    weights: Array,
    known: Mask,
) -> GraphCameras:
    """Return cameras of least robust error of all pairs together."""
    base = weights / weights.max()
    for _ in range(_ROUNDS):
        errors = _errors(cameras, pairs)
        sigma, robust = _robust_weights(errors, base, cameras.used)
        step = _gauss_newton_step(cameras, pairs, errors, base * robust, sigma, known)
        cameras = _moved(cameras, step)
        if np.abs(step).max() < 1e-9:
            break
    return cameras


def _sizes(errors: _Errors) -> Array:
    """Return the sizes (E, 3) of each pair's errors: radians, share of the baseline, log scale."""
    return np.stack(
        [
            np.linalg.norm(errors.rotation, axis=1) / np.sqrt(3),
            np.linalg.norm(errors.baseline, axis=1) / errors.length / np.sqrt(3),
            np.abs(errors.scale),
        ],
        axis=1,
    )


def _robust_weights(errors: _Errors, base: Array, used: Mask) -> tuple[Array, Array]:
    """Return typical errors (3,) per component and Geman-McClure weights (E,)."""
    sizes = _sizes(errors)
    trusted = used & (base > 0)
    # Medians of such sizes are 0.9 (norms of three) and 0.7 standard deviations.
    sigma = 1.2 * np.median(sizes[trusted], axis=0) + _LEAST_SIGMA
    miss = ((sizes / sigma) ** 2 * [3, 3, 1]).sum(axis=1) / _UNKNOWNS
    return sigma, 1 / (1 + miss / _ROBUST_WIDTH) ** 2


def _gauss_newton_step(
    cameras: GraphCameras,
    pairs: PairSimilarities,
    errors: _Errors,
    weights: Array,
    sigma: Array,
    known: Mask,
) -> Array:
    """Return the step (N, 7): rotation vector (world, from the left), centre, log scale."""
    count, edges = len(cameras.log_scale), len(weights)
    J = np.zeros((edges, _UNKNOWNS, 2, _UNKNOWNS))
    diagonal = np.arange(3)
    J[:, diagonal, 0, diagonal], J[:, diagonal, 1, diagonal] = 1.0, -1.0
    # expected turns with photo i: w x b = -[b]x w.
    J[:, 3:6, 0, :3] = -cross_matrix(errors.expected)
    J[:, diagonal + 3, 0, diagonal + 3], J[:, diagonal + 3, 1, diagonal + 3] = 1.0, -1.0
    J[:, 3:6, :, 6] = errors.expected[:, :, None] * _UNIT_SHARE
    J[:, 6, 0, 6], J[:, 6, 1, 6] = 1.0, -1.0
    scale = np.empty((edges, _UNKNOWNS))
    scale[:, :3] = 1 / sigma[0]
    scale[:, 3:6] = 1 / (sigma[1] * errors.length[:, None])
    scale[:, 6] = 1 / sigma[2]
    scale *= np.sqrt(weights)[:, None]
    r = np.concatenate([errors.rotation, errors.baseline, errors.scale[:, None]], axis=1) * scale
    columns = _UNKNOWNS * pairs.pairs[:, None, :, None] + np.arange(_UNKNOWNS)
    rows = np.broadcast_to(np.arange(r.size).reshape(edges, _UNKNOWNS, 1, 1), J.shape)
    J *= scale[:, :, None, None]
    columns = np.broadcast_to(columns, J.shape)
    A = sparse.csr_array(
        (J.ravel(), (rows.ravel(), columns.ravel())), shape=(r.size, _UNKNOWNS * count)
    )
    is_free = np.ones((count, _UNKNOWNS), bool)
    is_free[known, :6] = False
    free = is_free.ravel()
    A = A[:, free]
    normal = (A.T @ A).tocsc()
    # The gauge, and photos without a pair, are held by a weight too small to matter.
    tie = 1e-9 * normal.diagonal() + 1e-12 * normal.diagonal().max()
    step = np.zeros(count * _UNKNOWNS)
    step[free] = -splu((normal + sparse.diags_array(tie)).tocsc()).solve(A.T @ r.ravel())
    return step.reshape(count, _UNKNOWNS)


def _moved(cameras: GraphCameras, step: Array) -> GraphCameras:
    cam_to_world = cameras.cam_to_world.copy()
    cam_to_world[:, :3, :3] = rotation_exp(step[:, :3]) @ cam_to_world[:, :3, :3]
    cam_to_world[:, :3, 3] += step[:, 3:6]
    # Known poses have a step of zero; this keeps them equal to the last bit.
    still = ~step[:, :6].any(axis=1)
    cam_to_world[still] = cameras.cam_to_world[still]
    return replace(cameras, cam_to_world=cam_to_world, log_scale=cameras.log_scale + step[:, 6])


def _holding(
    cameras: GraphCameras,
    pairs: PairSimilarities,
    weights: Array,
    claims: Mask,
    known: Mask,
    max_error_deg: float,
) -> GraphCameras:
    """Return the cameras with the pairs that agree, and the photos that enough of them place."""
    sizes = _sizes(_errors(cameras, pairs)) * np.sqrt(3)
    limit = np.radians(max_error_deg)
    used = (weights > 0) & (sizes[:, 0] < limit) & (sizes[:, 1] < 2 * limit)
    count = len(cameras.log_scale)
    placed = known | largest_component(count, pairs.pairs, weights, used, known)
    trusted = _partners(count, pairs.pairs[weights > 0])
    needed = np.minimum(2, _partners(count, pairs.pairs[claims]))
    for _ in range(count):
        used &= placed[pairs.pairs].all(axis=1)
        agreeing = _partners(count, pairs.pairs[used])
        enough = (agreeing >= needed) & (agreeing >= _LEAST_AGREEING_SHARE * trusted)
        if (known | enough | ~placed).all():
            break
        placed &= known | enough
    return replace(cameras, placed=placed, used=used)


def _partners(count: int, pairs: Index) -> Index:
    """Return how many different photos each photo (N,) is paired with."""
    distinct = np.unique(np.sort(pairs, axis=1), axis=0)
    return np.bincount(distinct.ravel(), minlength=count).astype(np.int64)


def _onto(cameras: GraphCameras, target: Array, known: Mask) -> GraphCameras:
    """Return the cameras moved to the known ones, which take exactly the poses given."""
    both = known & cameras.placed
    cam_to_world, log_scale = cameras.cam_to_world, cameras.log_scale
    if both.any():
        cam_to_world, scale = moved_onto(cam_to_world, cam_to_world[both], target[both])
        log_scale = log_scale + np.log(max(scale, 1e-12))
    cam_to_world = np.where(known[:, None, None], target, cam_to_world)
    return replace(cameras, cam_to_world=cam_to_world, log_scale=log_scale)


def _anchored(cameras: GraphCameras) -> GraphCameras:
    """Return the cameras in the frame and scale of the first placed photo."""
    first = int(np.flatnonzero(cameras.placed)[0])
    scale = np.exp(-cameras.log_scale[first])
    anchor = cameras.cam_to_world[first]
    cam_to_world = cameras.cam_to_world.copy()
    cam_to_world[:, :3, :3] = anchor[:3, :3].T @ cam_to_world[:, :3, :3]
    cam_to_world[:, :3, 3] = scale * (cam_to_world[:, :3, 3] - anchor[:3, 3]) @ anchor[:3, :3]
    cam_to_world[first] = np.eye(4)
    log_scale = cameras.log_scale - cameras.log_scale[first]
    return replace(cameras, cam_to_world=cam_to_world, log_scale=log_scale)


def cameras_from_pointmaps(
    count: int,
    poses: PointmapPoses,
    *,
    max_error_deg: float,
    known_cam_to_world: Sequence[Array | None] | None = None,
) -> GraphCameras:
    """Return the cameras of the largest group of ``count`` photos that trusted predictions relate.

    Poses in ``known_cam_to_world`` (4, 4), None where not known, come back bit-equal. Units: those
    of the first placed photo's prior, or of the known poses.
    """
    target, known = stacked_poses(known_cam_to_world or [None] * count)
    return solve_similarity_graph(
        count,
        poses.similarities,
        poses.weights,
        claims=poses.claims,
        max_error_deg=max_error_deg,
        known_cam_to_world=target,
        known=known,
    )
