"""Pose of one camera from 3D points and their pixels (PnP)."""

from __future__ import annotations

import numpy as np

from pointmap.camera import Array, pixel_rays, project, rigid
from pointmap.lens import PINHOLE, Lens


def ransac_pnp(
    points: Array,
    pixels: Array,
    K: Array,
    threshold_px: float,
    *,
    lens: Lens = PINHOLE,
    p3p: bool = False,
    iterations: int = 200,
    confidence: float = 0.99,
    least_inliers: float = 6,
    seed: int = 0,
) -> Array | None:
    """Return world_to_cam (4, 4) of points (M, 3) seen at pixels (M, 2), or None without a fit.

    SQPnP (Terzakis and Lourakis, ECCV 2020) in RANSAC, or P3P with ``p3p``, whose smaller samples
    bear more wrong matches; then Levenberg-Marquardt on the inliers, those within ``threshold_px``.
    RANSAC ends after ``iterations`` or when it is sure enough, ``confidence``. None with fewer than
    ``least_inliers``, or no finite result. The same input gives the same pose.
    """
    import cv2

    if lens:
        pixels = project(pixel_rays(pixels, K, lens), K)
    cv2.setRNGSeed(seed)  # RANSAC draws from OpenCV's global generator
    found, turn, shift, inliers = cv2.solvePnPRansac(
        np.ascontiguousarray(points),
        np.ascontiguousarray(pixels),
        K,
        None,
        iterationsCount=iterations,
        reprojectionError=threshold_px,
        confidence=confidence,
        flags=cv2.SOLVEPNP_P3P if p3p else cv2.SOLVEPNP_SQPNP,
    )
    if not found or inliers is None or len(inliers) < least_inliers:
        return None
    inliers = inliers.ravel()
    turn, shift = cv2.solvePnPRefineLM(points[inliers], pixels[inliers], K, None, turn, shift)
    pose = rigid(cv2.Rodrigues(turn)[0], shift.ravel())
    return pose if np.isfinite(pose).all() else None
