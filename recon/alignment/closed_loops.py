"""Loops that a weak join keeps open are closed.

Where next to nothing is seen twice, as at a corner between plain walls, few matches on one plane
are all that joins a part of a walk to the rest. They leave open by some degrees how it turns there,
and how large it is, and all that follows is put that much aside. Where one photo joins two parts,
however firmly, and nothing that it shows is seen in both, it is their relative size that is open.
Where the walk comes back, a pair as good as any other then contradicts the scene. Its matches fit
nowhere, so that bundle adjustment, which is given what fits, never hears of them.

Here it does: what either side of the join makes of its points by itself is tied to the other side
by the join's own matches and those of the pair, whether they fit or not, first loosely, then as
tightly as everything else. What gives way is what is held least. Where the join parts few photos
from many, as of tourists' photos each has a few that little holds, these give way alone.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from pointmap.camera import Array, Index, Mask
from recon.alignment.camera_model import BundleOptions
from recon.alignment.cameras import Cameras
from recon.alignment.first_cameras import PoseGraph
from recon.alignment.refinement import (
    LITTLE_DAMPING,
    Setup,
    Structure,
    adjust,
    agreeing_edges,
    triangulate_scene,
)
from recon.alignment.tracks import (
    TrackSet,
    fitting_matches,
    keep_observations,
    match_midpoints,
    node_thresholds,
)

logger = logging.getLogger(__name__)

# A join is weak beside a pair that contradicts it where it is held by no more points, each of which
# a third photo sees too, than the pair has matches, times this.
_WEAK = 2
BY_CHANCE = 3
"""Photos that share fewer points may do so by chance: any on the epipolar line will do for two."""
# Of the pairs across a join one at least has so many matches, and is not wrong (see
# recon.alignment.hanging_groups). With fewer, though right, two joins at plain walls leave open
# what the loop could tell.
_SURE_INLIERS = 60
# Each costs a few rounds of bundle adjustment.
_TRIED = 4
# Points of one side that the other sees, by matches across the join: without them the size of the
# side is open, and two pairs agree with any.
_LEAST_SEEN = 5
# How many times as large as usual errors of what ties the two sides may be, round by round.
_SLACK = (30.0, 8.0, 2.0, 1.0)
_STEPS, _TOLERANCE = 30, 1e-5
# A side of a join that has one photo in so many, or fewer, moves while all others stand still.
_FEW_OF = 8
# What comes before a photo that nothing leads to, by scipy.
_NONE = -9999
# Of the matches that held a join, verified or not, this share has to fit in the end.
_KEPT_SHARE = 0.8


def close_loops(
    setup: Setup, structure: Structure, graph: PoseGraph, before: Mask | None = None
) -> tuple[Structure, Mask]:
    """Return the structure with those pairs in agreement that contradict it only as far as a weak
    join leaves it open where one of its sides is; with new points then, and cameras to be adjusted.
    The second value tells which edges (E,) have closed a loop, now or ``before``: what opens again
    when all is adjusted is held open by more than it holds.

    ``graph``: the relative poses of the edges. A pair counts on whose pose many matches agree, and
    whose photos are turned to each other as it says. The structure comes back as it is where there
    is none.
    """
    closed = np.zeros(setup.edges, bool) if before is None else before.copy()
    agreeing = agreeing_edges(setup, structure.cameras)
    against = _contradicting(setup, structure.cameras, graph, agreeing) & ~closed
    if not against.any():
        return structure, closed
    strength = np.bincount(setup.table.edge[setup.table.inlier], minlength=setup.edges)
    tied = _shared_points(setup, structure, least=2) >= BY_CHANCE
    shared = _shared_points(setup, structure, least=3)
    tried = np.flatnonzero(against)
    for edge in tried[np.argsort(-strength[tried], kind="stable")][:_TRIED].tolist():
        if not against[edge]:  # no more, since another loop was closed
            continue
        first, second = graph.pairs[edge].tolist()
        side = _weak_side(shared, first, second, most=_WEAK * int(strength[edge]))
        if side is None:
            side = _side_of_joint(tied, first, second)
        if side is None:
            continue
        across = side[graph.pairs[:, 0]] != side[graph.pairs[:, 1]]
        ties = _Ties(setup, graph, across & (agreeing | against))
        if strength[ties.edges].max() < _SURE_INLIERS:
            continue
        cameras = _closed(setup, structure.cameras, ties, edge, side, agreeing)
        if cameras is not None:
            closed[edge] = True
            agreeing = agreeing_edges(setup, cameras)
            against = _contradicting(setup, cameras, graph, agreeing) & ~closed
            use = agreeing[setup.table.edge]
            structure = triangulate_scene(setup, cameras, setup.options.threshold_px, use=use)
    return structure, closed


def _contradicting(setup: Setup, cameras: Cameras, graph: PoseGraph, agreeing: Mask) -> Mask:
    """Return which edges (E,) don't agree with the cameras, but for the way their photos turn."""
    placed = cameras.registered[graph.pairs].all(axis=1)
    turned_deg = graph.turned_deg(cameras.cam_to_world[:, :3, :3]).min(axis=0)
    alike = turned_deg < setup.options.max_edge_error_deg
    return np.asarray(placed & graph.moves & alike & ~agreeing)


