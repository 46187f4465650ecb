"""From pairwise poses to one scene: cameras, shared focals and feature tracks."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array, Index, Mask, invert_rigid, transform_points
from recon.alignment.cameras import Cameras, sizes_px
from recon.alignment.closed_loops import close_loops
from recon.alignment.first_cameras import PoseGraph, first_cameras, largest_component
from recon.alignment.incremental import best_pair, grow, move_misplaced, start_from_pair
from recon.alignment.known_poses import pin_known_poses
from recon.alignment.refinement import (
    AlignOptions,
    FreedLenses,
    LensModel,
    Setup,
    Structure,
    agreeing_edges,
    refine,
    share_explained,
    without,
)
from recon.alignment.rotations import closing_rotations
from recon.alignment.tracks import TrackSet, build_match_table
from recon.alignment.tracks_and_pointmaps import Combined, combine
from recon.scene import Tracks
from recon.stage_results import (
    Alignment,
    Focals,
    PairEdge,
    PairEvidence,
    PhotoFeatures,
    PhotoPrior,
    unit_px,
)
from recon.two_view.pointmap_pose import pointmap_poses
from recon.work.on_demand import Mapped

if TYPE_CHECKING:
    from pointmap.images import Photo

logger = logging.getLogger(__name__)

# A scene is convincing when it explains this share of all verified matches.
_CONVINCING_SHARE = 0.6
# One photo of many that isn't placed is no reason to build the scene anew.
_MISSING_SHARE = 0.05
# Rounds of moving, dropping and placing photos at most; they end when nothing changes.
_COMPLETION_ROUNDS = 3
# How far, relative to its distance from the centre, a lens is first believed to move a photo's
# corner. Small, because matches of one photo share their errors: thousands weigh like hundreds.
_LENS_SIGMA = 0.0014
# The same of its second coefficient, and how far a principal point may be off the photo's centre,
# as a share of the way to its corner: both are freed only where photos ask for it.
_K2_SIGMA, _CENTRE_SIGMA = 0.1, 0.2
# Of more photos, triangles of pairs don't choose among the two poses of a plane before averaging:
# on the one street of 500 where both were tried, AUC@5 was 65.0 with them and 75.7 without.
_MANY_PHOTOS = 100
_STILL = frozenset({"pure_rotation", "no_parallax"})


def align(
    photos: Sequence[Photo],
    evidence: PairEvidence,
    options: AlignOptions | None = None,
    *,
    seed: int = 0,
    features: Sequence[PhotoFeatures] | None = None,
    known_cam_to_world: Sequence[Array | None] | None = None,
    start: Alignment | None = None,
    lens: LensModel | None = None,
) -> Alignment:
    """Place all photos (one or more) that verified edges or trustworthy pointmaps connect; return
    cameras and tracks.

    Of the ``evidence``: the ``edges``; first guesses of ``focals`` (those that are known are kept
    bit-equal); the ``priors``, one per photo or none at all; the ``sketches`` of pointmaps, which
    place the photos that feature tracks don't hold. ``features`` give the points' colours.

    World: the OpenCV frame of the first placed photo, scaled so that the median depth at which
    cameras see the points is 1; or the world of ``known_cam_to_world`` (4, 4) each, None where not
    known, which come back bit-equal.

    ``start``: what an earlier call with mostly the same evidence returned. Its cameras are gone on
    from, unless they turn out not to explain the evidence well. ``lens``: of the photos whose focal
    length isn't known, by default a pinhole with one radial coefficient.

    The largest connected component of edges becomes the scene; components are never merged.
    """
    options, lens = options or AlignOptions(), lens or LensModel()
    edges, priors = evidence.edges, evidence.priors
    middle_px = np.array([photo.middle for photo in photos])
    setup = _setup(evidence.focals, edges, middle_px, options, lens, seed)
    graph = _pose_graph(len(photos), edges)
    predicted = Mapped(_predicted_depth, priors)
    known = known_cam_to_world or [None] * len(photos)
    given = np.array([pose is not None for pose in known])
    unplaced = _unmatched(photos, setup, fisheye=lens.fisheye)
    pinned = replace(setup, known_pose=given)
    structure = None if start is None else _going_on(photos, pinned, unplaced, graph, start)
    if structure is not None:
        setup = pinned
    else:
        structure = unplaced
        if len(edges):
            structure = _solve(setup, structure.cameras, graph, predicted)
        if given.any():
            setup, structure = pin_known_poses(setup, structure, known)
    poses = pointmap_poses(evidence.sketches, priors, photos, structure.cameras.focals_px)
    scene = combine(setup, structure, poses)
    if not setup.known_pose.any():
        scene = _normalised(setup, scene, predicted)
    tied = np.zeros((0, 2), np.int64) if poses is None else poses.trusted_pairs
    found = _result(photos, setup, scene, _with_pairs(graph, tied), features)
    return replace(found, edges=tuple(edges))


def _predicted_depth(prior: PhotoPrior) -> NDArray[np.float32]:
    """Return the predicted z map (h, w), 0 where unknown."""
    return np.asarray(prior.points[..., 2] * (prior.confidence > 0))


def _with_pairs(graph: PoseGraph, tied: Index) -> tuple[Index, Array]:
    """Return all pairs (E + T, 2) that say how two photos relate, and their weights."""
    pairs = np.concatenate([graph.pairs, tied])
    return pairs, np.concatenate([graph.weights, np.full(len(tied), 1.0)])


def _result(
    photos: Sequence[Photo],
    setup: Setup,
    scene: Combined,
    related: tuple[Index, Array],
    features: Sequence[PhotoFeatures] | None,
) -> Alignment:
    structure = scene.structure
    cameras, tracks, table = structure.cameras, structure.tracks, setup.table
    intrinsics = np.tile(np.eye(3), (len(photos), 1, 1))
    intrinsics[:, 0, 0] = intrinsics[:, 1, 1] = cameras.focals_px
    intrinsics[:, :2, 2] = cameras.principal
    placed = zip(cameras.cam_to_world, cameras.registered, strict=True)
    return Alignment(
        intrinsics=intrinsics,
        lenses=cameras.lenses,
        cam_to_world=tuple(pose if registered else None for pose, registered in placed),
        reasons=_reasons(structure, *related),
        tracks=Tracks(
            tracks.points,
            _colours(setup, structure, features),
            tracks.point,
            table.node_view[tracks.node],
            table.node_xy[tracks.node],
        ),
        edges=(),
        used_edges=agreeing_edges(setup, cameras),
        pointmap_pairs=scene.pairs,
        depth_scale=scene.depth_scale,
    )


def _setup(
    focals: Focals,
    edges: Sequence[PairEdge],
    middle_px: Array,
    options: AlignOptions,
    lens: LensModel,
    seed: int = 0,
) -> Setup:
    """Return the unchanging part of the problem; photos of one focal group share a lens.

    ``middle_px`` (N, 2): the photos' centres.
    """
    # How far corners are from them.
    reach_px = np.linalg.norm(middle_px, axis=1)
    # A known focal joins no group: it stays what was given, whatever the others do.
    keys = [
        f"known {k}" if sigma == 0 else f"camera {name}"
        for k, (name, sigma) in enumerate(zip(focals.groups, focals.log_sigma, strict=True))
    ]
    groups = np.unique(keys, return_inverse=True)[1] if keys else np.zeros(0, np.int64)
    guess_px, sigmas = focals.focals_px, focals.log_sigma
    members = [np.flatnonzero(groups == g) for g in range(int(groups.max(initial=-1)) + 1)]
    # A camera whose focal is known is known to be a pinhole.
    free = np.array([float(sigmas[m[0]] > 0) for m in members])
    reach = np.array([float(np.median(reach_px[m])) for m in members])
    slope = np.array([float(np.median(guess_px[m] / reach_px[m])) for m in members])
    freed = None
    centre = np.broadcast_to(np.asarray(lens.centre), len(guess_px))
    if lens.k2 or centre.any():
        freed = FreedLenses(
            _K2_SIGMA * slope**4 * free * lens.k2,
            _CENTRE_SIGMA * reach * free * [centre[m].any() for m in members],
            middle_px,
        )
    return Setup(
        table=build_match_table(edges),
        edges=len(edges),
        focal_group=groups.astype(np.int64),
        focal_prior_px=np.array([float(np.median(guess_px[m])) for m in members]),
        focal_log_sigma=np.array([float(np.median(sigmas[m])) for m in members]),
        k1_sigma=_LENS_SIGMA * slope**2 * free * lens.k1,
        known_pose=np.zeros(len(guess_px), bool),
        options=options,
        freed=freed,
        seed=seed,
    )


def _unmatched(photos: Sequence[Photo], setup: Setup, *, fisheye: bool = False) -> Structure:
    """Return the scene without any match: the first photo alone."""
    none = np.zeros(0, np.int64)
    cameras = Cameras(
        np.tile(np.eye(4), (len(photos), 1, 1)),
        np.arange(len(photos)) == 0,
        setup.focal_prior_px[setup.focal_group],
        np.array([photo.middle for photo in photos]).reshape(-1, 2),
        sizes_px(photos),
        np.array([unit_px(photo) for photo in photos]),
        np.zeros(len(photos)),
        np.zeros(len(photos)),
        fisheye & (setup.focal_log_sigma[setup.focal_group] > 0),
    )
    return Structure(cameras, TrackSet(np.zeros((0, 3)), none, none))


def _pose_graph(count: int, edges: Sequence[PairEdge]) -> PoseGraph:
    poses = [e.pose for e in edges]
    others = [p.cam2_to_cam1 if p.alternative is None else p.alternative for p in poses]
    graph = PoseGraph(
        np.array([(e.matches.i, e.matches.j) for e in edges], np.int64).reshape(-1, 2),
        np.array([p.cam2_to_cam1 for p in poses], np.float64).reshape(-1, 4, 4),
        np.array(others, np.float64).reshape(-1, 4, 4),
        np.array([_edge_weight(e) for e in edges], np.float64),
        np.array([not (p.flags & _STILL) for p in poses], bool),
        np.array(["pure_rotation" in p.flags for p in poses], bool),
    )
    if count > _MANY_PHOTOS:
        return graph
    rotations = graph.cam2_to_cam1[:, :3, :3], graph.alternative[:, :3, :3]
    return graph.swapped(closing_rotations(count, graph.pairs, *rotations))


def _edge_weight(edge: PairEdge) -> float:
    """Return the inliers times their share: a wrong pose leaves many matches unexplained."""
    inliers = float(edge.pose.inliers.sum())
    return max(inliers * inliers / max(len(edge.matches), 1), 1e-3)


def _going_on(
    photos: Sequence[Photo],
    setup: Setup,
    unplaced: Structure,
    graph: PoseGraph,
    start: Alignment,
) -> Structure | None:
    """Return the scene that the cameras of ``start`` lead to; None where either disappoints."""
    if len(graph.pairs) == 0 or start.placed.sum() < 2:
        return None
    cameras = replace(Cameras.of(photos, start), fisheye=unplaced.cameras.fisheye)
    component = largest_component(len(photos), graph.pairs, graph.weights)
    # Of many photos those are yet to find a place from which it was taken for good reason.
    asked = component & cameras.registered if len(photos) > _MANY_PHOTOS else component
    if _disappoints(setup, replace(unplaced, cameras=cameras), graph, asked):
        return None
    moving = np.zeros(len(photos), bool)
    moving[graph.pairs[graph.moves].ravel()] = True
    structure = refine(setup, cameras)
    structure = _complete(setup, structure, graph, component, moving & ~setup.known_pose)
    return None if _disappoints(setup, structure, graph, component) else structure


def _solve(
    setup: Setup,
    unplaced: Cameras,
    graph: PoseGraph,
    predicted: Sequence[NDArray[np.float32]],
) -> Structure:
    """Return the scene of all photos at once or, where that disappoints, the better of two."""
    component = largest_component(len(unplaced.registered), graph.pairs, graph.weights)
    structure = _globally(setup, unplaced, graph, predicted, component)
    if not _disappoints(setup, structure, graph, component):
        return structure
    other = _incrementally(setup, unplaced, graph, component)
    return max((structure, other), key=_worth)


def _globally(
    setup: Setup,
    unplaced: Cameras,
    graph: PoseGraph,
    predicted: Sequence[NDArray[np.float32]],
    component: Mask,
) -> Structure:
    """Synchronise all photos at once, refine, then place anew the ones that don't fit."""
    start = first_cameras(
        graph,
        unplaced,
        setup.table,
        predicted,
        max_edge_error_deg=setup.options.max_edge_error_deg,
    )
    structure = refine(setup, start.cameras, trusted=start.used)
    # Where nothing is seen in parallax no points can be asked for.
    moving = np.zeros(len(component), bool)
    moving[graph.pairs[start.used & graph.moves].ravel()] = True
    return _complete(setup, structure, graph, component, moving)


