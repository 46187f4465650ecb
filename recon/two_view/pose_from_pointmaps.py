"""A pair's pose from its pointmaps: Procrustes on both predictions, or PnP in RANSAC."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pointmap.camera import (
    Array,
    fit_similarity,
    invert_rigid,
    project,
    rigid,
    transform_points,
)
from recon.prediction.pair_sketch import original_pixels
from recon.prediction.pointmap_focal import DEFAULT_FOCAL, weiszfeld_focal
from recon.stage_results import RelativePose
from recon.two_view.absolute_pose import ransac_pnp
from recon.two_view.epipolar import triangulation_angles_deg
from recon.two_view.relative_pose import pose_flags, pose_score

if TYPE_CHECKING:
    from pointmap.images import Photo
    from pointmap.inference import PairPrediction

# Re-weightings; the kernel narrows with each.
_ROUNDS = 15


def procrustes(
    points_1: Array,
    points_2: Array,
    weights: ArrayLike | None = None,
    *,
    tolerance: float = 0.05,
) -> RelativePose | None:
    """Return the pose that registers the same M points in both frames, (M, 3) each, or None.

    Robust similarity: closed form (Umeyama), re-weighted; errors count relative to the distance
    from the camera. Inliers agree within ``tolerance`` of that distance. The translation is in the
    units of ``points_1``. None with fewer than 10 points, points on a line, or no finite result.
    """
    weights = np.ones(len(points_1)) if weights is None else np.asarray(weights, np.float64)
    reach = np.linalg.norm(points_1, axis=1)
    usable = np.isfinite(points_1).all(1) & np.isfinite(points_2).all(1) & (reach > 0)
    usable &= weights > 0
    if usable.sum() < 10:
        return None
    p1, p2, w = points_1[usable], points_2[usable], weights[usable] / reach[usable] ** 2
    if _is_line(p1) or _is_line(p2):
        return None
    robust = np.ones(len(p1))
    for _ in range(_ROUNDS):
        scale, R, t = fit_similarity(p2, p1, w * robust)
        error = np.linalg.norm(scale * p2 @ R.T + t - p1, axis=1) / reach[usable]
        # The kernel narrows with the fit, down to a fifth of the tolerance.
        width = max(1.5 * float(np.median(error)), tolerance / 5)
        robust = 1 / (1 + (error / width) ** 2) ** 2
    if not scale > 0 or not np.isfinite(t).all():
        return None
    inliers = np.zeros(len(points_1), bool)
    inliers[usable] = error < tolerance
    share = float(weights[inliers].sum() / weights.sum())
    angle = triangulation_angles_deg(rigid(R, t), p1, p2)
    flags = pose_flags(int(inliers.sum()), float(np.median(angle)))
    score = pose_score(share, int(inliers.sum()), float(np.median(angle)))
    return RelativePose(rigid(R, t), "procrustes", inliers, score, flags, metric_scale=True)


def _is_line(points: Array) -> bool:
    """Return whether points (M, 3) lie on a line or in one place, which leaves rotations open."""
    spread = np.linalg.svd(points - points.mean(0), compute_uv=False) / np.sqrt(len(points))
    return bool(spread[1] < 1e-3 * max(spread[0], float(np.abs(points).max())))


def pnp(points_1: Array, pixels_2: Array, intrinsics_2: ArrayLike) -> RelativePose | None:
    """Return camera 2's pose from points (M, 3) in camera 1's frame and their pixels (M, 2) in
    photo 2, or None.

    SQPnP in RANSAC, refined on the inliers, to 1 % of photo 2's long side. The translation is in
    the units of the points.
    """
    K = np.asarray(intrinsics_2, np.float64)
    usable = np.isfinite(points_1).all(1) & np.isfinite(pixels_2).all(1)
    if usable.sum() < 6:
        return None
    threshold_px = 0.02 * float(max(K[0, 2], K[1, 2]))
    points, pixels = points_1[usable], np.ascontiguousarray(pixels_2[usable])
    unit = float(np.median(np.linalg.norm(points, axis=1)))
    if not unit > 0:
        return None
    points = np.ascontiguousarray(points / unit)
    cam1_to_cam2 = ransac_pnp(points, pixels, K, threshold_px)
    if cam1_to_cam2 is None:
        return None
    error = np.linalg.norm(project(transform_points(cam1_to_cam2, points), K) - pixels, axis=1)
    inliers = np.zeros(len(points_1), bool)
    inliers[usable] = error < threshold_px  # NaN behind the camera compares false
    cam2_to_cam1 = invert_rigid(cam1_to_cam2)
    angle = triangulation_angles_deg(cam2_to_cam1, points, transform_points(cam1_to_cam2, points))
    cam2_to_cam1[:3, 3] *= unit
    count = int(inliers.sum())
    score = pose_score(count / len(inliers), count, float(np.median(angle)))
    flags = pose_flags(count, float(np.median(angle)))
    return RelativePose(cam2_to_cam1, "pnp", inliers, score, flags, metric_scale=True)


def both_frames(
    prediction_ij: PairPrediction, prediction_ji: PairPrediction
) -> tuple[Array, Array, Array]:
    """Return points (M, 3) in camera i's and in camera j's frame of pixels of both photos, and
    their confidence (M,), thinned to a few thousand.
    """
    first, second, weight = [], [], []
    for in_i, conf_i, in_j, conf_j in (
        (
            prediction_ij.points_i,
            prediction_ij.confidence_i,
            prediction_ji.points_j,
            prediction_ji.confidence_j,
        ),
        (
            prediction_ij.points_j,
            prediction_ij.confidence_j,
            prediction_ji.points_i,
            prediction_ji.confidence_i,
        ),
    ):
        few = thin(conf_i.shape)
        first.append(in_i[few].reshape(-1, 3))
        second.append(in_j[few].reshape(-1, 3))
        weight.append(np.sqrt(conf_i[few] * conf_j[few]).ravel())
    points_1, points_2 = np.concatenate(first), np.concatenate(second)
    usable = (points_1 != 0).any(1) & (points_2 != 0).any(1)
    return (
        points_1[usable].astype(np.float64),
        points_2[usable].astype(np.float64),
        np.concatenate(weight)[usable].astype(np.float64),
    )


def implied_intrinsics(
    points: NDArray[np.float32], confidence: NDArray[np.float32], photo: Photo
) -> Array:
    """Return K (3, 3) in original pixels of a pointmap in its own camera's frame."""
    few = thin(confidence.shape)
    pixels = original_pixels(confidence.shape, photo)[few] - photo.middle
    fallback = DEFAULT_FOCAL * max(photo.width, photo.height)
    focal = weiszfeld_focal(points[few], pixels, confidence[few], fallback_px=fallback)
    return photo.pinhole(focal.focal_px)


def thin(shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Return slices that leave about 3000 pixels of a map."""
    stride = max(1, int(np.sqrt(shape[0] * shape[1] / 3000)))
    return slice(stride // 2, None, stride), slice(stride // 2, None, stride)