def _shared_points(setup: Setup, structure: Structure, *, least: int) -> sparse.csr_matrix:
    """Return how many points that ``least`` photos see any two photos share (N, N)."""
    tracks = structure.tracks
    often = (np.bincount(tracks.point, minlength=len(tracks.points)) >= least)[tracks.point]
    where = setup.table.node_view[tracks.node][often], tracks.point[often]
    shape = len(structure.cameras.registered), len(tracks.points)
    seen = sparse.csr_array((np.ones(len(where[0]), np.int32), where), shape=shape)
    shared = sparse.csr_matrix(seen @ seen.T)
    shared.setdiag(0)
    shared.eliminate_zeros()
    return shared


def _weak_side(shared: sparse.csr_matrix, first: int, second: int, *, most: int) -> Mask | None:
    """Return the photos (N,) on one side of the weakest join between two, None where it is held by
    more than ``most`` of the points that photos share: the least cut (Ford and Fulkerson 1956).
    """
    flow = csgraph.maximum_flow(shared, first, second)
    if flow.flow_value > most:
        return None
    left = shared - flow.flow
    left.data = np.maximum(left.data, 0)
    left.eliminate_zeros()
    side = np.zeros(shared.shape[0], bool)
    side[csgraph.breadth_first_order(left, first, return_predecessors=False)] = True
    return side


def _side_of_joint(tied: sparse.csr_matrix, first: int, second: int) -> Mask | None:
    """Return the photos (N,) that are joined to ``second`` by one photo alone, ``first`` among
    them; None where no photo does. However firmly that photo is held by both sides, it says nothing
    of how large one is beside the other. ``tied`` (N, N): which photos share points.
    """
    _, before = csgraph.breadth_first_order(tied, first, directed=False)
    joint = int(before[second])
    while joint not in (first, _NONE):
        others = np.delete(np.arange(tied.shape[0]), joint)
        _, label = csgraph.connected_components(tied[others][:, others], directed=False)
        with_first = np.zeros(tied.shape[0], bool)
        with_first[others] = label == label[np.searchsorted(others, first)]
        if not with_first[second]:
            return with_first
        joint = int(before[joint])
    return None


def _closed(
    setup: Setup, before: Cameras, ties: _Ties, edge: int, side: Mask, agreeing: Mask
) -> Cameras | None:
    """Return the cameras with the contradicting ``edge`` in agreement, None where that is not to be
    had together with the ``ties`` that join one ``side`` (N,) of a loop to the other.

    ``agreeing`` (E,): which edges agree before.
    """
    graph, table = ties.graph, setup.table
    across = side[graph.pairs[:, 0]] != side[graph.pairs[:, 1]]
    joining = across & agreeing
    near = np.zeros(len(before.registered), bool)
    near[graph.pairs[ties.edges].ravel()] = True
    use = (agreeing & ~across)[table.edge]
    moving = _few_that_move(side, before.registered)
    adjusted = setup
    if moving is not None:
        adjusted = _held_but(setup, moving)
        of_use = (moving | near)[table.node_view]
        use &= of_use[table.first] | of_use[table.second]
    own = _own_points(setup, before, use, near)
    if ties.seen(own) < _LEAST_SEEN:
        return None
    cameras = before
    for slack in _SLACK:
        tracks, loose = ties.added(cameras, own)
        options = BundleOptions(
            loss_scale=setup.options.threshold_px,
            damping=LITTLE_DAMPING,
            max_iterations=_STEPS,
            tolerance=_TOLERANCE,
        )
        found = adjust(
            adjusted, Structure(cameras, tracks), options, slack=np.where(loose, slack, 1.0)
        )
        cameras = found.cameras
        own = replace(own, points=found.tracks.points[: len(own.points)])
    held = [_fitting(setup, one, joining) for one in (before, cameras)]
    agrees = bool(agreeing_edges(setup, cameras, only=ties.edges)[edge])
    logger.debug(
        "pair %s closes a loop: %s; %d matches held it, %d do",
        graph.pairs[edge].tolist(),
        agrees,
        *held,
    )
    return cameras if agrees and held[1] >= _KEPT_SHARE * held[0] else None


def _few_that_move(side: Mask, placed: Mask) -> Mask | None:
    """Return the ``placed`` photos (N,) on the smaller side of a join, None where they are many."""
    smaller = min(side & placed, ~side & placed, key=np.count_nonzero)
    return smaller if _FEW_OF * np.count_nonzero(smaller) <= np.count_nonzero(placed) else None


