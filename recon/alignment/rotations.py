"""Rotation averaging: the photos' rotations from pairwise ones, some of which are wrong.

A maximum spanning tree over edges that agree with their cycles gives the start; iteratively
reweighted least squares on the Lie algebra does the rest (Chatterjee & Govindu 2013, "Efficient
and robust large-scale rotation averaging").
"""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph
from scipy.sparse.linalg import spsolve

from pointmap.camera import Array, Index, Mask, rotation_angle_deg, rotation_exp, rotation_log
from recon.alignment.triangulation import ragged_range
from recon.prediction.photo_graph import component_labels, incidence_matrix

# A triangle of edges agrees when its three rotations close to within this angle, which leaves
# room for a focal that is not solved yet.
CYCLE_AGREES_DEG = 8.0
# Residual at which an edge weighs a quarter (Chatterjee and Govindu's value).
_GEMAN_MCCLURE_DEG = 5.0
# Steps of the L1 and of the Geman-McClure iterations at most, and the floor of L1's weights: below
# a tenth of a degree residuals are noise.
_L1_STEPS, _GEMAN_MCCLURE_STEPS, _L1_FLOOR_DEG = 8, 25, 0.1
# Worth, for the starting tree, of an edge in no triangle and of one that no triangle agrees with,
# against 1 where one does: the second is taken only where nothing else connects.
_TREE_TRUST_WITHOUT_CYCLE = 0.3
_TREE_TRUST_AGAINST_CYCLE = 0.02
# By how many triangles that close one of two rotations has to be ahead of the other.
_AHEAD = 0.5


def average_rotations(
    count: int, edges: Index, cam2_to_cam1: Array, weights: Array
) -> tuple[Array, Array]:
    """Return rotations cam_to_world (N, 3, 3) and each edge's residual (E,) in degrees.

    ``edges`` (E, 2) int; ``cam2_to_cam1`` (E, 3, 3), camera 1 being the edge's first photo;
    ``weights`` (E,) positive, such as inlier counts. The first photo of every connected component
    has the identity. A photo without an edge is a component of its own.
    """
    rotations = _tree_rotations(count, edges, cam2_to_cam1, weights)
    if len(edges) == 0:
        return rotations, np.zeros(0)
    base = weights / weights.max()
    # L1 first, for its wide basin; then Geman-McClure, which all but ignores wrong edges.
    rounds = ((_l1_weights, _L1_STEPS), (_geman_mcclure_weights, _GEMAN_MCCLURE_STEPS))
    for robust, steps in rounds:
        for _ in range(steps):
            error = _residuals(rotations, edges, cam2_to_cam1)
            step = _weighted_step(count, edges, error, base * robust(error))
            rotations = rotation_exp(step) @ rotations
            if np.abs(step).max() < 1e-10:
                break
    rotations = _anchor(rotations, edges)
    error = _residuals(rotations, edges, cam2_to_cam1)
    return rotations, np.degrees(np.linalg.norm(error, axis=1))


def cycle_errors_deg(count: int, edges: Index, cam2_to_cam1: Array) -> tuple[Array, Index]:
    """Return each edge's smallest error over its triangles (E,) and its agreeing triangles (E,).

    The error is inf where an edge is part of no triangle. The angle of a triangle is how far its
    three rotations are from closing.
    """
    triangles, signs = _triangles(count, edges)
    best = np.full(len(edges), np.inf)
    agreeing = np.zeros(len(edges), np.int64)
    if len(triangles) == 0:
        return best, agreeing
    closing = _closing_deg(cam2_to_cam1, triangles, signs)
    for leg in range(3):
        np.minimum.at(best, triangles[:, leg], closing)
        np.add.at(agreeing, triangles[:, leg], closing < CYCLE_AGREES_DEG)
    return best, agreeing


def closing_rotations(count: int, edges: Index, first: Array, second: Array) -> Mask:
    """Return which edges (E,) close triangles by their ``second`` rotation, not by the ``first``.

    ``edges`` (E, 2) among ``count`` photos; ``first`` and ``second`` (E, 3, 3) are cam2_to_cam1,
    camera 1 being the edge's first photo, and equal where an edge has one rotation only.

    What both photos see of a plane leaves two poses, often dozens of degrees apart, one of which is
    right (Faugeras & Lustman 1988). Of a triangle with one such edge the other two tell which; what
    is told so helps to tell of others.
    """
    taken = np.zeros(len(edges), bool)
    triangles, signs = _triangles(count, edges)
    is_open = np.abs(first - second).max(axis=(1, 2), initial=0) > 0

    def worth(some: Mask, seconds: Mask) -> Array:
        rotations = np.where(seconds[:, None, None], second, first)
        closing = _closing_deg(rotations, triangles[some], signs[some])
        return _geman_mcclure_weights(np.radians(closing)[:, None])

    while is_open.any():
        telling = is_open[triangles].sum(axis=1) == 1
        asked = triangles[telling][is_open[triangles[telling]]]
        gain = worth(telling, taken | is_open) - worth(telling, taken)
        ahead = np.bincount(asked, gain, minlength=len(edges))
        clear = np.abs(ahead) > _AHEAD
        if not clear.any():
            break
        taken |= ahead > _AHEAD
        is_open &= ~clear
    return taken


