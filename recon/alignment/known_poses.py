"""Poses that are given: the solved scene is moved onto them, and they stay exactly as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pointmap.camera import Array, stacked_poses
from recon.alignment.refinement import Setup, Structure, agreeing_edges, refine


def pin_known_poses(
    setup: Setup, structure: Structure, known: Sequence[Array | None]
) -> tuple[Setup, Structure]:
    """Return the scene in the world of the ``known`` cam_to_world, each of them bit-equal.

    The solved cameras follow by the similarity that fits the known ones best (one known pose leaves
    the scale as it was), then everything else is adjusted. Photos with a known pose are placed even
    without a match. Photos are not placed when none of those solved with them is known.
    """
    target, given = stacked_poses(known)
    setup = replace(setup, known_pose=given)
    cameras = structure.cameras
    trusted = agreeing_edges(setup, cameras)
    poses = cameras.cam_to_world.copy()
    registered = given.copy()
    both = given & cameras.registered
    if both.any():
        poses, _ = moved_onto(poses, poses[both], target[both])
        registered |= cameras.registered
    poses[given] = target[given]
    cameras = replace(cameras, cam_to_world=poses, registered=registered)
    return setup, refine(setup, cameras, trusted=trusted)


def moved_onto(poses: Array, source: Array, target: Array) -> tuple[Array, float]:
    """Return ``poses`` (N, 4, 4) under the similarity that takes ``source`` to ``target``, both
    (K, 4, 4), and its scale, 1 where one pose or one place leaves it open.

    Rotations give the rotation, as centres alone leave it open where they are on a line.
    """
    u, _, vt = np.linalg.svd((target[:, :3, :3] @ source[:, :3, :3].transpose(0, 2, 1)).sum(axis=0))
    rotation = u @ np.diag([1.0, 1.0, np.linalg.det(u @ vt)]) @ vt
    spread_source = source[:, :3, 3] - source[:, :3, 3].mean(axis=0)
    spread_target = target[:, :3, 3] - target[:, :3, 3].mean(axis=0)
    length = float(np.linalg.norm(spread_source))
    scale = float(np.linalg.norm(spread_target)) / length if length > 1e-9 else 1.0
    shift = target[:, :3, 3].mean(axis=0) - scale * rotation @ source[:, :3, 3].mean(axis=0)
    result = poses.copy()
    result[:, :3, :3] = rotation @ poses[:, :3, :3]
    result[:, :3, 3] = scale * poses[:, :3, 3] @ rotation.T + shift
    return result, scale
