"""Two-view geometry of pixel matches: fundamental and essential matrices, Sampson error.

One direction throughout: ``x_i^T F x_j = 0``, and with p_i = R p_j + t (``cam2_to_cam1``, camera 1
is photo i, camera 2 is photo j) ``E = [t]x R`` and ``F = K_i^-T E K_j^-1`` (Hartley & Zisserman,
Multiple View Geometry, 9.6).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pointmap.camera import Array, cross_matrix, pixel_rays, rigid, rotation_angle_deg
from recon.stage_results import REFERENCE_LONG_SIDE, PairMatches

if TYPE_CHECKING:
    from pointmap.images import Photo

# Samples of five drawn at most: enough, at this confidence, where three in ten matches are right.
_RANSAC_CONFIDENCE = 0.9999
_RANSAC_ITERATIONS = 5000
# Chance that a pose which just as many matches agree with as are asked for is not found.
_MISSED = 0.01


def fundamental_from_pose(
    cam2_to_cam1: ArrayLike, intrinsics_i: ArrayLike, intrinsics_j: ArrayLike
) -> Array:
    """Return F (3, 3) of a relative pose; it has no meaning for a zero translation."""
    pose = np.asarray(cam2_to_cam1, np.float64)
    essential = cross_matrix(pose[:3, 3]) @ pose[:3, :3]
    return _inverse(intrinsics_i).T @ essential @ _inverse(intrinsics_j)


def sampson_px(fundamental: Array, xy_i: ArrayLike, xy_j: ArrayLike) -> Array:
    """Return the signed Sampson distance (M,) in pixels of matches (M, 2), (M, 2)."""
    points_i, points_j = _homogeneous(xy_i), _homogeneous(xy_j)
    line_i, line_j = fundamental @ points_j, fundamental.T @ points_i
    norm = np.sqrt(line_i[0] ** 2 + line_i[1] ** 2 + line_j[0] ** 2 + line_j[1] ** 2)
    x, y, _ = points_i
    return np.asarray((x * line_i[0] + y * line_i[1] + line_i[2]) / np.maximum(norm, 1e-300))


def agreeing_px(photos: Sequence[Photo], matches: PairMatches, *, sigmas: float = 2.0) -> Array:
    """Return the Sampson errors (A,), in original pixels, of the matches that agree on one epipolar
    geometry, to so many ``sigmas``, whatever the focal lengths: MAGSAC on the fundamental matrix.
    """
    import cv2

    if len(matches) < 8:
        return np.zeros(0)
    sides = [max(photos[k].width, photos[k].height) for k in (matches.i, matches.j)]
    limit = max(float(np.mean(sides)) / REFERENCE_LONG_SIDE, sigmas * matches.sigma_px)
    cv2.setRNGSeed(0)
    fundamental, agrees = cv2.findFundamentalMat(
        matches.xy_i, matches.xy_j, cv2.USAC_MAGSAC, limit, 0.999, 5000
    )
    if agrees is None or fundamental is None or fundamental.shape != (3, 3):
        return np.zeros(0)
    # OpenCV's takes photo i's points to lines of photo j, ours the other way.
    kept = agrees.ravel() > 0
    ours: Array = np.asarray(fundamental.T, np.float64)
    return sampson_px(ours, matches.xy_i[kept], matches.xy_j[kept])


def find_pose(
    xy_i: Array,
    xy_j: Array,
    intrinsics_i: ArrayLike,
    intrinsics_j: ArrayLike,
    *,
    threshold_px: float,
    least_share: float = 0.0,
) -> Array | None:
    """Return cam2_to_cam1 (4, 4) with unit translation by MAGSAC on the essential matrix, or None.

    Of the four poses of an essential matrix the one with most matches in front of both cameras.
    ``least_share``: how many of the matches a pose that is of use agrees with. The search for a
    better one than that ends earlier, and so does that among matches that are all wrong.
    """
    import cv2

    if len(xy_i) < 6:
        return None
    rays_i, rays_j = pixel_rays(xy_i, intrinsics_i), pixel_rays(xy_j, intrinsics_j)
    focal = np.mean([np.asarray(K)[d, d] for K in (intrinsics_i, intrinsics_j) for d in (0, 1)])
    essential, mask = cv2.findEssentialMat(
        np.ascontiguousarray(rays_j[:, :2]),
        np.ascontiguousarray(rays_i[:, :2]),
        np.eye(3),
        cv2.USAC_MAGSAC,
        _RANSAC_CONFIDENCE,
        threshold_px / focal,
        maxIters=_samples(least_share),
    )
    if essential is None or essential.shape[0] < 3 or not np.isfinite(essential).all():
        return None
    inlier = mask.ravel() > 0
    rotation_1, rotation_2, translation = cv2.decomposeEssentialMat(essential[:3])
    poses = [
        rigid(rotation, sign * translation.ravel())
        for rotation in (rotation_1, rotation_2)
        for sign in (1, -1)
    ]
    return max(poses, key=lambda pose: in_front(pose, rays_i[inlier], rays_j[inlier]).sum())


def _samples(least_share: float) -> int:
    """Return how many samples of five to draw at most: with so many, one without wrong matches is
    missed by a chance of :data:`_MISSED` where ``least_share`` of the matches are right.
    """
    all_right = float(np.clip(least_share, 0.1, 0.9)) ** 5
    # A few more than that: of samples without wrong matches, too, some are better than others.
    samples = 100 + math.ceil(math.log(_MISSED) / math.log1p(-all_right))
    return min(_RANSAC_ITERATIONS, samples)


def homography_poses(
    xy_i: Array,
    xy_j: Array,
    intrinsics_i: ArrayLike,
    intrinsics_j: ArrayLike,
    *,
    threshold_px: float,
) -> list[Array]:
    """Return the poses cam2_to_cam1, unit translations, of the plane that most matches lie on.

    A plane seen twice has two poses, each with both signs of the translation. Samples for an
    essential matrix that lie near one plane tend to end in the wrong one, so both are worth trying
    (Hartley & Zisserman 19.5; Malis & Vargas 2007). Empty without a homography, or when the
    homography is a rotation.
    """
    import cv2

    if len(xy_i) < 8:
        return []
    homography, _ = cv2.findHomography(
        xy_j, xy_i, cv2.USAC_MAGSAC, threshold_px, maxIters=1000, confidence=_RANSAC_CONFIDENCE
    )
    if homography is None or not np.isfinite(homography).all():
        return []
    calibrated = _inverse(intrinsics_i) @ homography @ np.asarray(intrinsics_j, np.float64)
    _, rotations, translations, _ = cv2.decomposeHomographyMat(calibrated, np.eye(3))
    lengths = [float(np.linalg.norm(translation)) for translation in translations]
    return [
        rigid(rotation, translation.ravel() / length)
        for rotation, translation, length in zip(rotations, translations, lengths, strict=True)
        if length > 1e-6 and np.isfinite(rotation).all()
    ]


def in_front(cam2_to_cam1: Array, rays_i: Array, rays_j: Array) -> NDArray[np.bool_]:
    """Return which rays (M, 3) of the two cameras meet in front of both (cheirality).

    Only the sign of the depth counts, so far points (nearly parallel rays) come out by chance.
    """
    a, b = rays_i, rays_j @ cam2_to_cam1[:3, :3].T
    t = cam2_to_cam1[:3, 3]
    aa, bb, ab = (a * a).sum(1), (b * b).sum(1), (a * b).sum(1)
    at, bt = a @ t, b @ t
    # Closest points depth_i a and t + depth_j b; the common denominator aa bb - ab^2 is >= 0.
    depth_i, depth_j = bb * at - ab * bt, ab * at - aa * bt
    return (depth_i >= 0) & (depth_j >= 0)


def triangulation_angles_deg(cam2_to_cam1: Array, rays_i: Array, rays_j: Array) -> Array:
    """Return the angle (M,) in degrees at which the two rays of each match meet."""
    b = rays_j @ cam2_to_cam1[:3, :3].T
    sine = np.linalg.norm(np.cross(rays_i, b), axis=1)
    return np.degrees(np.arctan2(sine, (rays_i * b).sum(1)))


def angles_between_deg(pose_a: Array, pose_b: Array) -> tuple[float, float]:
    """Return by what angles rotations and directions of translation of two poses (4, 4) differ."""
    rotation = float(rotation_angle_deg(pose_a[:3, :3].T @ pose_b[:3, :3]))
    a, b = pose_a[:3, 3], pose_b[:3, 3]
    return rotation, float(np.degrees(np.arctan2(np.linalg.norm(np.cross(a, b)), a @ b)))


def inlier_threshold_px(
    matches: PairMatches, intrinsics_i: ArrayLike, intrinsics_j: ArrayLike
) -> float:
    """Return the Sampson error, in original pixels, up to which a match agrees with a pose.

    One pixel of a photo of the reference size, and at least twice the accuracy of the matches.
    """
    long_sides = [2 * np.asarray(K)[:2, 2].max() for K in (intrinsics_i, intrinsics_j)]
    return max(float(np.mean(long_sides)) / REFERENCE_LONG_SIDE, 2 * matches.sigma_px)


def epipolar_inliers(
    cam2_to_cam1: Array,
    matches: PairMatches,
    intrinsics_i: ArrayLike,
    intrinsics_j: ArrayLike,
    threshold_px: float,
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], Array]:
    """Return which matches (M,) agree with a pose, by Sampson error and cheirality, which with that
    of the opposite translation, and the Sampson errors (M,) in pixels, which are those of both.
    """
    fundamental = fundamental_from_pose(cam2_to_cam1, intrinsics_i, intrinsics_j)
    error = np.abs(sampson_px(fundamental, matches.xy_i, matches.xy_j))
    rays_i, rays_j = pixel_rays(matches.xy_i, intrinsics_i), pixel_rays(matches.xy_j, intrinsics_j)
    angle = triangulation_angles_deg(cam2_to_cam1, rays_i, rays_j)
    uncertain = angle < np.degrees(2 * threshold_px / np.asarray(intrinsics_i)[0, 0])
    near = error < threshold_px
    ahead, behind = (
        in_front(pose, rays_i, rays_j) for pose in (cam2_to_cam1, opposite(cam2_to_cam1))
    )
    return near & (ahead | uncertain), near & (behind | uncertain), error


def opposite(cam2_to_cam1: Array) -> Array:
    """Return the pose (4, 4) with the opposite translation."""
    return rigid(cam2_to_cam1[:3, :3], -cam2_to_cam1[:3, 3])


def rotation_share(rays_i: Array, rays_j: Array, tolerance_rad: float) -> float:
    """Return the part of the matches, rays (M, 3), that one robustly fitted rotation explains."""
    a = rays_i / np.linalg.norm(rays_i, axis=1, keepdims=True)
    b = rays_j / np.linalg.norm(rays_j, axis=1, keepdims=True)
    weight = np.ones(len(a))
    for _ in range(5):
        u, _, vt = np.linalg.svd((a * weight[:, None]).T @ b)
        R = u @ np.diag([1, 1, np.linalg.det(u @ vt)]) @ vt
        error = np.linalg.norm(a - b @ R.T, axis=1)
        weight = 1 / (1 + (error / max(float(np.median(error)), tolerance_rad / 2)) ** 2)
    return float((error < 2 * tolerance_rad).mean())


def plane_share(xy_i: Array, xy_j: Array, threshold_px: float) -> float:
    """Return the part of the matches (M, 2), (M, 2) that one homography explains."""
    import cv2

    if len(xy_i) < 5:
        return 0.0
    _, mask = cv2.findHomography(xy_j, xy_i, cv2.USAC_MAGSAC, 2 * threshold_px, maxIters=500)
    return 0.0 if mask is None else float((mask > 0).mean())


def refine_pose(
    cam2_to_cam1: Array,
    xy_i: Array,
    xy_j: Array,
    intrinsics_i: ArrayLike,
    intrinsics_j: ArrayLike,
    *,
    scale_px: float,
    rounds: int = 10,
) -> tuple[Array, float]:
    """Minimise the robust Sampson error; return the pose and its cost sum log(1 + (r / scale)^2).

    Levenberg-Marquardt over the 5 degrees of freedom (rotation, direction of translation) with the
    Cauchy kernel of width ``scale_px``. The cost never rises above that of the start.
    """
    from recon.two_view.compiled_pose import refine_in_place

    R = np.array(cam2_to_cam1[:3, :3], np.float64)
    t = np.array(cam2_to_cam1[:3, 3], np.float64)
    t /= np.linalg.norm(t)
    left = np.ascontiguousarray(_inverse(intrinsics_i).T)
    # Copies: what a cluster hands out is read-only, which a compiled loop doesn't take.
    points = (np.array(xy, np.float64, order="C") for xy in (xy_i, xy_j))
    cost = refine_in_place(R, t, *points, left, _inverse(intrinsics_j), float(scale_px), rounds)
    return rigid(R, t), float(cost)


def _inverse(matrix: ArrayLike) -> Array:
    return np.asarray(np.linalg.inv(np.asarray(matrix, np.float64)), np.float64)


def _homogeneous(xy: ArrayLike) -> Array:
    """Return points (M, 2) as columns (3, M)."""
    xy = np.asarray(xy, np.float64).reshape(-1, 2)
    return np.stack([xy[:, 0], xy[:, 1], np.ones(len(xy))])
