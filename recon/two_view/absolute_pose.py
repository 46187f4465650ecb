"""Pose of one camera from 3D points and their pixels."""

from __future__ import annotations

import numpy as np

from pointmap.camera import Array, rigid


def ransac_pnp(points: Array, pixels: Array, K: Array, threshold_px: float) -> Array | None:
    """Return world_to_cam (4, 4) of points (M, 3) seen at pixels (M, 2), or None without a fit.

    SQPnP in RANSAC, refined on the inliers. The same input gives the same pose.
    """
    import cv2

    cv2.setRNGSeed(0)  # RANSAC draws from OpenCV's global generator
    found, rotation, translation, chosen = cv2.solvePnPRansac(
        points,
        pixels,
        K,
        None,
        iterationsCount=200,
        reprojectionError=threshold_px,
        flags=cv2.SOLVEPNP_SQPNP,
    )
    if not found or chosen is None or len(chosen) < 6:
        return None
    chosen = chosen.ravel()
    rotation, translation = cv2.solvePnPRefineLM(
        points[chosen], pixels[chosen], K, None, rotation, translation
    )
    pose = rigid(cv2.Rodrigues(rotation)[0], translation.ravel())
    return pose if np.isfinite(pose).all() else None
