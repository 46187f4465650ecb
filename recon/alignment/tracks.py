"""Feature tracks: matches chained over photos, and the scene points they give.

A chain of matches may hold wrong ones, so a chain is not a track yet: every chain is triangulated
robustly, the photo positions that agree with the point become its track, and what is left over may
form a second one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from pointmap.camera import Array, Index, Mask
from recon.alignment.cameras import Cameras
from recon.alignment.triangulation import (
    midpoints,
    refine_points,
    widest_angles_deg,
)
from recon.prediction.photo_graph import component_labels
from recon.stage_results import PairEdge

# Two-view points of a chain that are tried at most: with half of them wrong, one of so many is
# right almost surely.
_HYPOTHESES = 12
# Cells over a photo, and chains that each of them chooses, where a part of all tracks is enough.
_GRID, _CHAINS_PER_CELL = np.array([6, 5]), 2
# Matches that are looked at together: a street of 500 photos has 1.5 million.
_AT_ONCE = 2**18
# A chain of two things gives a track in either pass.
_PASSES = 2
# A point is not nearer to a camera than this share of what points typically are.
_NEAREST = 1e-3


@dataclass(frozen=True)
class MatchTable:
    """All matches of all edges, over one numbering of the photo positions ("nodes").

    ``node_view``, ``node_keypoint`` (K,) int (-1: a pointmap match, a node of its own), ``node_xy``
    (K, 2) and ``node_sigma_px`` (K,); matches are ``first``, ``second`` (M,) node numbers, with
    their ``edge`` (M,) and whether its pose holds for them, ``inlier`` (M,).
    """

    node_view: Index
    node_keypoint: Index
    node_xy: Array
    node_sigma_px: Array
    first: Index
    second: Index
    edge: Index
    inlier: Mask


@dataclass(frozen=True)
class TrackSet:
    """Points (P, 3) in the world; ``point`` (M,), sorted, and ``node`` (M,): the observations."""

    points: Array
    point: Index
    node: Index

    @staticmethod
    def joined(parts: Sequence[TrackSet]) -> TrackSet:
        """Return the points of all parts."""
        none = np.zeros(0, np.int64)
        offsets = np.cumsum([0, *(len(part.points) for part in parts)])
        numbers = [part.point + offset for part, offset in zip(parts, offsets, strict=False)]
        return TrackSet(
            np.concatenate([np.zeros((0, 3)), *(part.points for part in parts)]),
            np.concatenate([none, *numbers]),
            np.concatenate([none, *(part.node for part in parts)]),
        )


def build_match_table(edges: Sequence[PairEdge]) -> MatchTable:
    """Return the matches of all edges; the same key point in several edges is one node."""
    if not edges:
        none = np.zeros(0, np.int64)
        return MatchTable(
            none, none, np.zeros((0, 2)), np.zeros(0), none, none, none, np.zeros(0, bool)
        )
    matches = [edge.matches for edge in edges]
    sizes = np.array([len(m) for m in matches])
    photo = np.array([m.i for m in matches] + [m.j for m in matches])
    # One number of photo and key point, of which both follow again: arrays of all sides of all
    # matches are large. A pointmap match is no key point, and a number of its own keeps it out of
    # every chain.
    name = np.concatenate([m.index_i for m in matches] + [m.index_j for m in matches])
    name = np.where(name >= 0, name, -1 - np.arange(len(name)))
    lowest = int(name.min())
    span = int(name.max()) - lowest + 1
    name += np.repeat(span * photo - lowest, np.tile(sizes, 2))
    names, unique, node = np.unique(name, return_index=True, return_inverse=True)
    del name
    sigma = np.tile([m.sigma_px for m in matches], 2)
    return MatchTable(
        node_view=names // span,
        node_keypoint=np.maximum(names % span + lowest, -1),
        node_xy=np.concatenate([m.xy_i for m in matches] + [m.xy_j for m in matches])[unique],
        node_sigma_px=np.repeat(sigma, np.tile(sizes, 2))[unique],
        first=node[: len(node) // 2],
        second=node[len(node) // 2 :],
        edge=np.repeat(np.arange(len(edges)), sizes),
        inlier=np.concatenate([edge.pose.inliers for edge in edges]),
    )


def node_thresholds(table: MatchTable, cameras: Cameras, threshold_px: float) -> Array:
    """Return the error in original pixels (K,) that each node may show."""
    return threshold_px * np.maximum(cameras.unit_px[table.node_view], table.node_sigma_px)


def triangulate_tracks(
    table: MatchTable,
    cameras: Cameras,
    *,
    threshold_px: float,
    min_angle_deg: float,
    use: Mask | None = None,
    few: bool = False,
) -> TrackSet:
    """Return the points that the matches between placed photos give under these cameras.

    ``threshold_px`` at 640 px; ``use`` (M,) bool restricts the matches, all by default. A track has
    two photos or more, one position in each, all within the threshold, seen under
    ``min_angle_deg`` or more. ``few``: only a part of the tracks, spread over each photo, that
    holds the cameras nearly as well as all of them.
    """
    limits = node_thresholds(table, cameras, threshold_px)
    chosen = np.flatnonzero(fitting_matches(table, cameras, limits=limits, use=use))
    free = np.ones(len(table.node_view), bool)
    found: list[TrackSet] = []
    for _ in range(1 if few else _PASSES):
        chosen = chosen[free[table.first[chosen]] & free[table.second[chosen]]]
        if len(chosen) == 0:
            break
        tracks = _one_pass(table, cameras, limits, chosen, min_angle_deg, few)
        free[tracks.node] = False
        found.append(tracks)
    return TrackSet.joined(found)


def fitting_matches(
    table: MatchTable, cameras: Cameras, *, limits: Array, use: Mask | None = None
) -> Mask:
    """Return which matches (M,) join placed photos at a point in front of both.

    The point may miss each position by twice the node's ``limits`` (K,) in pixels: it is the
    midpoint of two rays, not the best point. Rays parallel to within as much meet too far away to
    tell, and fit. ``use`` (M,) restricts the matches.
    """
    placed = cameras.registered[table.node_view]
    mask = placed[table.first] & placed[table.second]
    if use is not None:
        mask &= use
    rows = np.flatnonzero(mask)
    for some in np.split(rows, range(_AT_ONCE, len(rows), _AT_ONCE)):
        mask[some] = _fit(table, cameras, some, limits)
    return mask


def _fit(table: MatchTable, cameras: Cameras, rows: Index, limits: Array) -> Mask:
    """Return which of the matches ``rows`` (R,), of placed photos, fit."""
    points, angles = match_midpoints(table, cameras, rows)
    fits, parallel = np.ones(len(rows), bool), np.ones(len(rows), bool)
    for nodes in (table.first[rows], table.second[rows]):
        view, xy = table.node_view[nodes], table.node_xy[nodes]
        fits &= cameras.errors_px(view, xy, points) < 2 * limits[nodes]
        parallel &= np.radians(angles) * cameras.focals_px[view] < 2 * limits[nodes]
    return fits | parallel


def match_rays(table: MatchTable, cameras: Cameras, rows: Index) -> tuple[Array, Array]:
    """Return the world unit rays (R, 3) of both sides of matches ``rows`` (R,)."""
    first, second = table.first[rows], table.second[rows]
    if len(rows) > len(table.node_view) / 2:
        # Most nodes are in several matches.
        rays = cameras.directions(table.node_view, table.node_xy)
        return rays[first], rays[second]
    return (
        cameras.directions(table.node_view[first], table.node_xy[first]),
        cameras.directions(table.node_view[second], table.node_xy[second]),
    )


def match_midpoints(table: MatchTable, cameras: Cameras, rows: Index) -> tuple[Array, Array]:
    """Return the two-view points (R, 3) of matches and the angles (R,) between their rays."""
    rays_1, rays_2 = match_rays(table, cameras, rows)
    centres = cameras.cam_to_world[:, :3, 3]
    centres_1 = centres[table.node_view[table.first[rows]]]
    centres_2 = centres[table.node_view[table.second[rows]]]
    return midpoints(centres_1, rays_1, centres_2, rays_2)


def _one_pass(
    table: MatchTable,
    cameras: Cameras,
    limits: Array,
    chosen: Index,
    min_angle_deg: float,
    few: bool,
) -> TrackSet:
    """Return at most one track of every chain (of a ``few``) that the ``chosen`` matches form."""
    chains, nodes, chain_of_node, chosen = _chains(table, chosen)
    if few:
        spread = _spread_chains(table, cameras, nodes, chain_of_node)
        chosen = chosen[spread[chains[table.first[chosen]]]]
        rows = spread[chain_of_node]
        nodes, chain_of_node = nodes[rows], chain_of_node[rows]
    points, angles = match_midpoints(table, cameras, chosen)
    # A few two-view points of every chain, those of the widest angle, are tried on all its nodes.
    chain_of_match = chains[table.first[chosen]]
    order = np.lexsort((-angles, chain_of_match))
    rank = np.arange(len(order)) - np.searchsorted(chain_of_match[order], chain_of_match[order])
    tried = order[rank < _HYPOTHESES]
    ends = np.concatenate([[0], np.cumsum(np.bincount(chain_of_node))])
    view, xy, chain = table.node_view[nodes], table.node_xy[nodes], chain_of_match[tried]
    given = {"ends": ends, "chain": chain, "points": points[tried]}
    score = cameras.agreement(view, xy, limits[nodes], **given)
    ranked = np.lexsort((-score, chain))
    winners = ranked[np.concatenate([[True], chain[ranked][1:] != chain[ranked][:-1]])]
    number = np.full(len(ends) - 1, -1)
    number[chain[winners]] = np.arange(len(winners))
    point = number[chain_of_node]
    error = cameras.errors_px(view, xy, points[tried[winners]][point])
    row = (point >= 0) & (error < limits[nodes])
    kept = _one_per_photo(point[row], nodes[row], error[row], table)
    return _settle(table, cameras, limits, TrackSet(points[tried[winners]], *kept), min_angle_deg)


def _chains(table: MatchTable, chosen: Index) -> tuple[Index, Index, Index, Index]:
    """Return each node's chain (K,), the nodes of all chains sorted by chain, their chains, and the
    matches (of ``chosen``) that stay within a chain.
    """
    count = len(table.node_view)
    ends = np.stack([table.first, table.second], axis=1)
    labels = component_labels(count, ends[chosen])
    used = _nodes_of(table, chosen)
    photos = int(table.node_view.max(initial=0)) + 1
    seen = np.sort(labels[used] * photos + table.node_view[used])
    torn = np.zeros(count, bool)
    torn[seen[1:][seen[1:] == seen[:-1]] // photos] = True
    suspect = torn[labels[table.first[chosen]]]
    if suspect.any():
        joined = chosen[~suspect]
        joined = np.concatenate([joined, _join_without_conflict(table, chosen[suspect])])
        labels = component_labels(count, ends[joined])
        inside = labels[table.first[chosen]] == labels[table.second[chosen]]
        chosen = chosen[inside]
        used = _nodes_of(table, chosen)
    named = np.zeros(count, bool)
    named[labels[used]] = True
    number = np.cumsum(named)[labels[used]] - 1
    chains = np.full(count, -1)
    chains[used] = number
    order = np.argsort(number, kind="stable")
    return chains, used[order], number[order], chosen


def _nodes_of(table: MatchTable, rows: Index) -> Index:
    """Return the nodes, in order, of the matches ``rows``."""
    matched = np.zeros(len(table.node_view), bool)
    matched[table.first[rows]] = matched[table.second[rows]] = True
    return np.flatnonzero(matched)


def _spread_chains(table: MatchTable, cameras: Cameras, nodes: Index, chain_of_node: Index) -> Mask:
    """Return which chains (C,) are chosen by some photo: of each cell of a grid over it, the few
    that most photos see.
    """
    view = table.node_view[nodes]
    share = table.node_xy[nodes] / cameras.size_px[view]
    column, row = np.clip((share * _GRID).astype(np.int64), 0, _GRID - 1).T
    cell = (view * _GRID[1] + row) * _GRID[0] + column
    length = np.bincount(chain_of_node)
    order = np.lexsort((chain_of_node, -length[chain_of_node], cell))
    rank = np.arange(len(order)) - np.searchsorted(cell[order], cell[order])
    spread = np.zeros(len(length), bool)
    spread[chain_of_node[order[rank < _CHAINS_PER_CELL]]] = True
    return spread


def _join_without_conflict(table: MatchTable, rows: Index) -> Index:
    """Return the matches (of ``rows``) that join chains with no photo in common, best first.

    A chain that holds two positions of one photo has a wrong match somewhere. Matches that a third
    photo confirms (both ends matched to one node there) are joined first, so that a wrong one
    mostly finds its two ends taken.
    """
    first, second = table.first[rows], table.second[rows]
    count = len(table.node_view)
    ones = np.ones(len(rows), np.int64)
    graph = sparse.csr_array((ones, (first, second)), shape=(count, count))
    graph = graph + graph.T
    support = np.asarray((graph @ graph)[first, second]).ravel()
    parent = dict(zip(*(2 * [np.unique(np.concatenate([first, second])).tolist()]), strict=True))
    photos = {node: 1 << int(table.node_view[node]) for node in parent}
    kept = []
    for row in np.argsort(-support, kind="stable"):
        roots = []
        for node in (int(first[row]), int(second[row])):
            while parent[node] != node:
                parent[node] = parent[parent[node]]
                node = parent[node]
            roots.append(node)
        a, b = roots
        if a != b and not photos[a] & photos[b]:
            parent[b] = a
            photos[a] |= photos[b]
            kept.append(row)
    return rows[np.array(kept, np.int64)]


def _one_per_photo(
    point: Index, node: Index, error: Array, table: MatchTable
) -> tuple[Index, Index]:
    """Return observations sorted by point, the best one where a photo has several."""
    view = table.node_view[node]
    order = np.lexsort((error, view, point))
    point, node, view = point[order], node[order], view[order]
    first = np.ones(len(point), bool)
    first[1:] = (point[1:] != point[:-1]) | (view[1:] != view[:-1])
    return point[first], node[first]


def _settle(
    table: MatchTable, cameras: Cameras, limits: Array, tracks: TrackSet, min_angle_deg: float
) -> TrackSet:
    """Return the tracks with refined points, without observations or points that don't hold."""
    tracks = keep_observations(tracks, np.ones(len(tracks.node), bool))
    if len(tracks.points) == 0:
        return tracks
    view, xy = table.node_view[tracks.node], table.node_xy[tracks.node]
    points = refine_points(
        cameras,
        tracks.points,
        point=tracks.point,
        view=view,
        xy=xy,
        sigma_px=table.node_sigma_px[tracks.node],
    )
    tracks = TrackSet(points, tracks.point, tracks.node)
    return filter_tracks(table, cameras, tracks, limits=limits, min_angle_deg=min_angle_deg)


