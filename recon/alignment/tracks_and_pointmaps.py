"""Feature tracks where there are any, pointmaps for the rest: one scene from both.

Tracks place photos to a fraction of a pixel, but only photos with texture; the pointmaps of a
strong network relate any photos, to half a degree or so. Photos that tracks hold stay where bundle
adjustment put them, and the pairs' pointmaps carry the others from there.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import numpy as np

from pointmap.camera import Array, Index, Mask, invert_rigid, rotation_angle_deg
from recon.alignment.cameras import Cameras
from recon.alignment.refinement import Setup, Structure, agreeing_edges, refine
from recon.alignment.similarity_graph import GraphCameras, cameras_from_pointmaps
from recon.alignment.tracks import keep_observations
from recon.two_view.pointmap_pose import PointmapPoses

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Combined:
    """The scene; ``depth_scale`` (N,): scene units per unit of a photo's prior, NaN where no
    pointmaps tell; ``pairs`` (T, 2), i < j: the pairs whose pointmaps agree with the scene.
    """

    structure: Structure
    depth_scale: Array
    pairs: Index


def combine(setup: Setup, structure: Structure, poses: PointmapPoses | None) -> Combined:
    """Return the scene with the photos that trusted pointmaps place beside those that tracks hold.

    Where the pointmaps contradict the tracks' cameras (features on a repeating facade agree on a
    folded scene), or hold together more photos elsewhere, their cameras are the start from which
    tracks are made anew.
    """
    count = len(structure.cameras.registered)
    nothing = Combined(structure, np.full(count, np.nan), np.zeros((0, 2), np.int64))
    if poses is None or not (poses.weights > 0).any():
        return nothing
    held = _held(setup, structure)
    free = _placed_by_pointmaps(setup, structure, poses, setup.known_pose)
    if held.sum() < 2 or _contradict(structure.cameras, poses, held, free):
        if free.placed.sum() < max(2, held.sum() / 2):
            return nothing
        logger.debug("pointmaps place %d photos, tracks %d", free.placed.sum(), held.sum())
        cameras = _with_poses(structure.cameras, free, np.zeros(count, bool))
        rough = setup.options.first_threshold_px
        agreeing = agreeing_edges(setup, cameras, threshold_px=rough)
        structure = refine(setup, cameras, trusted=agreeing)
        held = _held(setup, structure)
        if held.sum() < 2:
            return _merged(setup, structure, free, setup.known_pose, poses)
    graph = _placed_by_pointmaps(setup, structure, poses, held)
    return _merged(setup, structure, graph, held, poses)


def _held(setup: Setup, structure: Structure) -> Mask:
    """Return which photos (N,) see points enough, or have a known pose."""
    counts = structure.observation_counts(setup.table)
    enough = counts >= setup.options.min_observations
    return setup.known_pose | (structure.cameras.registered & enough)


def _placed_by_pointmaps(
    setup: Setup, structure: Structure, poses: PointmapPoses, fixed: Mask
) -> GraphCameras:
    cam_to_world = structure.cameras.cam_to_world
    return cameras_from_pointmaps(
        len(fixed),
        poses,
        max_error_deg=setup.options.max_edge_error_deg,
        known_cam_to_world=[
            pose if known else None for pose, known in zip(cam_to_world, fixed, strict=True)
        ],
    )


def _contradict(cameras: Cameras, poses: PointmapPoses, held: Mask, free: GraphCameras) -> bool:
    """Return whether most trusted pointmaps say otherwise of the photos that tracks hold."""
    pairs = poses.similarities.pairs
    both = free.used & held[pairs].all(axis=1)
    if not both.any():
        return bool(free.placed.sum() > held.sum() and not (free.placed & held).any())
    i, j = pairs[both].T
    relative = invert_rigid(cameras.cam_to_world[i]) @ cameras.cam_to_world[j]
    said = poses.similarities.cam2_to_cam1[both]
    turn = rotation_angle_deg(relative[:, :3, :3].transpose(0, 2, 1) @ said[:, :3, :3])
    # Trusted poses are good to about a degree and photos' to less: ten are no noise any more.
    return bool(np.median(turn) > 10.0 or (turn > 20.0).mean() > 0.5)


def _with_poses(cameras: Cameras, graph: GraphCameras, kept: Mask) -> Cameras:
    """Return the cameras with those of the graph, except for the photos ``kept`` (N,)."""
    taken = graph.placed & ~kept
    poses = np.where(taken[:, None, None], graph.cam_to_world, cameras.cam_to_world)
    return replace(cameras, cam_to_world=poses, registered=taken | kept)


def _merged(
    setup: Setup, structure: Structure, graph: GraphCameras, held: Mask, poses: PointmapPoses
) -> Combined:
    """Return the tracks' scene with the photos that the graph alone places."""
    moved = graph.placed & ~held
    # The few points that a moved photo saw were where it was before.
    stays = ~moved[setup.table.node_view[structure.tracks.node]]
    tracks = keep_observations(structure.tracks, stays)
    cameras = _with_poses(structure.cameras, graph, structure.cameras.registered & ~moved)
    pairs = np.unique(np.sort(poses.similarities.pairs[graph.used], axis=1), axis=0)
    scale = np.full(len(held), np.nan)
    scale[np.unique(pairs)] = np.exp(graph.log_scale[np.unique(pairs)])
    return Combined(Structure(cameras, tracks), scale, pairs.reshape(-1, 2))