def _incrementally(setup: Setup, unplaced: Cameras, graph: PoseGraph, component: Mask) -> Structure:
    """Start from the best pair and add the other photos one by one."""
    best = best_pair(setup, unplaced, graph, component)
    pair = graph.pairs[best]
    structure = start_from_pair(setup, unplaced, pair, graph.cam2_to_cam1[best])
    return _complete(setup, structure, graph, component, component)


def _complete(
    setup: Setup,
    structure: Structure,
    graph: PoseGraph,
    component: Mask,
    moving: Mask,
) -> Structure:
    """Move misplaced photos, close loops, drop photos that see too little, place the missing, and
    again.

    ``component``, ``moving`` (N,): which photos belong to the scene, and which of them must see
    points to stay in it. A photo moved may be what another one needs to find its place.
    """
    loops = None
    for _ in range(_COMPLETION_ROUNDS):
        closed = moved = move_misplaced(setup, structure)
        if not setup.known_pose.any():
            closed, loops = close_loops(setup, moved, graph, loops)
        firm = _drop_weak(setup, closed, moving)
        missing = np.flatnonzero(component & ~firm.cameras.registered)
        grown = grow(setup, firm, missing)
        nothing_new = closed is structure and grown is firm
        structure = grown
        if nothing_new:
            break
        structure = refine(setup, structure.cameras)
    return _drop_weak(setup, structure, moving)


