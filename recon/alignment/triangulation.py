"""Points from rays: two-view midpoints, multi-view refinement, reprojection and angles, batched."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pointmap.camera import Array, Index

if TYPE_CHECKING:
    from recon.alignment.cameras import Cameras


def midpoints(centres_1: Array, rays_1: Array, centres_2: Array, rays_2: Array) -> Array:
    """Return the points (M, 3) midway where two rays come closest; NaN for parallel rays.

    ``rays`` are unit vectors. The point may lie behind a camera: nothing is checked.
    """
    baseline = centres_2 - centres_1
    cosine = (rays_1 * rays_2).sum(axis=1)
    sine2 = 1 - cosine**2
    sine2 = np.where(sine2 > 1e-12, sine2, np.nan)
    along_1, along_2 = (baseline * rays_1).sum(axis=1), (baseline * rays_2).sum(axis=1)
    distance_1 = (along_1 - cosine * along_2) / sine2
    distance_2 = (cosine * along_1 - along_2) / sine2
    point_1 = centres_1 + distance_1[:, None] * rays_1
    return 0.5 * (point_1 + centres_2 + distance_2[:, None] * rays_2)


def angles_deg(rays_1: Array, rays_2: Array) -> Array:
    """Return the angles (M,) between unit rays."""
    cross = np.linalg.norm(np.cross(rays_1, rays_2), axis=1)
    return np.degrees(np.arctan2(cross, (rays_1 * rays_2).sum(axis=1)))


def refine_points(
    cameras: Cameras,
    points: Array,
    *,
    point: Index,
    view: Index,
    xy: Array,
    sigma_px: Array,
    iterations: int = 4,
) -> Array:
    """Return points (P, 3) after Gauss-Newton on their reprojection errors.

    One row per observation in ``point`` (M,), sorted and naming every point, ``view`` (M,), ``xy``
    (M, 2) and ``sigma_px`` (M,). A point that a step would make worse keeps its place. Errors are
    those of the pinhole picture, freed of lens distortion.
    """
    starts = np.flatnonzero(np.concatenate([[True], point[1:] != point[:-1]]))
    world_to_cam = cameras.cam_to_world[view, :3, :3].transpose(0, 2, 1)
    focal = cameras.focals_px[view]
    seen = cameras.on_plane(view, xy)
    best, best_cost = points, np.full(len(points), np.inf)
    for step in range(iterations + 1):
        p = cameras.to_camera(view, points[point])
        in_front = p[:, 2] > 1e-9
        z = np.where(in_front, p[:, 2], 1.0)
        residual = focal[:, None] * (p[:, :2] / z[:, None] - seen)
        # Behind a camera: 10,000 px off, so that no point moves there.
        residual = np.where(in_front[:, None], residual, 1e4) / sigma_px[:, None]
        cost = np.add.reduceat((residual**2).sum(axis=1), starts)
        better = cost < best_cost
        best, best_cost = np.where(better[:, None], points, best), np.minimum(cost, best_cost)
        if step == iterations:
            break
        slope = np.where(in_front, focal / (z * sigma_px), 0.0)
        to_frame = np.zeros((len(view), 2, 3))
        to_frame[:, 0, 0] = to_frame[:, 1, 1] = slope
        to_frame[:, :, 2] = -slope[:, None] * p[:, :2] / z[:, None]
        J = to_frame @ world_to_cam
        Jt = J.transpose(0, 2, 1)
        normal = np.add.reduceat(Jt @ J, starts)
        gradient = np.add.reduceat((Jt @ residual[:, :, None])[:, :, 0], starts)
        ridge = 1e-6 * np.einsum("pii->p", normal) + 1e-30
        normal += ridge[:, None, None] * np.eye(3)
        points = best - np.linalg.solve(normal, gradient[:, :, None])[:, :, 0] * better[:, None]
    return best


def widest_angles_deg(cameras: Cameras, points: Array, *, point: Index, view: Index) -> Array:
    """Return the widest angle (P,) under which any two photos of a point see it.

    ``point`` (M,) sorted, naming every point, and ``view`` (M,): the observations.
    """
    rays = points[point] - cameras.cam_to_world[view, :3, 3]
    rays /= np.maximum(np.linalg.norm(rays, axis=1, keepdims=True), 1e-30)
    counts = np.bincount(point, minlength=len(points))
    first, second = pairs_within(counts)
    if len(first) == 0:
        return np.zeros(len(points))
    squared_chord = ((rays[first] - rays[second]) ** 2).sum(axis=1)
    ends = np.cumsum(counts**2)
    widest = np.maximum.reduceat(squared_chord, np.concatenate([[0], ends[:-1]]))
    return np.degrees(2 * np.arcsin(np.minimum(np.sqrt(widest) / 2, 1.0)))


def pairs_within(counts: Index) -> tuple[Index, Index]:
    """Return all ordered pairs of rows (T,), (T,) within consecutive groups of these sizes."""
    starts = np.repeat(np.concatenate([[0], np.cumsum(counts)[:-1]]), counts)
    partners = np.repeat(counts, counts)
    first = np.repeat(np.arange(len(partners)), partners)
    return first, ragged_range(starts, partners)


def ragged_range(starts: Index, counts: Index) -> Index:
    """Return the concatenation of ``arange(start, start + count)`` over all rows."""
    total = int(counts.sum())
    before = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64)
    return np.asarray(np.repeat(starts - before, counts) + np.arange(total), np.int64)