def filter_tracks(
    table: MatchTable, cameras: Cameras, tracks: TrackSet, *, limits: Array, min_angle_deg: float
) -> TrackSet:
    """Return the observations within their ``limits`` (K,) px of points seen under enough angle."""
    view, xy = table.node_view[tracks.node], table.node_xy[tracks.node]
    error = cameras.errors_px(view, xy, tracks.points[tracks.point])
    tracks = keep_observations(tracks, error < limits[tracks.node])
    if len(tracks.points) == 0:
        return tracks
    view = table.node_view[tracks.node]
    angle = widest_angles_deg(cameras, tracks.points, point=tracks.point, view=view)
    return keep_observations(tracks, (angle >= min_angle_deg)[tracks.point])


def without_collapsed(table: MatchTable, cameras: Cameras, tracks: TrackSet) -> TrackSet:
    """Return the tracks without points that lie next to a camera that sees them.

    Photos that were taken from nearly one spot have points that no other photo sees, and these fit
    as well where cameras and points shrink together: bundle adjustment may go that way, to cameras
    in one spot with their points around them. Without those points what others see, too, holds
    them.
    """
    if len(tracks.points) == 0:
        return tracks
    depth = cameras.to_camera(table.node_view[tracks.node], tracks.points[tracks.point])[:, 2]
    near = depth < _NEAREST * np.median(depth)
    collapsed = np.bincount(tracks.point, near, minlength=len(tracks.points)) > 0
    return keep_observations(tracks, ~collapsed[tracks.point])


def keep_observations(tracks: TrackSet, keep: Mask) -> TrackSet:
    """Return the tracks with the observations ``keep`` (M,); a point left with one goes too."""
    counts = np.bincount(tracks.point[keep], minlength=len(tracks.points))
    keep = keep & (counts >= 2)[tracks.point]
    named = counts >= 2
    number = np.cumsum(named) - 1
    return TrackSet(tracks.points[named], number[tracks.point[keep]], tracks.node[keep])