def _drop_weak(setup: Setup, structure: Structure, moving: Mask) -> Structure:
    """Return the structure without the photos that see too few points, of those ``moving`` (N,)."""
    counts = structure.observation_counts(setup.table)
    weak = structure.cameras.registered & moving & (counts < setup.options.min_observations)
    return without(setup, structure, weak) if weak.any() else structure


def _disappoints(setup: Setup, structure: Structure, graph: PoseGraph, component: Mask) -> bool:
    # Photos of other places, which nothing ties to these, have no part in it.
    weights = graph.weights * component[graph.pairs].all(axis=1)
    explained = share_explained(setup, structure.cameras)
    share = float(weights @ explained) / max(float(weights.sum()), 1.0)
    missing = component & ~structure.cameras.registered
    logger.debug("%d photos missing, %.0f %% of matches fit", missing.sum(), 100 * share)
    few_missing = missing.sum() <= _MISSING_SHARE * component.sum()
    return not few_missing or share < _CONVINCING_SHARE


def _worth(structure: Structure) -> tuple[int, int]:
    return int(structure.cameras.registered.sum()), len(structure.tracks.node)


def _normalised(
    setup: Setup, scene: Combined, predicted: Sequence[NDArray[np.float32]]
) -> Combined:
    """Return the scene in the frame of the first placed photo, with median depth 1."""
    cameras, tracks = scene.structure.cameras, scene.structure.tracks
    poses = cameras.cam_to_world
    if not cameras.registered.any():
        return scene
    first = int(np.flatnonzero(cameras.registered)[0])
    to_first = invert_rigid(poses[first])
    view = setup.table.node_view[tracks.node]
    lengths = cameras.to_camera(view, tracks.points[tracks.point])[:, 2]
    told = np.flatnonzero(np.isfinite(scene.depth_scale))
    if len(lengths) == 0 and len(told):
        lengths = np.array([np.median(predicted[k][predicted[k] > 0]) for k in told.tolist()])
        lengths = lengths * scene.depth_scale[told]
    elif len(lengths) == 0:
        # No point has a depth: the farthest photo is at distance 1, if any has moved.
        centres = poses[cameras.registered, :3, 3]
        lengths = np.linalg.norm(centres - poses[first, :3, 3], axis=1).max(keepdims=True)
    scale = 1 / float(np.median(lengths)) if np.median(lengths) > 1e-9 else 1.0
    poses = to_first @ poses
    poses[first] = np.eye(4)
    poses[:, :3, 3] *= scale
    structure = Structure(
        replace(cameras, cam_to_world=poses),
        replace(tracks, points=transform_points(to_first, tracks.points) * scale),
    )
    return replace(scene, structure=structure, depth_scale=scale * scene.depth_scale)


