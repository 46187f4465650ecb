"""First cameras from pairwise poses alone: rotations, then scales, then positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array, Index, Mask, rotation_angle_deg
from recon.alignment.cameras import Cameras
from recon.alignment.rotations import average_rotations
from recon.alignment.tracks import MatchTable, match_rays
from recon.alignment.translations import (
    directions_from_matches,
    edge_depths,
    predicted_depth_ratios,
    predicted_log_depths,
    shared_depth_ratios,
    synchronise_positions,
    synchronise_scales,
)
from recon.prediction.photo_graph import component_labels

# A predicted depth ties two scales this much less than a triangulated one of the same spread:
# its errors are shared by the whole photo, so counting pixels flatters it.
_PREDICTION_TRUST = 0.2
_NO_PARALLAX_TRUST = 0.01

# Edges whose directions are solved at once, and matches of each that take part.
_EDGES_AT_ONCE, _DIRECTION_MATCHES = 256, 128


@dataclass(frozen=True)
class PoseGraph:
    """Pairwise poses: ``pairs`` (E, 2) photos, ``cam2_to_cam1`` (E, 4, 4), the second pose that
    explains the matches as well, ``alternative`` (E, 4, 4) (the same one where there is none),
    ``weights`` (E,), whether the translation means anything, ``moves`` (E,), and whether there is
    none, as a rotation alone explains the matches, ``turns`` (E,).
    """

    pairs: Index
    cam2_to_cam1: Array
    alternative: Array
    weights: Array
    moves: Mask
    turns: Mask

    def swapped(self, edges: Mask) -> PoseGraph:
        """Return it with the other one of the two poses of some ``edges`` (E,)."""
        first, second = (
            np.where(edges[:, None, None], b, a)
            for a, b in (
                (self.cam2_to_cam1, self.alternative),
                (self.alternative, self.cam2_to_cam1),
            )
        )
        return replace(self, cam2_to_cam1=first, alternative=second)

    def turned_deg(self, rotations: Array) -> Array:
        """Return how far photos of such ``rotations`` (N, 3, 3), cam_to_world, are turned from what
        either pose of their edge (2, E) says.
        """
        first, second = self.pairs.T
        relative = rotations[first].transpose(0, 2, 1) @ rotations[second]
        poses = self.cam2_to_cam1, self.alternative
        return np.stack(
            [rotation_angle_deg(pose[:, :3, :3].transpose(0, 2, 1) @ relative) for pose in poses]
        )


@dataclass(frozen=True)
class Start:
    """Rough cameras of one component; which edges agree with them, ``used`` (E,)."""

    cameras: Cameras
    used: Mask


def largest_component(
    count: int,
    pairs: Index,
    weights: Array,
    use: Mask | None = None,
    anchors: Mask | None = None,
) -> Mask:
    """Return the photos (N,) of the component with most ``anchors`` (N,), if any, then with most
    photos; of equals the one best tied. ``use`` (E,): the pairs that count, all by default.
    """
    if use is not None:
        pairs, weights = pairs[use], weights[use]
    labels = component_labels(count, pairs)
    sizes = np.bincount(labels)
    tied = np.bincount(labels[pairs[:, 0]], weights, minlength=len(sizes))
    held = np.bincount(labels, anchors, minlength=len(sizes)) if anchors is not None else 0 * sizes
    best = max(range(len(sizes)), key=lambda c: (held[c], sizes[c], tied[c], -c))
    return np.asarray(labels == best)


def first_cameras(
    graph: PoseGraph,
    cameras: Cameras,
    table: MatchTable,
    predicted: Sequence[NDArray[np.float32]],
    *,
    max_edge_error_deg: float,
) -> Start:
    """Return rough cameras of the largest component of edges that agree with one another.

    ``predicted``: per photo a z map (h, w) up to scale, 0 where unknown; or no maps at all.
    """
    count = len(cameras.registered)
    used = np.ones(len(graph.pairs), bool)
    for _ in range(2):
        component = largest_component(count, graph.pairs, graph.weights, used)
        used &= component[graph.pairs].all(axis=1)
        rotations, _ = average_rotations(
            count, graph.pairs[used], graph.cam2_to_cam1[used, :3, :3], graph.weights[used]
        )
        graph, error_deg = _better_poses(graph, rotations, used)
        used[np.flatnonzero(used)[error_deg > max_edge_error_deg]] = False
    component = largest_component(count, graph.pairs, graph.weights, used)
    used &= component[graph.pairs].all(axis=1)
    cam_to_world = np.tile(np.eye(4), (count, 1, 1))
    cam_to_world[:, :3, :3] = rotations
    cameras = replace(cameras, cam_to_world=cam_to_world, registered=component)
    cam_to_world[:, :3, 3] = _centres(graph, cameras, table, predicted, used)
    return Start(replace(cameras, cam_to_world=cam_to_world), used)


def _better_poses(graph: PoseGraph, rotations: Array, used: Mask) -> tuple[PoseGraph, Array]:
    """Return the graph with each edge's pose that agrees better with the photos' rotations, of its
    two, and how far the ``used`` ones are off then, in degrees.
    """
    errors = graph.turned_deg(rotations)
    swap = used & (errors[1] < errors[0])
    return graph.swapped(swap), np.where(swap, errors[1], errors[0])[used]


def _centres(
    graph: PoseGraph,
    cameras: Cameras,
    table: MatchTable,
    predicted: Sequence[NDArray[np.float32]],
    used: Mask,
) -> Array:
    """Return camera centres (N, 3) from rotations, matches and predicted depths."""
    count, edges = len(cameras.registered), len(graph.pairs)
    directions = np.zeros((edges, 3))
    moving = used & graph.moves
    some = np.flatnonzero(moving)
    for start in range(0, len(some), _EDGES_AT_ONCE):
        chosen = some[start : start + _EDGES_AT_ONCE]
        directions[chosen] = _directions(graph, cameras, table, chosen)
    depths = edge_depths(table, cameras, graph.pairs, directions, moving)
    shared = shared_depth_ratios(depths)
    log_predicted = predicted_log_depths(table, depths, predicted, cameras.size_px)
    pairs, ratios, weights = predicted_depth_ratios(depths, log_predicted)
    # Unknowns: the edges' lengths, then the scales of the photos' predictions.
    log_scales = synchronise_scales(
        edges + count,
        np.concatenate([shared[0], pairs + np.array([0, edges])]),
        np.concatenate([shared[1], ratios]),
        np.concatenate([shared[2], _PREDICTION_TRUST * weights]),
    )
    baselines = directions * np.exp(log_scales[:edges, None])
    # Without parallax the two photos may be near each other, or one ahead of the other on a long
    # way: together they are only where nothing else says where they are.
    trust = np.where(graph.moves | graph.turns, 1.0, _NO_PARALLAX_TRUST)
    return synchronise_positions(
        count, graph.pairs[used], baselines[used], (trust * np.sqrt(graph.weights))[used]
    )


def _directions(graph: PoseGraph, cameras: Cameras, table: MatchTable, chosen: Index) -> Array:
    """Return unit directions (E', 3) in the world of the edges ``chosen`` (E',), from some of their
    matches and the rotations.
    """
    inliers = np.flatnonzero(table.inlier)
    first, end = np.searchsorted(table.edge[inliers], [chosen, chosen + 1])  # edges come in order
    counts = end - first
    # Evenly spaced ones where there are more, each of them as often as needed where there are less.
    steps = np.arange(min(_DIRECTION_MATCHES, int(counts.max(initial=0))))
    picks = first[:, None] + np.where(
        counts[:, None] > len(steps),
        steps * counts[:, None] // max(len(steps), 1),
        steps % np.maximum(counts, 1)[:, None],
    )
    rows = inliers[np.minimum(picks, len(inliers) - 1)]
    rays_1, rays_2 = (r.reshape(*rows.shape, 3) for r in match_rays(table, cameras, rows.ravel()))
    start = graph.cam2_to_cam1[chosen, :3, 3]
    start = start / np.linalg.norm(start, axis=1, keepdims=True)
    turn = cameras.cam_to_world[graph.pairs[chosen, 0], :3, :3]
    start = (turn @ start[:, :, None])[:, :, 0]
    found = directions_from_matches(rays_1, rays_2, start)
    return np.where(counts[:, None] > 0, found, start)
