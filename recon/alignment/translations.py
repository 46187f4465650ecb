"""Scale and position synchronisation: from pairwise translation directions to camera centres.

1. every edge's direction is estimated anew with the averaged rotations, which leave two unknowns;
2. edges that share a photo see some key points twice: the ratio of the two depths ties their
   baselines' lengths. Where too few are shared, the photo's predicted depth does;
3. lengths and directions known, the centres follow from a linear problem.

Steps 2 and 3 are iteratively reweighted least squares, first of absolute deviations, then with a
weight that falls to nothing: a wrong edge is outvoted.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import spsolve

from pointmap.camera import Array, Index, Mask
from pointmap.metrics import MAD_TO_SIGMA
from recon.alignment.cameras import Cameras
from recon.alignment.tracks import MatchTable, match_rays
from recon.alignment.triangulation import midpoints
from recon.prediction.photo_graph import incidence_matrix

_MIN_RAY_ANGLE_DEG = 0.5
"""Below this angle between two rays a depth says more about noise than about the scene."""

# Fewer common depths give no median worth having.
_MIN_SHARED = 5
# Samples of two for a direction: with half the matches wrong, a quarter of them is right.
_DIRECTION_TRIALS = 100
# Rounds of weighting after them.
_DIRECTION_ROUNDS = 10
# Steps with L1's weights, for their wide basin, and then with Geman-McClure's at most.
_L1_STEPS = 20
_REDESCENDING_STEPS = 20
# Matches, and pairs of depths, that are looked at together: all of a street of 500 photos at once
# took 0.5 GB.
_AT_ONCE = 2**18


@dataclass(frozen=True)
class EdgeDepths:
    """Depths along z that an edge with a baseline of length 1 gives the photo positions it matches.

    One row per match and side: ``edge`` (D,), ``view`` (D,), ``node`` (D,) int; ``log_depth`` (D,).
    """

    edge: Index
    view: Index
    node: Index
    log_depth: Array


def directions_from_matches(rays_1: Array, rays_2: Array, start: Array) -> Array:
    """Return unit directions (E, 3) from cameras 1 to cameras 2 with both rotations known.

    ``rays`` (E, M, 3) are unit vectors in the world; all planes spanned by a pair of rays hold the
    baseline, so it is the smallest singular vector of their normals, robustly weighted from the
    least median of trials of two. ``start`` (E, 3) decides the sign, and is returned where fewer
    than 3 pairs of rays differ.
    """
    normals = np.cross(rays_1, rays_2)
    sines = np.linalg.norm(normals, axis=2)
    far = sines > np.sin(np.radians(_MIN_RAY_ANGLE_DEG))
    enough = far.sum(axis=1) >= 3
    # Divided by the sine, an error is the angle by which a ray misses the epipolar plane.
    unit = np.where(far[..., None], normals / np.maximum(sines, 1e-12)[..., None], 0.0)
    # Trials take from the rays that differ, which come first in this order.
    order = np.argsort(~far, axis=1, kind="stable")
    counts = np.maximum(far.sum(axis=1), 1)
    picks = np.random.default_rng(0).random((2, _DIRECTION_TRIALS))
    first, second = (
        np.take_along_axis(order, (pick * counts[:, None]).astype(np.int64), axis=1)
        for pick in picks
    )
    trials = np.cross(
        np.take_along_axis(unit, first[..., None], axis=1),
        np.take_along_axis(unit, second[..., None], axis=1),
    )
    length = np.linalg.norm(trials, axis=2, keepdims=True)
    # Two planes that are one give no direction: the start takes its place.
    trials = np.where(length > 1e-6, trials / np.maximum(length, 1e-12), start[:, None])
    trials = np.concatenate([start[:, None], trials], axis=1)
    typical = _medians(np.abs(trials @ unit.transpose(0, 2, 1)), far[:, None])
    best = np.argmin(typical, axis=1)
    direction = np.take_along_axis(trials, best[:, None, None], axis=1)[:, 0]
    normals = np.where(far[..., None], normals, 0.0)
    for _ in range(_DIRECTION_ROUNDS):
        error = (unit @ direction[:, :, None])[..., 0]
        scale = np.maximum(1.5 * _medians(np.abs(error), far), 1e-9)
        weight = 1 / (np.maximum(sines, 1e-12) ** 2 * (1 + (error / scale[:, None]) ** 2) ** 2)
        squares = (normals * weight[..., None]).transpose(0, 2, 1) @ normals
        direction = np.linalg.eigh(squares)[1][:, :, 0]
        direction *= np.where((direction * start).sum(axis=1) >= 0, 1.0, -1.0)[:, None]
    return np.where(enough[:, None], direction, start)


def _medians(values: Array, use: Mask) -> Array:
    """Return the medians over the last axis of the values in ``use``; inf where there are none."""
    ordered = np.sort(np.where(use, values, np.inf), axis=-1)
    count = np.broadcast_to(use, values.shape).sum(axis=-1)
    low, high = np.maximum(count - 1, 0) // 2, np.minimum(count // 2, values.shape[-1] - 1)
    middle = [np.take_along_axis(ordered, k[..., None], axis=-1)[..., 0] for k in (low, high)]
    return 0.5 * (middle[0] + middle[1])


def edge_depths(
    table: MatchTable, cameras: Cameras, edges: Index, directions: Array, use: Mask
) -> EdgeDepths:
    """Return the depths (see :class:`EdgeDepths`) of the inlier matches of the edges ``use`` (E,).

    ``edges`` (E, 2) photos; ``directions`` (E, 3) unit, world. Only the rotations of ``cameras``
    are used. Matches with too little parallax, or behind a camera, give none.
    """
    rows = np.flatnonzero(table.inlier & use[table.edge])
    starts = range(0, max(len(rows), 1), _AT_ONCE)
    parts = [_depths_of(table, cameras, edges, directions, rows[k : k + _AT_ONCE]) for k in starts]
    return EdgeDepths(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _depths_of(
    table: MatchTable, cameras: Cameras, edges: Index, directions: Array, rows: Index
) -> tuple[Index, Index, Index, Array]:
    """Return what :class:`EdgeDepths` holds, of the matches ``rows``."""
    edge = table.edge[rows]
    baseline = directions[edge]
    rays_1, rays_2 = match_rays(table, cameras, rows)
    points, _ = midpoints(np.zeros_like(baseline), rays_1, baseline, rays_2)
    forward = cameras.cam_to_world[edges[edge], :3, 2]
    z_1 = (points * forward[:, 0]).sum(axis=1)
    z_2 = ((points - baseline) * forward[:, 1]).sum(axis=1)
    sine = np.linalg.norm(np.cross(rays_1, rays_2), axis=1)
    good = (z_1 > 1e-6) & (z_2 > 1e-6) & (sine > np.sin(np.radians(_MIN_RAY_ANGLE_DEG)))
    view = edges[edge[good]]
    nodes = np.stack([table.first[rows], table.second[rows]], axis=1)[good]
    depth = np.stack([z_1, z_2], axis=1)[good]
    return np.repeat(edge[good], 2), view.ravel(), nodes.ravel(), np.log(depth).ravel()


def shared_depth_ratios(depths: EdgeDepths) -> tuple[Index, Array, Array]:
    """Return pairs of edges (T, 2), log of length_1 / length_2 (T,) and weights (T,).

    Of two edges that see the same nodes, ``length_1 depth_1 = length_2 depth_2`` at each of them:
    the median over the nodes. The weight is the inverse of the median's spread.
    """
    order = np.lexsort((depths.edge, depths.node))
    node, edge, log_depth = depths.node[order], depths.edge[order], depths.log_depth[order]
    # Where the row so many farther on is of the same node: 1, 2, ...
    same: list[Index] = []
    for gap in range(1, len(node)):
        rows = np.flatnonzero(node[gap:] == node[:-gap])
        if len(rows) == 0:
            break
        same.append(rows)

    def between(low: int, high: int) -> tuple[Index, Array]:
        chosen = [rows[(edge[rows] >= low) & (edge[rows] < high)] for rows in same]
        first = np.concatenate(chosen)
        second = np.concatenate([rows + gap for gap, rows in enumerate(chosen, 1)])
        return np.stack([edge[first], edge[second]], axis=1), log_depth[second] - log_depth[first]

    counts = np.zeros(int(edge.max(initial=-1)) + 1, np.int64)
    for rows in same:
        counts += np.bincount(edge[rows], minlength=len(counts))
    return _medians_by_edge(counts, between)


def predicted_depth_ratios(depths: EdgeDepths, log_predicted: Array) -> tuple[Index, Array, Array]:
    """Return edge and photo (T, 2), log of length_edge / scale_photo (T,) and weights (T,).

    ``log_predicted`` (D,): what the photo's canonical pointmap says at each of ``depths``, up to
    the photo's one scale; NaN where it says nothing.
    """

    def between(low: int, high: int) -> tuple[Index, Array]:
        rows = np.flatnonzero((depths.edge >= low) & (depths.edge < high))
        rows = rows[np.isfinite(log_predicted[rows])]
        pair = np.stack([depths.edge[rows], depths.view[rows]], axis=1)
        return pair, log_predicted[rows] - depths.log_depth[rows]

    return _medians_by_edge(np.bincount(depths.edge[np.isfinite(log_predicted)]), between)


def _medians_by_edge(
    counts: Index, between: Callable[[int, int], tuple[Index, Array]]
) -> tuple[Index, Array, Array]:
    """Return :func:`_grouped_medians` of what ``between`` gives of the edges from one number to
    another: ``counts`` (E,) keys and values of each, of which it is asked for some at a time.
    """
    ends = np.cumsum(counts)
    firsts = np.searchsorted(ends, np.arange(0, ends[-1:].sum(), _AT_ONCE), side="right")
    cuts = np.unique(np.append(firsts, len(counts))).tolist()
    none = np.zeros((0, 2), np.int64), np.zeros(0), np.zeros(0)
    found = [none, *(_grouped_medians(*between(*cut)) for cut in itertools.pairwise(cuts))]
    names, medians, weights = (np.concatenate(column) for column in zip(*found, strict=True))
    return names, medians, weights


def _grouped_medians(keys: Index, values: Array) -> tuple[Index, Array, Array]:
    """Return distinct key pairs with the median of their values and 1 / the median's spread."""
    width = int(keys.max(initial=0)) + 1
    joint = keys[:, 0] * width + keys[:, 1]
    order = np.lexsort((values, joint))
    distinct, group, counts = np.unique(joint[order], return_inverse=True, return_counts=True)
    names, values = np.stack([distinct // width, distinct % width], axis=1), values[order]
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64)
    medians = _sorted_medians(values, starts, counts)
    spread = np.abs(values - medians[group])
    spread = spread[np.lexsort((spread, group))]
    deviation = MAD_TO_SIGMA * _sorted_medians(spread, starts, counts) + 0.01
    kept = counts >= _MIN_SHARED
    return names[kept], medians[kept], (np.sqrt(counts) / deviation)[kept]


def _sorted_medians(values: Array, starts: Index, counts: Index) -> Array:
    if len(values) == 0:
        return np.zeros(0)
    return 0.5 * (values[starts + (counts - 1) // 2] + values[starts + counts // 2])


def synchronise_scales(count: int, pairs: Index, log_ratios: Array, weights: Array) -> Array:
    """Return log scales (N,) with ``scale_a - scale_b`` near ``log_ratios`` for pairs (a, b).

    Least absolute deviations. Scales that no chain of pairs ties to each other are drawn to a
    common value by a weight too small to matter elsewhere.
    """
    if count == 0:
        return np.zeros(0)
    A = -incidence_matrix(count, pairs)
    tie = 1e-6 * (float(weights.mean()) if len(weights) else 1.0)
    return _least_absolute(A, log_ratios[:, None], weights, tie, block=1)[:, 0]


def synchronise_positions(count: int, edges: Index, baselines: Array, weights: Array) -> Array:
    """Return camera centres (N, 3) with ``centre_j - centre_i`` near ``baselines`` (E, 3).

    ``edges`` (E, 2). Least absolute deviations of the vectors' lengths; the gauge puts the mean of
    the centres near the origin. A photo without an edge lies at the origin.
    """
    A = incidence_matrix(count, edges)
    length = np.linalg.norm(baselines, axis=1)
    if not (length > 0).any():
        return np.zeros((count, 3))
    # A baseline is as sure as it is short, though not beyond what a wrong short one could abuse.
    relative = weights / np.maximum(length, np.median(length[length > 0]))
    tie = 1e-9 * float(relative.mean())
    return _least_absolute(A, baselines, relative, tie, block=3)


def _least_absolute(A: sparse.csr_array, b: Array, weights: Array, tie: float, block: int) -> Array:
    """Return x (N, block) with A x near b: sum w |A x - b|_2 + tie |x|^2, then Geman-McClure.

    The second, whose width is three median errors, takes from wrong rows what pull the first leaves
    them.
    """
    columns = A.shape[1]
    if len(b) == 0:
        return np.zeros((columns, block))
    robust = np.ones(len(b))
    x = np.zeros((columns, block))
    scale = max(float(np.median(np.linalg.norm(b, axis=1))), 1e-12)
    for step in range(_L1_STEPS + _REDESCENDING_STEPS):
        weighted = A.T * (weights * robust)
        normal = (weighted @ A + sparse.eye_array(columns) * tie).tocsc()
        moved = np.asarray(spsolve(normal, weighted @ b)).reshape(columns, block)
        change = float(np.abs(moved - x).max())
        x = moved
        error = np.linalg.norm(A @ x - b, axis=1)
        if step < _L1_STEPS:
            # The floor shrinks: smooth at first, sharp in the end.
            robust = 1 / np.maximum(error, scale * max(1e-6, 0.1 * 0.5**step))
        else:
            width = 3 * float(np.median(error)) + 0.02 * scale
            robust = (1 + (error / width) ** 2) ** -2.0
            if change < 1e-9 * scale:
                break
        robust *= len(b) / robust.sum()
    return x


def predicted_log_depths(
    table: MatchTable,
    depths: EdgeDepths,
    predicted: Sequence[NDArray[np.float32]],
    sizes: Array,
) -> Array:
    """Return log z (D,) of the photos' predicted z maps at the nodes of ``depths``; NaN unknown.

    ``predicted``: one z map (h, w) per photo, over the whole photo, or none at all; ``sizes``
    (N, 2) width and height of the original photos.
    """
    result = np.full(len(depths.node), np.nan)
    order = np.argsort(depths.view, kind="stable")
    ends = np.searchsorted(depths.view[order], np.arange(len(predicted) + 1))
    for view, z in enumerate(predicted):
        rows = order[ends[view] : ends[view + 1]]
        if len(rows) == 0:
            continue
        height, width = z.shape
        where = table.node_xy[depths.node[rows]] / sizes[view] * [width, height]
        column, row = np.clip(where.astype(int), 0, [width - 1, height - 1]).T
        sampled = z[row, column].astype(np.float64)
        result[rows] = np.log(np.where(sampled > 0, sampled, np.nan))
    return result