def _reasons(structure: Structure, pairs: Index, weights: Array) -> tuple[str | None, ...]:
    """Return in words why each photo is not placed; None where it is.

    ``pairs`` (E, 2): what matches or trusted pointmaps relate, with their ``weights`` (E,).
    """
    registered = structure.cameras.registered
    component = largest_component(len(registered), pairs, weights)
    matched = np.zeros(len(registered), bool)
    matched[pairs.ravel()] = True
    reasons: list[str | None] = []
    for photo, placed in enumerate(registered):
        if placed:
            reasons.append(None)
        elif not matched[photo]:
            reasons.append("not connected to the other photos: no verified matches with any")
        elif not component[photo]:
            reasons.append(
                "not connected to the scene: verified matches only with others that are not"
            )
        else:
            reasons.append("its matches or pointmaps contradict the scene: too few of them fit")
    return tuple(reasons)


def _colours(
    setup: Setup, structure: Structure, features: Sequence[PhotoFeatures] | None
) -> NDArray[np.uint8]:
    """Return each point's colour (P, 3), the mean over its key points; black where unknown."""
    tracks, table = structure.tracks, setup.table
    total, count = np.zeros((len(tracks.points), 3)), np.zeros(len(tracks.points))
    if features is not None:
        view, keypoint = table.node_view[tracks.node], table.node_keypoint[tracks.node]
        order = np.argsort(view, kind="stable")
        order = order[keypoint[order] >= 0]
        ends = np.searchsorted(view[order], np.arange(len(features) + 1))
        for photo in np.flatnonzero(np.diff(ends)).tolist():
            rows = order[ends[photo] : ends[photo + 1]]
            # Key points that were found since, at twice the size, come after those that are known.
            rows = rows[keypoint[rows] < len(features[photo].colours)]
            np.add.at(total, tracks.point[rows], features[photo].colours[keypoint[rows]])
            np.add.at(count, tracks.point[rows], 1)
    return np.rint(total / np.maximum(count, 1)[:, None]).astype(np.uint8)
