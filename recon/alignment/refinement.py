"""Points and cameras improved in turn: triangulate, adjust, drop what doesn't fit, again."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pointmap.camera import Array, Index, Mask
from pointmap.freed_memory import return_if_grown
from recon.alignment.bundle_adjustment import BundleResult, bundle_adjust
from recon.alignment.camera_model import BundleOptions, BundleProblem, RichLenses
from recon.alignment.cameras import Cameras
from recon.alignment.tracks import (
    MatchTable,
    TrackSet,
    filter_tracks,
    fitting_matches,
    keep_observations,
    node_thresholds,
    triangulate_tracks,
    without_collapsed,
)
from recon.alignment.triangulation import widest_angles_deg

# Least angle of points in scenes that hold too few others: there half a pixel at a focal length of
# 600 px is an error of a sixth in depth.
_SMALL_ANGLE_DEG = 0.4
# An edge is part of the scene where more than this share of its verified matches fit: most, though
# thresholds are tighter here than when they were verified.
_AGREEING_SHARE = 0.6
# Steps of a bundle adjustment at most, and the relative decrease of its cost that ends it: rounds
# before the last are soon repeated with other points.
_STEPS = 30
_TOLERANCE, _LAST_TOLERANCE = 1e-4, 1e-6
# Cameras that move by less (radians, shares of the scene) stand still, whatever points still do.
_LAST_MOTION = 1e-5
# Scenes of so many photos cost little: all their points take part in every round.
_FEW_PHOTOS = 30
# Damping of the first step where there are more: a walk of 500 photos bends as a whole at next to
# no cost, and with a thousand times more it takes five more steps until it does.
LITTLE_DAMPING = 1e-9
# The model of a camera (pinhole, no distortion) is no better than this on a real photo, however
# finely key points are found: at 640 px.
_MODEL_SIGMA_PX = 0.5


@dataclass(frozen=True)
class AlignOptions:
    """How photos are aligned. Pixel figures are for a photo of 640 px and scale with its size."""

    max_edge_error_deg: float = 10.0
    """Edges that contradict the averaged rotations by more are dropped."""
    first_threshold_px: float = 8.0
    """Reprojection error allowed while cameras are rough."""
    threshold_px: float = 2.0
    """Reprojection error allowed in the end."""
    min_angle_deg: float = 1.5
    """Points whose rays all meet under less than this are left out."""
    min_observations: int = 10
    """A photo that sees fewer points is not placed, unless it stands where another one does."""


@dataclass(frozen=True)
class LensModel:
    """What lenses can do that aren't known: whether they are a ``fisheye``, and what is solved for
    beside their focal length: ``k1``, ``k2``, and the principal point, ``centre``, of all photos or
    of those that are named (N,).
    """

    fisheye: bool = False
    k1: bool = True
    k2: bool = False
    centre: bool | tuple[bool, ...] = False


@dataclass(frozen=True)
class FreedLenses:
    """What is solved for beside focal lengths and k1, of each lens (G,): ``k2_sigma``, how far the
    second coefficient may be from 0, and ``centre_sigma_px``, how far the principal point may be
    from the photo's middle (``middle_px`` (N, 2), of each photo); 0 for what is held.
    """

    k2_sigma: Array
    centre_sigma_px: Array
    middle_px: Array


@dataclass(frozen=True)
class Setup:
    """What stays the same while a scene is built.

    ``table``: the matches of all ``edges`` edges.
    ``focal_group`` (N,) int names each photo's focal; ``focal_prior_px``, ``focal_log_sigma`` (G,)
    with sigma 0 for a known focal; ``k1_sigma`` (G,) the same of its radial distortion, drawn to 0;
    ``known_pose`` (N,) bool; ``freed``: what else of the lenses is solved for, if anything;
    ``seed``: of random choices.
    """

    table: MatchTable
    edges: int
    focal_group: Index
    focal_prior_px: Array
    focal_log_sigma: Array
    k1_sigma: Array
    known_pose: Mask
    options: AlignOptions
    freed: FreedLenses | None = None
    seed: int = 0


@dataclass(frozen=True)
class Structure:
    """A scene under construction."""

    cameras: Cameras
    tracks: TrackSet

    def observation_counts(self, table: MatchTable) -> Index:
        """Return how many points each photo sees (N,)."""
        views = table.node_view[self.tracks.node]
        return np.bincount(views, minlength=len(self.cameras.registered))


def triangulate_scene(
    setup: Setup, cameras: Cameras, threshold_px: float, *, use: Mask, few: bool = False
) -> Structure:
    """Return the structure that the matches ``use`` (M,) between placed photos give, or ``few`` of
    its points.

    Photos that would see too few points keep those under small angles.
    """
    table, options = setup.table, setup.options
    tracks = triangulate_tracks(
        table,
        cameras,
        threshold_px=threshold_px,
        min_angle_deg=_SMALL_ANGLE_DEG,
        use=use,
        few=few,
    )
    tracks = without_collapsed(table, cameras, tracks)
    if len(tracks.points) == 0:
        return Structure(cameras, tracks)
    view = table.node_view[tracks.node]
    angles = widest_angles_deg(cameras, tracks.points, point=tracks.point, view=view)
    wide = (angles >= options.min_angle_deg)[tracks.point]
    counts = np.bincount(view[wide], minlength=len(cameras.registered))
    needed = wide | (counts < options.min_observations)[view]
    kept = np.zeros(len(tracks.points), bool)
    kept[tracks.point[needed]] = True
    return Structure(cameras, keep_observations(tracks, kept[tracks.point]))


def adjust(
    setup: Setup,
    structure: Structure,
    options: BundleOptions,
    *,
    free_lens: Mask | None = None,
    slack: Array | None = None,
) -> Structure:
    """Return the structure after bundle adjustment of the placed photos that see points.

    The radial distortion changes only in the photos ``free_lens`` (N,), by default in none.
    ``slack`` (M,): how many times as large as usual the errors of observations may be, by default
    not at all.
    """
    tracks, table = structure.tracks, setup.table
    seen = np.flatnonzero(np.bincount(table.node_view[tracks.node]))
    if len(seen) == 0:
        return structure
    groups, lens = np.unique(setup.focal_group[seen], return_inverse=True)
    used = _Used(seen, groups, lens, seen[np.unique(lens, return_index=True)[1]])
    problem = _problem(setup, structure, used, free_lens, slack)
    result = bundle_adjust(problem, options)
    cameras = _as_adjusted(setup, structure.cameras, used, problem, result)
    return Structure(cameras, TrackSet(result.points, tracks.point, tracks.node))


@dataclass(frozen=True)
class _Used:
    """The ``photos`` (S,) that see points, the ``groups`` (G,) that share their lenses, which of
    these each is of, ``lens`` (S,), and a photo of each group, ``member`` (G,).
    """

    photos: Index
    groups: Index
    lens: Index
    member: Index


def _problem(
    setup: Setup, structure: Structure, used: _Used, free_lens: Mask | None, slack: Array | None
) -> BundleProblem:
    """Return what bundle adjustment solves; ``free_lens``, ``slack``: as for :func:`adjust`."""
    cameras, tracks, table = structure.cameras, structure.tracks, setup.table
    seen, groups, member = used.photos, used.groups, used.member
    free_lens = np.zeros(len(cameras.k1), bool) if free_lens is None else free_lens
    view = table.node_view[tracks.node]
    number = np.zeros(len(cameras.registered), np.int64)
    number[seen] = np.arange(len(seen))
    sigma = np.maximum(table.node_sigma_px[tracks.node], _MODEL_SIGMA_PX * cameras.unit_px[view])
    return BundleProblem(
        cam_to_world=cameras.cam_to_world[seen],
        principal=cameras.principal[seen],
        focals_px=cameras.focals_px[member],
        focal_index=used.lens,
        points=tracks.points,
        camera_index=number[view],
        point_index=tracks.point,
        xy=table.node_xy[tracks.node],
        sigma_px=sigma if slack is None else slack * sigma,
        fixed_pose=setup.known_pose[seen],
        fixed_focal=setup.focal_log_sigma[groups] == 0,
        focal_prior_px=setup.focal_prior_px[groups],
        focal_log_sigma=setup.focal_log_sigma[groups],
        k1=cameras.k1[member],
        k1_sigma=np.where(free_lens[member], setup.k1_sigma[groups], 0.0),
        more=_rich_lenses(setup.freed, cameras, used),
    )


def _rich_lenses(freed: FreedLenses | None, cameras: Cameras, used: _Used) -> RichLenses | None:
    """Return what lenses are solved for, or are, beyond focal length and k1; None where nothing."""
    seen, groups, member = used.photos, used.groups, used.member
    if freed is None and not cameras.fisheye[seen].any() and not cameras.k2[seen].any():
        return None
    none = np.zeros(len(groups))
    return RichLenses(
        cameras.fisheye[member],
        cameras.k2[member],
        none if freed is None else freed.k2_sigma[groups],
        none if freed is None else freed.centre_sigma_px[groups],
        None if freed is None else cameras.principal[member] - freed.middle_px[member],
    )


def _as_adjusted(
    setup: Setup, cameras: Cameras, used: _Used, problem: BundleProblem, result: BundleResult
) -> Cameras:
    """Return the cameras with what was solved for; photos that see nothing follow those of their
    lens that do.
    """
    cam_to_world = cameras.cam_to_world.copy()
    cam_to_world[used.photos] = result.cam_to_world
    sharing = np.flatnonzero(np.isin(setup.focal_group, used.groups))
    lens = np.searchsorted(used.groups, setup.focal_group[sharing])
    focals, k1 = cameras.focals_px.copy(), cameras.k1.copy()
    focals[sharing], k1[sharing] = result.focals_px[lens], result.k1[lens]
    cameras = replace(cameras, cam_to_world=cam_to_world, focals_px=focals, k1=k1)
    if problem.more is None:
        return cameras
    k2, principal = cameras.k2.copy(), cameras.principal.copy()
    k2[sharing] = result.k2[lens]
    principal[sharing] += result.shift_px[lens]
    return replace(cameras, k2=k2, principal=principal)


def trim(setup: Setup, structure: Structure, threshold_px: float) -> Structure:
    """Return the structure without observations whose error exceeds ``threshold_px``, nor points
    that bundle adjustment drew next to a camera.
    """
    limits = node_thresholds(setup.table, structure.cameras, threshold_px)
    tracks = filter_tracks(
        setup.table, structure.cameras, structure.tracks, limits=limits, min_angle_deg=0.0
    )
    return Structure(structure.cameras, without_collapsed(setup.table, structure.cameras, tracks))


def refine(setup: Setup, cameras: Cameras, *, trusted: Mask | None = None) -> Structure:
    """Return cameras and points after rounds of triangulation and adjustment.

    ``trusted`` (E,): the cameras are rough and come from these edges; start with a wide threshold
    and their verified matches. Otherwise the cameras are nearly right, and only the last rounds are
    gone through: all matches that fit, of all edges that agree with the scene.

    A lens that bends next to nothing is taken for a pinhole in the last round.
    """
    table = setup.table
    first, last = setup.options.first_threshold_px, setup.options.threshold_px
    rough = [] if trusted is None else [first, first, (first * last) ** 0.5]
    thresholds = [*rough, last, last]
    for step, threshold in enumerate(thresholds):
        if trusted is not None and step < len(rough):
            use = table.inlier & trusted[table.edge]
        else:
            use = agreeing_edges(setup, cameras)[table.edge]
        free_lens = np.ones(len(cameras.k1), bool)
        is_last = step == len(thresholds) - 1
        if is_last:
            cameras = _without_faint_lenses(cameras)
            free_lens = (cameras.k1 != 0) | cameras.fisheye
        many = cameras.registered.sum() > _FEW_PHOTOS
        few = not is_last and many
        structure = triangulate_scene(setup, cameras, threshold, use=use, few=few)
        bundle = BundleOptions(
            loss_scale=threshold,
            damping=LITTLE_DAMPING if many else BundleOptions.damping,
            max_iterations=_STEPS,
            tolerance=_LAST_TOLERANCE if is_last else _TOLERANCE,
            least_motion=_LAST_MOTION if is_last else 0.0,
        )
        # Triangulation leaves much behind, and bundle adjustment needs most.
        return_if_grown()
        structure = adjust(setup, structure, bundle, free_lens=free_lens)
        cameras = structure.cameras
    return trim(setup, structure, last)


def _without_faint_lenses(cameras: Cameras) -> Cameras:
    """Return the cameras with k1 = 0 where it moves no corner of the photo by a pixel."""
    farthest = np.maximum(cameras.principal, cameras.size_px - cameras.principal)
    reach = np.linalg.norm(farthest, axis=1)
    moved_px = np.abs(cameras.k1) * (reach / cameras.focals_px) ** 2 * reach
    faint = (moved_px < cameras.unit_px) & (cameras.k2 == 0) & ~cameras.fisheye
    return replace(cameras, k1=np.where(faint, 0.0, cameras.k1))


def share_explained(
    setup: Setup,
    cameras: Cameras,
    *,
    threshold_px: float | None = None,
    only: Mask | None = None,
) -> Array:
    """Return the share (E,) of each edge's verified matches that fit the cameras.

    0 for an edge with a photo that is not placed. ``threshold_px``: the final one by default.
    ``only`` (E,): the edges that are asked for, all by default; of others 0.
    """
    table = setup.table
    limits = node_thresholds(table, cameras, threshold_px or setup.options.threshold_px)
    use = table.inlier if only is None else table.inlier & only[table.edge]
    fits = fitting_matches(table, cameras, limits=limits, use=use)
    total = np.bincount(table.edge[table.inlier], minlength=setup.edges)
    return np.bincount(table.edge[fits], minlength=setup.edges) / np.maximum(total, 1)


def agreeing_edges(
    setup: Setup,
    cameras: Cameras,
    *,
    threshold_px: float | None = None,
    only: Mask | None = None,
) -> Mask:
    """Return which edges (E,), of ``only`` some, are part of the scene: enough of their verified
    matches fit.
    """
    share = share_explained(setup, cameras, threshold_px=threshold_px, only=only)
    return share > _AGREEING_SHARE


def without(setup: Setup, structure: Structure, photos: Mask) -> Structure:
    """Return the structure with ``photos`` (N,) no longer placed, nor the points only they made."""
    cameras = replace(structure.cameras, registered=structure.cameras.registered & ~photos)
    seen_by_others = ~photos[setup.table.node_view[structure.tracks.node]]
    return Structure(cameras, keep_observations(structure.tracks, seen_by_others))
