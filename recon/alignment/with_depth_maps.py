"""Cameras that few feature tracks hold, refined with what a depth model says of each photo.

Tracks through two photos alone don't tell how long one camera's step is beside another's: groups of
photos that few tracks join come out at scales of their own, and the focal length with them. A depth
model's maps are far less accurate than tracks, but each spans its whole photo.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pointmap.camera import Array, invert_rigid, project, transform_points
from pointmap.images import Photo
from pointmap.lens import Lens
from recon.alignment.bundle_adjustment import bundle_adjust
from recon.alignment.camera_model import BundleOptions, BundleProblem
from recon.alignment.solved_problem import problem_of
from recon.prediction.affine_fit import AffineFit, fit_affine
from recon.prediction.given_maps import PriorMap
from recon.stage_results import Alignment, Focals

logger = logging.getLogger(__name__)

ENOUGH_POINTS = 400
"""Scene points a photo sees, on average, from which on tracks hold the cameras by themselves."""
# Points that a scale and a shift are fitted to; a map that fits them worse than this is not asked.
_FEWEST_POINTS, _CREDIBLE = 8, 0.1
# Log depth that a map may be off by. Several times the error of a good one: errors of a map are
# smooth, so that hundreds of points in it have a few of them.
_LOG_SIGMA = 0.15
# Maps are fitted to the points and the points to the maps in turn; it changes little after ten.
_ROUNDS, _STEPS = 12, 5
# Of the observations that fit within :data:`_FITS` sigmas this share may be lost.
_FITS, _MAY_LOSE = 3.0, 0.03


def with_depth_maps(
    photos: Sequence[Photo], alignment: Alignment, maps: Sequence[PriorMap], focals: Focals
) -> Alignment:
    """Return the alignment, refined so that its points also lie where the photos' ``maps`` say.

    It comes back as it is where tracks hold it by themselves, where photos were placed by pointmaps
    (their scale would no longer fit), and where the key points contradict the maps. ``focals``: of
    the pairs, whose groups share a focal length. The unit of length may change.
    """
    tracks = alignment.tracks
    placed = alignment.placed
    counts = np.bincount(tracks.view_index, minlength=len(placed))
    held = counts[placed]
    if placed.sum() < 3 or held.min() == 0 or held.mean() >= ENOUGH_POINTS:
        return alignment
    problem, numbers = problem_of(photos, alignment, focals)
    values = np.zeros(len(tracks.xy))
    for k in numbers:
        rows = tracks.seen_by(k)
        values[rows] = maps[k].at(tracks.xy[rows], photos[k])
    before = _fitting(problem)
    for _ in range(_ROUNDS):
        known_z = _depths_of_maps(problem, values, [maps[k] for k in numbers])
        if not known_z.any():
            return alignment
        asked = replace(problem, known_z=known_z, known_z_log_sigma=_LOG_SIGMA)
        found = bundle_adjust(asked, BundleOptions(max_iterations=_STEPS))
        problem = replace(
            problem,
            cam_to_world=found.cam_to_world,
            focals_px=found.focals_px,
            points=found.points,
        )
    if _fitting(problem) < (1 - _MAY_LOSE) * before:
        logger.debug("the depth maps contradict the key points: cameras stay as they were")
        return alignment
    poses: list[Array | None] = list(alignment.cam_to_world)
    intrinsics = alignment.intrinsics.copy()
    for n, k in enumerate(numbers):
        poses[k] = problem.cam_to_world[n]
        intrinsics[k, [0, 1], [0, 1]] = problem.focals_px[problem.focal_index[n]]
    logger.debug(
        "with depth maps the focal length of the first photo goes from %.0f to %.0f px",
        alignment.intrinsics[0, 0, 0],
        intrinsics[0, 0, 0],
    )
    moved = replace(tracks, points=problem.points)
    return replace(alignment, cam_to_world=tuple(poses), intrinsics=intrinsics, tracks=moved)


def _lens(problem: BundleProblem, group: int) -> Lens:
    assert problem.more is not None
    more = problem.more
    return Lens.solved(problem.k1[group], more.k2[group], bool(more.fisheye[group]))


def _fitting(problem: BundleProblem) -> int:
    """Return how many observations fit within :data:`_FITS` sigmas."""
    count = 0
    for n, pose in enumerate(problem.cam_to_world):
        rows = problem.camera_index == n
        group = problem.focal_index[n]
        K = np.diag([problem.focals_px[group], problem.focals_px[group], 1.0])
        K[:2, 2] = problem.principal[n]
        points = transform_points(invert_rigid(pose), problem.points[problem.point_index[rows]])
        off = project(points, K, _lens(problem, group)) - problem.xy[rows]
        fits = np.linalg.norm(off, axis=1) < _FITS * problem.sigma_px[rows]
        count += int((fits & (points[:, 2] > 0)).sum())
    return count


def _depths_of_maps(problem: BundleProblem, values: Array, maps: Sequence[PriorMap]) -> Array:
    """Return the depth (M,) that each observation's map says, scaled and shifted to the points as
    they are; 0 where the map says nothing or is not to be believed.
    """
    known = np.zeros(len(values))
    for n, map_ in enumerate(maps):
        rows = np.flatnonzero((problem.camera_index == n) & (values != 0))
        pose = invert_rigid(problem.cam_to_world[n])
        z = transform_points(pose, problem.points[problem.point_index[rows]])[:, 2]
        fit = _best_fit(map_, values[rows], z)
        if fit is not None and fit.error < _CREDIBLE:
            known[rows] = fit.depth(values[rows])
    return known


def _best_fit(map_: PriorMap, values: Array, z: Array) -> AffineFit | None:
    if len(values) < _FEWEST_POINTS:
        return None
    fits = [f for kind in map_.kinds if (f := fit_affine(values, z, kind=kind)) is not None]
    return min(fits, key=lambda fit: fit.error) if fits else None
