"""Photos placed one at a time against points that are already there (PnP)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pointmap.camera import Array, invert_rigid, pinhole, rigid
from recon.alignment.bundle import BundleOptions
from recon.alignment.start import PoseGraph
from recon.alignment.structure import Setup, Structure, adjust, triangulate, trim
from recon.alignment.tracks import match_midpoints
from recon.alignment.triangulation import Cameras, Index, Mask

_PNP_ITERATIONS = 2000
_MIN_INLIER_SHARE = 0.2
_WIDE_ENOUGH_DEG = 12.0


def grow(setup: Setup, structure: Structure, candidates: Index, *, seed: int) -> Structure:
    """Place ``candidates`` one after the other, best tied first, and return the grown structure.

    After each the points are made anew and everything is adjusted. Photos that see too few points
    under a pose that RANSAC finds stay as they are.
    """
    waiting = set(candidates.tolist())
    while waiting:
        views, xy, points = correspondences(setup, structure)
        counts = {view: int((views == view).sum()) for view in waiting}
        for view in sorted(waiting, key=lambda view: (-counts[view], view)):
            rows = views == view
            pose = place_photo(setup, structure.cameras, view, xy[rows], points[rows], seed=seed)
            if pose is not None:
                structure = _with_photo(setup, structure, view, pose)
                waiting.discard(view)
                break
        else:
            break
    return structure


def _with_photo(setup: Setup, structure: Structure, view: int, cam_to_world: Array) -> Structure:
    cameras = structure.cameras
    poses, registered = cameras.cam_to_world.copy(), cameras.registered.copy()
    poses[view], registered[view] = cam_to_world, True
    cameras = replace(cameras, cam_to_world=poses, registered=registered)
    threshold = (setup.options.first_threshold_px * setup.options.threshold_px) ** 0.5
    for _ in range(2):
        structure = triangulate(setup, cameras, threshold, verified=True)
        options = BundleOptions(loss_scale=threshold, max_iterations=10, tolerance=1e-4)
        structure = adjust(setup, structure, options)
        cameras = structure.cameras
    return trim(setup, structure, threshold)


def correspondences(setup: Setup, structure: Structure) -> tuple[Index, Array, Array]:
    """Return the photo (C,), pixel (C, 2) and world point (C, 3) of verified matches between
    positions in photos not placed yet and positions that see a point.
    """
    table = setup.table
    point = np.full(len(table.node_view), -1)
    point[structure.tracks.node] = structure.tracks.point
    rows = np.flatnonzero(table.inlier)
    node = np.concatenate([table.first[rows], table.second[rows]])
    other = np.concatenate([table.second[rows], table.first[rows]])
    new = ~structure.cameras.registered[table.node_view[node]] & (point[other] >= 0)
    node, number = np.unique(np.stack([node[new], point[other[new]]], 1), axis=0).T
    return table.node_view[node], table.node_xy[node], structure.tracks.points[number]


def place_photo(
    setup: Setup, cameras: Cameras, view: int, xy: Array, points: Array, *, seed: int
) -> Array | None:
    """Return cam_to_world (4, 4) of photo ``view`` that sees ``points`` (C, 3) at ``xy`` (C, 2).

    RANSAC over SQPnP (Terzakis & Lourakis 2020), then least squares on the inliers. None when
    fewer than ``min_observations`` or a fifth of the points agree.
    """
    import cv2

    if len(points) < setup.options.min_observations:
        return None
    focal = cameras.focals_px[view]
    K = pinhole(focal, *(2 * cameras.principal[view]))
    cv2.setRNGSeed(seed)
    found, turn, shift, inliers = cv2.solvePnPRansac(
        np.ascontiguousarray(points),
        np.ascontiguousarray(xy),
        K,
        None,
        iterationsCount=_PNP_ITERATIONS,
        reprojectionError=setup.options.first_threshold_px * cameras.unit_px[view],
        confidence=0.9999,
        flags=cv2.SOLVEPNP_SQPNP,
    )
    needed = max(setup.options.min_observations, _MIN_INLIER_SHARE * len(points))
    if not found or inliers is None or len(inliers) < needed:
        return None
    inliers = inliers.ravel()
    turn, shift = cv2.solvePnPRefineLM(points[inliers], xy[inliers], K, None, turn, shift)
    return invert_rigid(rigid(cv2.Rodrigues(turn)[0], shift.ravel()))


def start_from_pair(
    setup: Setup, cameras: Cameras, photos: Index, cam2_to_cam1: Array
) -> Structure:
    """Return the structure of two photos (i, j) alone, from their relative pose."""
    poses = cameras.cam_to_world.copy()
    poses[photos[0]], poses[photos[1]] = np.eye(4), cam2_to_cam1
    registered = np.zeros_like(cameras.registered)
    registered[photos] = True
    cameras = replace(cameras, cam_to_world=poses, registered=registered)
    for threshold in (setup.options.first_threshold_px, setup.options.threshold_px):
        structure = triangulate(setup, cameras, threshold, verified=True)
        structure = adjust(setup, structure, BundleOptions(loss_scale=threshold, max_iterations=15))
        cameras = structure.cameras
    return structure


def best_pair(setup: Setup, cameras: Cameras, graph: PoseGraph, component: Mask) -> int:
    """Return the edge that makes the best start: many matches in front of both photos, seen under
    a wide angle (which counts up to 12 degrees).
    """
    worth = np.full(len(graph.pairs), -1.0)
    for e in np.flatnonzero(component[graph.pairs].all(axis=1)):
        rows = np.flatnonzero(setup.table.inlier & (setup.table.edge == e))
        poses = np.tile(np.eye(4), (len(cameras.registered), 1, 1))
        poses[graph.pairs[e, 1]] = graph.cam2_to_cam1[e]
        pair = replace(cameras, cam_to_world=poses)
        points, angles = match_midpoints(setup.table, pair, rows)
        ahead = (pair.to_camera(graph.pairs[e, :1].repeat(len(rows)), points)[:, 2] > 0) & (
            pair.to_camera(graph.pairs[e, 1:].repeat(len(rows)), points)[:, 2] > 0
        )
        typical = float(np.median(angles[ahead])) if ahead.any() else 0.0
        worth[e] = ahead.sum() * min(typical, _WIDE_ENOUGH_DEG)
    return int(np.argmax(worth))