def _closing_deg(cam2_to_cam1: Array, triangles: Index, signs: Index) -> Array:
    """Return how far the rotations (E, 3, 3) of triangles (T, 3) are from closing, in degrees."""
    legs = cam2_to_cam1[triangles]
    legs = np.where(signs[:, :, None, None] > 0, legs, legs.transpose(0, 1, 3, 2))
    return np.asarray(rotation_angle_deg(legs[:, 0] @ legs[:, 1] @ legs[:, 2]))


def _triangles(count: int, edges: Index) -> tuple[Index, Index]:
    """Return triangles (T, 3) as edge numbers a->b, b->c, c->a and their signs.

    Of several edges between the same two photos the last one stands for the pair.
    """
    names, last = np.unique(np.sort(edges, axis=1)[::-1], axis=0, return_index=True)
    last = len(edges) - 1 - last
    a, b = names.T
    # The partners of each photo with a greater number, in order.
    ends = np.searchsorted(a, np.arange(count + 1))
    # Of every pair (a, b): each c beyond b that a has, kept where b has it too.
    row = np.repeat(np.arange(len(names)), ends[a + 1] - np.arange(len(names)) - 1)
    leg = ragged_range(np.arange(len(names)) + 1, ends[a + 1] - np.arange(len(names)) - 1)
    key = a * count + b
    wanted = b[row] * count + b[leg]
    found = np.minimum(np.searchsorted(key, wanted), max(len(key) - 1, 0))
    closed = key[found] == wanted if len(key) else np.zeros(0, bool)
    pairs = np.stack([row[closed], found[closed], leg[closed]], axis=1)
    triangles = last[pairs]
    # a->b and b->c go up in number, c->a goes down.
    up = edges[triangles, 0] < edges[triangles, 1]
    return triangles, np.where(up == np.array([True, True, False]), 1, -1)


def tree_weights(count: int, edges: Index, cam2_to_cam1: Array, weights: Array) -> Array:
    """Return how much each edge deserves to be in the starting tree (E,), positive."""
    best, agreeing = cycle_errors_deg(count, edges, cam2_to_cam1)
    trust = np.where(np.isinf(best), _TREE_TRUST_WITHOUT_CYCLE, _TREE_TRUST_AGAINST_CYCLE)
    trust = np.where(agreeing > 0, 1.0, trust)
    return weights * trust * np.sqrt(1 + agreeing)


def _tree_rotations(count: int, edges: Index, cam2_to_cam1: Array, weights: Array) -> Array:
    """Return rotations chained along the maximum spanning tree of every component."""
    rotations = np.tile(np.eye(3), (count, 1, 1))
    if len(edges) == 0:
        return rotations
    worth = tree_weights(count, edges, cam2_to_cam1, weights)
    # Of edges between the same photos the worthiest; csgraph would add their weights up.
    order = np.lexsort((-worth, edges.max(axis=1), edges.min(axis=1)))
    pairs = np.sort(edges, axis=1)[order]
    first = np.ones(len(order), bool)
    first[1:] = (pairs[1:] != pairs[:-1]).any(axis=1)
    kept = order[first]
    cost = 1 + worth.max() - worth[kept]
    shape = (count, count)
    graph = sparse.csr_array((cost, (edges[kept, 0], edges[kept, 1])), shape=shape)
    tree = csgraph.minimum_spanning_tree(graph)
    relative = {}
    for e in kept:
        i, j = edges[e]
        relative[int(i), int(j)] = cam2_to_cam1[e]
        relative[int(j), int(i)] = cam2_to_cam1[e].T
    labels = csgraph.connected_components(tree, directed=False)[1]
    for root in np.unique(labels, return_index=True)[1]:
        order, parent = csgraph.breadth_first_order(tree, root, directed=False)
        for node in order[1:]:
            rotations[node] = rotations[parent[node]] @ relative[int(parent[node]), int(node)]
    return rotations


def _residuals(rotations: Array, edges: Index, cam2_to_cam1: Array) -> Array:
    """Return the world-frame rotation vectors (E, 3) of R_i R_ij R_j^T, zero when all agree."""
    i, j = edges.T
    return rotation_log(rotations[i] @ cam2_to_cam1 @ rotations[j].transpose(0, 2, 1))


def _l1_weights(error: Array) -> Array:
    return 1 / np.maximum(np.linalg.norm(error, axis=1), np.radians(_L1_FLOOR_DEG))


def _geman_mcclure_weights(error: Array) -> Array:
    scale2 = np.radians(_GEMAN_MCCLURE_DEG) ** 2
    return (scale2 / (scale2 + (error**2).sum(axis=1))) ** 2


def _weighted_step(count: int, edges: Index, error: Array, weights: Array) -> Array:
    """Return the rotation vectors (N, 3) that minimise sum w |w_j - w_i - e_ij|^2.

    To first order R_i R_ij R_j^T turns by ``w_i - w_j`` when R <- exp(w) R.
    """
    A = incidence_matrix(count, edges)
    weighted = A.T * weights
    normal = (weighted @ A).tocsc()
    # The gauge: one free rotation per component, held by a weight too small to matter.
    normal = normal + sparse.eye_array(count, format="csc") * (1e-9 * normal.diagonal().max())
    return np.asarray(spsolve(normal, weighted @ error)).reshape(count, 3)


def _anchor(rotations: Array, edges: Index) -> Array:
    """Return rotations turned so that the first photo of each component has the identity."""
    count = len(rotations)
    labels = component_labels(count, edges)
    first = np.unique(labels, return_index=True)[1]
    u, _, vt = np.linalg.svd(rotations[first[labels]].transpose(0, 2, 1) @ rotations)
    return np.asarray(u @ vt)
