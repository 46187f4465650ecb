"""Which photos a photo's depth is searched with, and how near and far the search goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array, invert_rigid, pixel_rays, project, transform_points

if TYPE_CHECKING:
    from recon.stereo.view import StereoView

# What a place that only the prior puts into another photo counts, against a shared scene point.
_UNSEEN = 0.2
# A source worse than the best by more than this adds noise rather than support.
_LEAST_SHARE = 0.01
# Rows, and columns, of the prior's points that are projected.
_GRID = 16
# The best angle between two rays, the weight's standard deviations below and above it, and the
# angle below which depth is anyone's guess, however many points are shared.
_BEST_DEG, _SPREADS_DEG, _LEAST_DEG = 8.0, (3.0, 12.0), 0.3
# Depths from which percentiles are taken at least.
_FEWEST = 20
# Factors by which the range of depth is widened.
_BEFORE, _BEYOND = 0.7, 1.5


def choose_sources(views: Sequence[StereoView], index: int, count: int) -> list[int]:
    """Return up to ``count`` views to compare view ``index`` with, best first.

    A shared scene point counts by the angle between its two rays: most near 8 degrees, little below
    2 (no parallax) or above 30 (looks too different). Views without shared points are judged by
    where the prior depth projects, at a discount because nothing says the surface is visible.
    """
    view = views[index]
    grid = _prior_points(view)
    scores = []
    for j, other in enumerate(views):
        if j == index:
            scores.append(0.0)
            continue
        shared = np.isin(view.point_ids, other.point_ids)
        score = _angle_weight(view, other, view.points[shared]).sum() / max(len(shared), 1)
        if len(grid):
            inside = _inside(other, grid)
            score += _UNSEEN * _angle_weight(view, other, grid[inside]).sum() / len(grid)
        scores.append(float(score))
    ranked = sorted(range(len(views)), key=lambda j: (-scores[j], j))
    enough = max(scores) * _LEAST_SHARE
    return [j for j in ranked[:count] if scores[j] > max(enough, 1e-4)]


def _prior_points(view: StereoView) -> Array:
    """Return world points (G, 3) of the prior depth on a coarse grid."""
    height, width = view.prior.depth.shape
    row, column = (
        axis.ravel()
        for axis in np.meshgrid(
            np.linspace(0, height - 1, _GRID).astype(int),
            np.linspace(0, width - 1, _GRID).astype(int),
            indexing="ij",
        )
    )
    z = view.prior.depth[row, column].astype(np.float64)
    rays = pixel_rays(np.stack([column + 0.5, row + 0.5], -1), view.intrinsics, view.k1)
    return transform_points(view.cam_to_world, rays * z[:, None])[z > 0]


def _inside(view: StereoView, points: Array) -> NDArray[np.bool_]:
    """Return which world points (P, 3) project into the photo."""
    in_camera = transform_points(invert_rigid(view.cam_to_world), points)
    xy = project(in_camera, view.intrinsics, view.k1)
    height, width = view.pixels.shape[:2]
    with np.errstate(invalid="ignore"):
        return np.all((xy >= 0) & (xy <= [width, height]), axis=-1)


def _angle_weight(view: StereoView, other: StereoView, points: Array) -> Array:
    """Return weights (P,) in [0, 1] by the angle at which two cameras see each point."""
    rays = [points - v.cam_to_world[:3, 3] for v in (view, other)]
    unit = [ray / np.linalg.norm(ray, axis=-1, keepdims=True).clip(1e-12) for ray in rays]
    angle = np.degrees(np.arccos(np.clip((unit[0] * unit[1]).sum(-1), -1, 1)))
    weight = np.exp(-0.5 * ((angle - _BEST_DEG) / np.where(angle < _BEST_DEG, *_SPREADS_DEG)) ** 2)
    return weight * (angle > _LEAST_DEG)


def inverse_range(view: StereoView) -> tuple[float, float]:
    """Return the smallest and largest inverse depth to search.

    The prior's range, held to within a factor of two of the scene points' where there are enough of
    them; widened because both miss the nearest and farthest surfaces.
    """
    prior = view.prior.depth[view.prior.depth > 0]
    z = transform_points(invert_rigid(view.cam_to_world), view.points)[:, 2]
    z = z[z > 0]
    # Without the outermost hundredths: a few wrong depths would stretch the range.
    ranges = [np.percentile(d, [1, 99]) for d in (prior, z) if len(d) >= _FEWEST]
    if not ranges:
        return 0.0, 0.0
    near, far = min(r[0] for r in ranges), max(r[1] for r in ranges)
    if len(z) >= _FEWEST:
        near, far = max(near, ranges[-1][0] / 2), min(far, ranges[-1][1] * 2)
    return float(1 / (far * _BEYOND)), float(1 / (near * _BEFORE))
