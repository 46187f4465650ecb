"""Photos placed one at a time against points that are already there (PnP)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from pointmap.camera import Array, Index, Mask, invert_rigid, pinhole
from recon.alignment.camera_model import BundleOptions
from recon.alignment.cameras import Cameras
from recon.alignment.first_cameras import PoseGraph
from recon.alignment.refinement import (
    Setup,
    Structure,
    adjust,
    agreeing_edges,
    triangulate_scene,
    trim,
)
from recon.alignment.tracks import fitting_matches, match_midpoints, node_thresholds
from recon.two_view.absolute_pose import ransac_pnp

logger = logging.getLogger(__name__)

# P3P samples four points (the fourth decides between solutions): so many are enough, at this
# confidence, where a good fifth of the points are right.
_PNP_ITERATIONS, _PNP_CONFIDENCE = 5000, 0.9999
# A pose that a smaller share of the points agrees with may be chance, wide as the threshold is.
_MIN_INLIER_SHARE = 0.15
# A photo is placed anew where no more than this share of its points fit, and where that makes the
# fitting ones so many times as many.
_DOUBTFUL_SHARE, _MOVE_GAIN = 0.5, 1.5
# Under wider angles depth gains little, while matches become fewer and worse.
_WIDE_ENOUGH_DEG = 12.0
# One photo in so many joins at a time: bundle adjustment after each joining then costs no more, in
# all, than a constant times the last one.
_GROWTH = 8
# Edges that are tried for the start, best tied first: of hundreds of photos that is enough.
_STARTS_TRIED = 200


def grow(setup: Setup, structure: Structure, candidates: Index) -> Structure:
    """Place ``candidates``, best tied first, and return the grown structure.

    One after the other; of a large scene up to an eighth of its photos at a time, as the points are
    made anew and everything is adjusted after each time, which so stays linear in photos. Photos
    that see too few points under a pose that RANSAC finds stay as they are.
    """
    waiting = set(candidates.tolist())
    while waiting:
        found = correspondences(setup, structure, ~structure.cameras.registered)
        numbers = np.bincount(found.view, minlength=len(structure.cameras.registered))
        counts = {view: int(numbers[view]) for view in waiting}
        most = max(1, int(structure.cameras.registered.sum()) // _GROWTH)
        placed: dict[int, Array] = {}
        for view in sorted(waiting, key=lambda view: (-counts[view], view)):
            if len(placed) == most or (placed and counts[view] < counts[next(iter(placed))] / 2):
                break
            rows = found.of(view)
            xy, points = found.xy[rows], found.points[rows]
            pose = place_photo(setup, structure.cameras, view, xy, points)
            if pose is not None:
                placed[view] = pose
        if not placed:
            break
        structure = _with_photos(setup, structure, placed)
        waiting -= placed.keys()
    return structure


def _with_photos(setup: Setup, structure: Structure, placed: Mapping[int, Array]) -> Structure:
    cameras = structure.cameras
    poses, registered = cameras.cam_to_world.copy(), cameras.registered.copy()
    for view, cam_to_world in placed.items():
        poses[view], registered[view] = cam_to_world, True
    cameras = replace(cameras, cam_to_world=poses, registered=registered)
    threshold = (setup.options.first_threshold_px * setup.options.threshold_px) ** 0.5
    for _ in range(2):
        trusted = agreeing_edges(setup, cameras)[setup.table.edge]
        structure = triangulate_scene(setup, cameras, threshold, use=setup.table.inlier & trusted)
        options = BundleOptions(loss_scale=threshold, max_iterations=10, tolerance=1e-4)
        structure = adjust(setup, structure, options)
        cameras = structure.cameras
    return trim(setup, structure, threshold)


def move_misplaced(setup: Setup, structure: Structure) -> Structure:
    """Place photos anew that disagree with the points the other photos make, where that helps.

    A pair has a second relative pose that explains it nearly as well when what both see is flat; a
    photo tied to the scene by such a pair may be wrong without a residual to show for it. Points
    seen by two other photos tell: if most of them miss where the photo is, and PnP finds a pose
    that half as many more fit, the photo moves there. The points are made anew then, but nothing is
    adjusted yet.
    """
    cameras = structure.cameras
    poses = cameras.cam_to_world.copy()
    found = correspondences(setup, structure, cameras.registered & ~setup.known_pose, others=2)
    moved = False
    limits = setup.options.threshold_px * cameras.unit_px
    fits = cameras.errors_px(found.view, found.xy, found.points) < limits[found.view]
    count = len(cameras.registered)
    seen = np.bincount(found.view, minlength=count)
    fitted = np.bincount(found.view, fits, minlength=count)
    for view in np.flatnonzero((seen > 0) & (fitted <= _DOUBTFUL_SHARE * seen)).tolist():
        rows = found.of(view)
        xy, points, fitting = found.xy[rows], found.points[rows], int(fitted[view])
        pose = place_photo(setup, cameras, view, xy, points)
        if pose is None:
            continue
        trial = replace(cameras.only(view), cam_to_world=pose[None])
        errors = trial.errors_px(np.zeros(len(xy), np.int64), xy, points)
        enough = max(_MOVE_GAIN * fitting, setup.options.min_observations)
        if (errors < limits[view]).sum() > enough:
            poses[view], moved = pose, True
            logger.debug("photo %d moved: %d of %d points fitted", view, fitting, len(xy))
    if not moved:
        return structure
    cameras = replace(cameras, cam_to_world=poses)
    use = agreeing_edges(setup, cameras)[setup.table.edge]
    return triangulate_scene(setup, cameras, setup.options.threshold_px, use=use)


@dataclass(frozen=True)
class Correspondences:
    """World points (C, 3), and where photos ``view`` (C,), in order, should see them (C, 2)."""

    view: Index
    xy: Array
    points: Array

    def of(self, photo: int) -> slice:
        """Return the rows of one photo."""
        first, end = np.searchsorted(self.view, [photo, photo + 1])
        return slice(int(first), int(end))


def correspondences(
    setup: Setup, structure: Structure, photos: Mask, *, others: int = 1
) -> Correspondences:
    """Return what the matches of ``photos`` (N,) say about where they see the points.

    A match counts when its other end sees a point that ``others`` photos or more see, the photo
    itself not counted. Matches that no edge verified count too: the pose may be what is wrong.
    """
    table, tracks = setup.table, structure.tracks
    point = np.full(len(table.node_view), -1)
    point[tracks.node] = tracks.point
    node = np.concatenate([table.first, table.second])
    other = np.concatenate([table.second, table.first])
    rows = photos[table.node_view[node]] & (point[other] >= 0)
    node, number = np.unique(np.stack([node[rows], point[other[rows]]], 1), axis=0).T
    view = table.node_view[node]
    observers = np.bincount(tracks.point, minlength=len(tracks.points))[number]
    size = len(structure.cameras.registered)
    seen = np.unique(table.node_view[tracks.node] + size * tracks.point)
    observers = observers - np.isin(view + size * number, seen)
    kept = observers >= others
    # Nodes are numbered photo by photo, so that photos come in order.
    node, number = node[kept], number[kept]
    return Correspondences(table.node_view[node], table.node_xy[node], tracks.points[number])


def place_photo(
    setup: Setup, cameras: Cameras, view: int, xy: Array, points: Array
) -> Array | None:
    """Return cam_to_world (4, 4) of photo ``view`` that sees ``points`` (C, 3) at ``xy`` (C, 2).

    P3P in RANSAC, then least squares on the inliers. None when fewer than ``min_observations`` or
    too small a share of the points agree.
    """
    if len(points) < setup.options.min_observations:
        return None
    world_to_cam = ransac_pnp(
        points,
        cameras.pinhole_pixels(np.full(len(xy), view), xy),
        pinhole(cameras.focals_px[view], *(2 * cameras.principal[view])),
        setup.options.first_threshold_px * cameras.unit_px[view],
        p3p=True,
        iterations=_PNP_ITERATIONS,
        confidence=_PNP_CONFIDENCE,
        least_inliers=max(setup.options.min_observations, _MIN_INLIER_SHARE * len(points)),
        seed=setup.seed,
    )
    return None if world_to_cam is None else invert_rigid(world_to_cam)


def start_from_pair(
    setup: Setup, cameras: Cameras, photos: Index, cam2_to_cam1: Array
) -> Structure:
    """Return the structure of two ``photos`` (2,) alone, from their relative pose (4, 4)."""
    poses = cameras.cam_to_world.copy()
    poses[photos[0]], poses[photos[1]] = np.eye(4), cam2_to_cam1
    registered = np.zeros_like(cameras.registered)
    registered[photos] = True
    cameras = replace(cameras, cam_to_world=poses, registered=registered)
    for threshold in (setup.options.first_threshold_px, setup.options.threshold_px):
        structure = triangulate_scene(setup, cameras, threshold, use=setup.table.inlier)
        structure = adjust(setup, structure, BundleOptions(loss_scale=threshold, max_iterations=15))
        cameras = structure.cameras
    return structure


def best_pair(setup: Setup, cameras: Cameras, graph: PoseGraph, component: Mask) -> int:
    """Return the edge that makes the best start: many matches that fit its pose, seen under a wide
    angle (which counts up to 12 degrees). Of very many edges the best tied ones are tried.
    """
    table = setup.table
    limits = node_thresholds(table, cameras, setup.options.first_threshold_px)
    worth = np.full(len(graph.pairs), -1.0)
    inside = np.flatnonzero(component[graph.pairs].all(axis=1))
    best_tied = inside[np.argsort(-graph.weights[inside], kind="stable")[:_STARTS_TRIED]]
    for e in np.sort(best_tied):
        i, j = graph.pairs[e]
        poses, registered = np.tile(np.eye(4), (len(component), 1, 1)), np.zeros_like(component)
        poses[j], registered[[i, j]] = graph.cam2_to_cam1[e], True
        pair = replace(cameras, cam_to_world=poses, registered=registered)
        use = table.inlier & (table.edge == e)
        rows = np.flatnonzero(fitting_matches(table, pair, limits=limits, use=use))
        typical = float(np.median(match_midpoints(table, pair, rows)[1])) if len(rows) else 0.0
        worth[e] = len(rows) * min(typical, _WIDE_ENOUGH_DEG)
    return int(np.argmax(worth))