def _held_but(setup: Setup, moving: Mask) -> Setup:
    """Return the setup with all photos held but those that are ``moving`` (N,), and all lenses of
    which others have a part.
    """
    sigma = setup.focal_log_sigma.copy()
    sigma[setup.focal_group[~moving]] = 0
    known = setup.known_pose | ~moving
    return replace(setup, known_pose=known, focal_log_sigma=sigma, freed=None)


def _own_points(setup: Setup, cameras: Cameras, use: Mask, near: Mask) -> TrackSet:
    """Return the points of the matches ``use`` (M,): all of the photos ``near`` (N,) a join, and of
    the others a part.
    """
    table, threshold = setup.table, setup.options.threshold_px
    here = near[table.node_view[table.first]] | near[table.node_view[table.second]]
    close = triangulate_scene(setup, cameras, threshold, use=use & here).tracks
    taken = np.zeros(len(table.node_view), bool)
    taken[close.node] = True
    spread = triangulate_scene(setup, cameras, threshold, use=use, few=True).tracks
    twice = np.zeros(len(spread.points), bool)
    twice[spread.point[taken[spread.node]]] = True
    spread = keep_observations(spread, ~twice[spread.point])
    return TrackSet.joined([close, spread])


@dataclass(frozen=True)
class _Ties:
    """The verified matches of ``edges`` (E,) across a join, some of which contradict the scene."""

    setup: Setup
    graph: PoseGraph
    edges: Mask

    def _matches(self) -> tuple[Index, Index, Index]:
        """Return the rows of the matches (R,) and their two nodes."""
        table = self.setup.table
        rows = np.flatnonzero(table.inlier & self.edges[table.edge])
        return rows, table.first[rows], table.second[rows]

    def seen(self, own: TrackSet) -> int:
        """Return how many of the matches have one of the ``own`` points at an end."""
        _, first, second = self._matches()
        return int((np.isin(first, own.node) | np.isin(second, own.node)).sum())

    def added(self, cameras: Cameras, own: TrackSet) -> tuple[TrackSet, Mask]:
        """Return the tracks and, at either end of a match that has a point of its ``own``, the
        other end as one more observation of it; where neither end has one, a new point. Then which
        of the observations (M,) those are.
        """
        table = self.setup.table
        rows, first, second = self._matches()
        point = np.full(len(table.node_view), -1)
        point[own.node] = own.point
        points = self._points(cameras, rows)
        new = (point[first] < 0) & (point[second] < 0)
        for node in (first, second):
            view = table.node_view[node]
            new &= cameras.to_camera(view, np.nan_to_num(points))[:, 2] > 0
        new &= np.isfinite(points).all(axis=1)
        number = len(own.points) + np.arange(int(new.sum()))
        by_first, by_second = point[first] >= 0, point[second] >= 0
        added = [
            (point[first[by_first]], second[by_first]),
            (point[second[by_second]], first[by_second]),
            (number, first[new]),
            (number, second[new]),
        ]
        every_point = np.concatenate([own.point, *(p for p, _ in added)])
        every_node = np.concatenate([own.node, *(n for _, n in added)])
        order = np.argsort(every_point, kind="stable")
        tracks = TrackSet(
            np.concatenate([own.points, points[new]]), every_point[order], every_node[order]
        )
        return tracks, order >= len(own.node)

    def _points(self, cameras: Cameras, rows: Index) -> Array:
        """Return the points (R, 3) of matches, those of an edge that contradicts the cameras as its
        pose has them, from its first photo.
        """
        table, graph = self.setup.table, self.graph
        points = match_midpoints(table, cameras, rows)[0]
        agreeing = agreeing_edges(self.setup, cameras, only=self.edges)
        nearer = graph.turned_deg(cameras.cam_to_world[:, :3, :3]).argmin(axis=0)
        for edge in np.flatnonzero(self.edges & ~agreeing).tolist():
            i, j = graph.pairs[edge].tolist()
            pose = (graph.cam2_to_cam1, graph.alternative)[nearer[edge]][edge].copy()
            length = np.linalg.norm(cameras.centre[i] - cameras.centre[j])
            pose[:3, 3] *= length / max(float(np.linalg.norm(pose[:3, 3])), 1e-12)
            poses = cameras.cam_to_world.copy()
            poses[j] = poses[i] @ pose
            mine = table.edge[rows] == edge
            apart = replace(cameras, cam_to_world=poses)
            points[mine] = match_midpoints(table, apart, rows[mine])[0]
        return points


def _fitting(setup: Setup, cameras: Cameras, edges: Mask) -> int:
    """Return how many matches of the ``edges`` (E,), verified or not, fit the cameras."""
    table = setup.table
    limits = node_thresholds(table, cameras, setup.options.threshold_px)
    use = edges[table.edge]
    return int(fitting_matches(table, cameras, limits=limits, use=use).sum())
