"""Scenes whose features hold on to too little, aligned anew from a depth model's maps.

Where two photos have few matches, all on one box, matches alone can't tell which of two poses is
theirs, nor wrong matches from right ones: groups of photos come out turned to each other by tens of
degrees, and every match fits. The maps tell (:mod:`recon.alignment.poses_from_maps`); feature
tracks, of what fits the maps, then give the cameras their accuracy.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from pointmap.camera import Array, Mask, invert_rigid, rotation_angle_deg, transform_points
from pointmap.images import Photo
from recon.alignment.explained import pair_fits
from recon.alignment.joint_maps import FITS, JointMaps, LiftedMatches, MapState, MapView
from recon.alignment.poses_from_maps import Grown, believed, grow_from_maps, tell_focals
from recon.alignment.with_depth_maps import ENOUGH_POINTS
from recon.prediction.affine_fit import fit_affine
from recon.prediction.given_maps import PriorMap
from recon.prediction.small_map import made_small
from recon.stage_results import REFERENCE_LONG_SIDE, Alignment, Focals, PairEdge, PairMatches

logger = logging.getLogger(__name__)

# Photos of a scene that is looked at, at most: all pairs of them are.
_MOST_PHOTOS = 40
# Key points beside what maps say of them: they are far less accurate.
_SIGMA_PX = 1.25
# Key points lie at edges of surfaces, where the map may have either side: pixels of it around them.
_BESIDE = (-0.6, 0.0, 0.6)
# Matches that maps leave of a pair, at least, or they say nothing of it.
_FEWEST_LEFT = 8
# The focal length of matches with a wrong pose is off by more than they think.
_LEAST_FOCAL_SIGMA = 0.1
# Cameras that are turned to each other by so many degrees more or less are the same.
_SAME_DEG = 3.0
# Share of the verified matches that fitted before and have to fit now: some of them were wrong.
_EXPLAINED = 0.95


def align_by_maps(
    photos: Sequence[Photo],
    alignment: Alignment,
    maps: Sequence[PriorMap],
    focals: Focals,
    align: Callable[[Sequence[PairEdge], Alignment], Alignment],
) -> Alignment | None:
    """Return the cameras that the ``maps``, of known kinds, tell of; None where those of the
    ``alignment`` agree with them as well, or tracks hold them by themselves.

    ``align`` returns the alignment of edges, with cameras to start from. Lenses are taken for
    pinholes meanwhile, so that scenes of fisheyes stay as they are.
    """
    tracks = alignment.tracks
    placed = np.flatnonzero(alignment.placed).tolist()
    few = len(tracks.xy) < ENOUGH_POINTS * len(placed)
    bent = any(lens.is_fisheye for lens in alignment.lenses)
    if not few or bent or not 3 <= len(placed) <= _MOST_PHOTOS:
        return None
    if not all(map_.values.any() for map_ in maps):
        return None
    joint = _joint(photos, alignment, maps, focals)
    as_is = _state(photos, alignment, maps, joint)
    before, _ = joint.solve(as_is, placed, focals=tell_focals(as_is, placed))
    # Cameras that maps contradict move far before they agree with them, if they come to.
    moved = _turned_deg(as_is.cam_to_world[placed], before.cam_to_world[placed])
    if moved < _SAME_DEG and all(believed(joint, before, k, placed) for k in placed):
        return None
    grown = grow_from_maps(joint)
    if grown is None or len(grown.trusted) < 3 or len(grown.placed) * 2 < len(placed):
        return None
    told = [k for k in grown.trusted if k in placed]
    solved = [
        grown.joint.solve(state, told, focals=tell_focals(grown.state, told))
        for state in (before, grown.state)
    ]
    logger.debug("cost %.0f, from the cameras before %.0f", solved[1][1], solved[0][1])
    # A valley that the cameras before lead to may be as deep.
    grown = replace(grown, state=min(solved, key=lambda one: one[1])[0])
    turned = _turned_deg(as_is.cam_to_world[told], grown.state.cam_to_world[told])
    if turned < _SAME_DEG:
        return None
    start = _start(photos, alignment, grown)
    found = align(_fitting_edges(photos, maps, alignment.edges, grown), start)
    lost = [k for k in placed if found.cam_to_world[k] is None]
    as_found = replace(found, edges=alignment.edges)
    explained = [pair_fits(photos, one).explained for one in (alignment, as_found)]
    logger.debug("%.0f matches explained, %.0f before; %s lost", *explained[::-1], lost)
    return None if lost or explained[1] < _EXPLAINED * explained[0] else found


def _joint(
    photos: Sequence[Photo], alignment: Alignment, maps: Sequence[PriorMap], focals: Focals
) -> JointMaps:
    _, first, index = np.unique(focals.groups, return_index=True, return_inverse=True)
    views = []
    for k, (photo, map_) in enumerate(zip(photos, maps, strict=True)):
        small = made_small(map_, map_.kinds[0])
        long_side = max(photo.width, photo.height)
        scale = float(small.size.max()) / long_side
        sigma = _SIGMA_PX * scale * long_side / REFERENCE_LONG_SIDE
        views.append(
            MapView(
                small,
                alignment.intrinsics[k, :2, 2] * scale,
                scale,
                sigma,
                int(index[k]),
                in_metres=map_.kind == "metres",
            )
        )
    matches = {}
    for edge in alignment.edges:
        i, j = edge.matches.i, edge.matches.j
        verified = edge.matches.select(edge.pose.inliers)
        matches[i, j] = _lifted(verified, photos, maps, views)
    sigmas = focals.log_sigma[first]
    sigmas = np.where(sigmas > 0, np.maximum(sigmas, _LEAST_FOCAL_SIGMA), 0.0)
    return JointMaps(views, matches, np.log(focals.focals_px[first]), sigmas)


def _lifted(
    matches: PairMatches,
    photos: Sequence[Photo],
    maps: Sequence[PriorMap],
    views: Sequence[MapView],
    beside: tuple[Array, Array] = (np.zeros(2), np.zeros(2)),
) -> LiftedMatches:
    """Return the matches with their maps' values, of pixels ``beside`` them."""
    i, j = matches.i, matches.j
    values = [
        maps[k].at(xy + off, photos[k]) / views[k].map_.level
        for k, xy, off in zip((i, j), (matches.xy_i, matches.xy_j), beside, strict=True)
    ]
    return LiftedMatches(matches.xy_i * views[i].scale, matches.xy_j * views[j].scale, *values)


def _state(
    photos: Sequence[Photo], alignment: Alignment, maps: Sequence[PriorMap], joint: JointMaps
) -> MapState:
    """Return the cameras of the alignment, with each map fitted to the points in it."""
    tracks, lines = alignment.tracks, np.zeros((len(photos), 2))
    poses = np.tile(np.eye(4), (len(photos), 1, 1))
    for k, pose in enumerate(alignment.cam_to_world):
        if pose is None:
            continue
        poses[k] = pose
        rows, small = tracks.seen_by(k), joint.views[k].map_
        points = transform_points(invert_rigid(pose), tracks.points[tracks.point_index[rows]])
        values, z = maps[k].at(tracks.xy[rows], photos[k]) / small.level, points[:, 2]
        use = (values != 0) & (z > 0)
        metres = joint.views[k].in_metres
        fit = None if metres else fit_affine(values[use], z[use], kind=small.kind)
        if fit is not None and fit.scale > 0:
            lines[k] = np.log(fit.scale), fit.shift / fit.scale
        elif use.any():
            lines[k, 0] = np.median(small.sign * np.log(z[use]) - np.log(np.abs(values[use])))
    log_focal = joint.log_focal.copy()
    for k, view in enumerate(joint.views):
        if alignment.cam_to_world[k] is not None:
            log_focal[view.focal_index] = np.log(alignment.intrinsics[k, 0, 0])
    return MapState(poses, lines, log_focal)


def _turned_deg(old: Array, new: Array) -> float:
    """Return by how much the cameras (N, 4, 4) are turned to each other differently, at most."""
    between = [
        poses[:, None, :3, :3].swapaxes(-1, -2) @ poses[None, :, :3, :3] for poses in (old, new)
    ]
    return float(rotation_angle_deg(between[0].swapaxes(-1, -2) @ between[1]).max())


def _start(photos: Sequence[Photo], alignment: Alignment, grown: Grown) -> Alignment:
    """Return the alignment with the cameras that the maps tell of. Other photos stand beside one of
    those as they did.
    """
    views, state = grown.joint.views, grown.state
    intrinsics = alignment.intrinsics.copy()
    for k in range(len(photos)):
        intrinsics[k, [0, 1], [0, 1]] = np.exp(state.log_focal[views[k].focal_index])
    poses: list[Array | None] = [None] * len(photos)
    for k in grown.placed:
        poses[k] = state.cam_to_world[k]
    for k, pose in enumerate(alignment.cam_to_world):
        if pose is None or k in grown.placed:
            continue
        shared = [
            (int(edge.pose.inliers.sum()), other)
            for edge in alignment.edges
            for k_, other in (
                (edge.matches.i, edge.matches.j),
                (edge.matches.j, edge.matches.i),
            )
            if k_ == k and other in grown.placed and alignment.cam_to_world[other] is not None
        ]
        if shared:
            other = max(shared)[1]
            there = alignment.cam_to_world[other]
            assert there is not None
            step = invert_rigid(there) @ pose
            step[:3, 3] *= _larger(alignment, grown)
            poses[k] = state.cam_to_world[other] @ step
    return replace(alignment, cam_to_world=tuple(poses), intrinsics=intrinsics)


def _larger(alignment: Alignment, grown: Grown) -> float:
    """Return how much farther apart cameras are than they were, typically."""
    known = [k for k in grown.placed if alignment.cam_to_world[k] is not None]
    before = np.array([alignment.cam_to_world[k] for k in known])[:, :3, 3]
    after = grown.state.cam_to_world[known, :3, 3]
    spread = [np.linalg.norm(c - np.median(c, axis=0), axis=1) for c in (before, after)]
    return float(np.median(spread[1]) / max(float(np.median(spread[0])), 1e-12))


def _fitting_edges(
    photos: Sequence[Photo],
    maps: Sequence[PriorMap],
    edges: Sequence[PairEdge],
    grown: Grown,
) -> list[PairEdge]:
    """Return the edges with the matches alone that fit the maps, whether or not they were verified.

    Those of photos whose maps are not believed stay as they are.
    """
    found = []
    for edge in edges:
        i, j = edge.matches.i, edge.matches.j
        if not (i in grown.trusted or j in grown.trusted) or not {i, j} <= set(grown.placed):
            found.append(edge)
            continue
        kept = edge.matches.select(_fits(photos, maps, edge.matches, grown))
        if len(kept) < _FEWEST_LEFT:
            found.append(edge)
            continue
        poses = grown.state.cam_to_world
        step = invert_rigid(poses[i]) @ poses[j]
        step[:3, 3] /= max(float(np.linalg.norm(step[:3, 3])), 1e-12)
        pose = replace(
            edge.pose,
            cam2_to_cam1=step,
            inliers=np.ones(len(kept), bool),
            alternative=None,
        )
        found.append(PairEdge(kept, pose))
    return found


def _fits(
    photos: Sequence[Photo], maps: Sequence[PriorMap], matches: PairMatches, grown: Grown
) -> Mask:
    """Return which matches (M,) lie where the maps have them, beside edges on either side."""
    joint, i, j = grown.joint, matches.i, matches.j
    least = np.full((2, len(matches)), np.inf)
    for x in _BESIDE:
        for y in _BESIDE:
            steps = [np.array([x, y]) / joint.views[k].scale for k in (i, j)]
            moved = _lifted(matches, photos, maps, joint.views, (steps[0], steps[1]))
            for n, (a, b, one) in enumerate(((i, j, moved), (j, i, moved.swapped()))):
                off, _ = joint.match_errors(grown.state, a, b, one)
                silent = (one.value_i == 0) | (not joint.views[a].trusted)
                least[n] = np.minimum(least[n], np.where(silent, 0, off))
    return np.asarray((least < FITS).all(axis=0))
