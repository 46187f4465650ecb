"""Pinhole cameras and rigid / similarity transforms: the geometry every layer shares.

Conventions, here and everywhere above the network:

- camera axes are OpenCV's: x right, y down, z forward;
- ``cam_to_world`` is a 4x4 float64 matrix with ``p_world = cam_to_world @ p_cam``; between two
  cameras ``cam2_to_cam1`` maps points of camera 2's frame into camera 1's;
- the centre of the top-left pixel is (0.5, 0.5), so a photo of width W spans x from 0 to W and the
  centre of the photo is (W / 2, H / 2);
- ``intrinsics`` is the 3x3 matrix K in those pixel coordinates;
- a :class:`~pointmap.lens.Lens` says how what a pinhole shows on the plane z = 1 is bent; it
  doesn't depend on the photo's size.

Arrays are NumPy, float64 unless said otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pointmap.lens import PINHOLE, Lens

Array = NDArray[np.float64]
Index = NDArray[np.int64]
Mask = NDArray[np.bool_]

# Slope of the farthest ray of a pinhole that stands in for another lens, and how many times the
# photo's pixels it may have: a fisheye's border would make its picture grow without bounds.
_PINHOLE_REACH = float(np.tan(np.radians(65.0)))
_MOST_PIXELS = 2.0


def pinhole(focal_px: float, width: int, height: int) -> Array:
    """Return K (3, 3) with square pixels and the principal point at the photo's centre."""
    return np.array([[focal_px, 0, width / 2], [0, focal_px, height / 2], [0, 0, 1]], np.float64)


def scale_intrinsics(intrinsics: ArrayLike, scale_x: float, scale_y: float) -> Array:
    """Return K (3, 3) of the same photo resized by ``scale_x``, ``scale_y``.

    Exact in the (0.5, 0.5) convention, where resizing multiplies coordinates and shifts nothing.
    """
    return np.diag([scale_x, scale_y, 1.0]) @ np.asarray(intrinsics, np.float64)


def pixel_centres(width: int, height: int) -> Array:
    """Return the (height, width, 2) x, y coordinates of all pixel centres."""
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    return np.stack([x, y], axis=-1)


def pixel_rays(pixels: ArrayLike, intrinsics: ArrayLike, lens: Lens = PINHOLE) -> Array:
    """Return rays (..., 3) with z = 1, in the camera frame, through pixels (..., 2)."""
    pixels, K = np.asarray(pixels, np.float64), np.asarray(intrinsics, np.float64)
    y = (pixels[..., 1] - K[1, 2]) / K[1, 1]
    x = (pixels[..., 0] - K[0, 2] - K[0, 1] * y) / K[0, 0]
    flat = lens.undistort(np.stack([x, y], axis=-1))
    return np.concatenate([flat, np.ones_like(x)[..., None]], axis=-1)


def unproject(depth: ArrayLike, intrinsics: ArrayLike, lens: Lens = PINHOLE) -> Array:
    """Return camera-frame points (H, W, 3) of a z-depth map (H, W)."""
    depth = np.asarray(depth, np.float64)
    height, width = depth.shape
    return pixel_rays(pixel_centres(width, height), intrinsics, lens) * depth[..., None]


def project(points: ArrayLike, intrinsics: ArrayLike, lens: Lens = PINHOLE) -> Array:
    """Return pixels (..., 2) of camera-frame points (..., 3).

    Points with z <= 0, or beyond what the lens shows, have no image; they come out as NaN.
    """
    points, K = np.asarray(points, np.float64), np.asarray(intrinsics, np.float64)
    z = np.where(points[..., 2] > 0, points[..., 2], np.nan)
    flat = points[..., :2] / z[..., None]
    x, y = np.moveaxis(lens.distort(flat), -1, 0)
    return np.stack([K[0, 0] * x + K[0, 1] * y + K[0, 2], K[1, 1] * y + K[1, 2]], axis=-1)


def pinhole_grid(width: int, height: int, intrinsics: ArrayLike, lens: Lens) -> tuple[Array, Array]:
    """Return K (3, 3) of a pinhole that sees all of a bent photo, and where its pixels are.

    The second value (H, W, 2) is the place of each of the pinhole's pixels in the photo; it may lie
    outside, and is NaN beyond what the lens shows. The picture is as large as the photo's border
    reaches, but for what lies more than 65 degrees from the axis. The scale at the centre stays,
    unless the picture would have more than twice as many pixels as the photo.
    """
    border = np.stack(np.meshgrid(np.arange(width + 1.0), np.arange(height + 1.0)), axis=-1)
    border = np.concatenate([border[0], border[-1], border[:, 0], border[:, -1]])
    rays = pixel_rays(border, intrinsics, lens)
    slope = np.linalg.norm(rays[:, :2], axis=1, keepdims=True)
    rays[:, :2] *= np.minimum(1.0, _PINHOLE_REACH / np.maximum(slope, 1e-12))
    seen = project(rays, intrinsics)
    low, high = np.floor(seen.min(axis=0)), np.ceil(seen.max(axis=0))
    shrunk = min(1.0, float(np.sqrt(_MOST_PIXELS * width * height / np.prod(high - low))))
    moved = np.array(intrinsics, np.float64)
    moved[:2, 2] -= low
    moved[:2] *= shrunk
    columns, rows = np.ceil((high - low) * shrunk).astype(int)
    return moved, project(pixel_rays(pixel_centres(columns, rows), moved), intrinsics, lens)


def rigid(rotation: ArrayLike, translation: ArrayLike) -> Array:
    """Return the 4x4 matrix of ``p -> rotation @ p + translation``."""
    matrix = np.eye(4)
    matrix[:3, :3] = rotation
    matrix[:3, 3] = translation
    return matrix


def invert_rigid(matrix: ArrayLike) -> Array:
    """Return the inverse of rigid 4x4 matrices (..., 4, 4), exact up to rounding."""
    matrix = np.asarray(matrix, np.float64)
    inverse = np.zeros_like(matrix)
    rotation_t = np.swapaxes(matrix[..., :3, :3], -1, -2)
    inverse[..., :3, :3] = rotation_t
    inverse[..., :3, 3] = -(rotation_t @ matrix[..., :3, 3:])[..., 0]
    inverse[..., 3, 3] = 1.0
    return inverse


def stacked_poses(poses: Sequence[Array | None]) -> tuple[Array, Mask]:
    """Return 4x4 matrices (N, 4, 4), the identity for None, and which of them are given (N,)."""
    known = np.array([pose is not None for pose in poses], bool)
    matrices = [np.eye(4) if pose is None else np.asarray(pose, np.float64) for pose in poses]
    return np.array(matrices).reshape(-1, 4, 4), known


def transform_points(matrix: ArrayLike, points: ArrayLike) -> Array:
    """Apply a 4x4 rigid or similarity matrix to points (..., 3)."""
    matrix = np.asarray(matrix, np.float64)
    return np.asarray(points, np.float64) @ matrix[:3, :3].T + matrix[:3, 3]


def rotation_angle_deg(rotation: ArrayLike) -> Array:
    """Return the turning angle in degrees of rotations (..., 3, 3), accurate near 0 and 180."""
    rotation = np.asarray(rotation, np.float64)
    trace = np.trace(rotation, axis1=-2, axis2=-1)
    skew = np.stack(
        [
            rotation[..., 2, 1] - rotation[..., 1, 2],
            rotation[..., 0, 2] - rotation[..., 2, 0],
            rotation[..., 1, 0] - rotation[..., 0, 1],
        ],
        axis=-1,
    )
    return np.degrees(np.arctan2(np.linalg.norm(skew, axis=-1), trace - 1.0))


def fit_similarity(
    source: ArrayLike,
    target: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    with_scale: bool = True,
) -> tuple[float, Array, Array]:
    """Return scale, R (3, 3), t (3,) minimising sum w |scale R source + t - target|^2.

    ``source``, ``target``: (N, 3), N >= 3 and not collinear, or the rotation is arbitrary about the
    line. With ``with_scale=False`` the scale is 1. See :func:`fit_similarities`.
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    w = np.ones(len(source)) if weights is None else np.asarray(weights, np.float64)
    scale, R, t = fit_similarities(source[None], target[None], w[None], with_scale=with_scale)
    return float(scale[0]), R[0], t[0]


def fit_similarities(
    source: Array, target: Array, weights: Array, *, with_scale: bool = True
) -> tuple[Array, Array, Array]:
    """Return :func:`fit_similarity` of B sets of points at once: scales (B,), R (B, 3, 3), t (B, 3)
    of (B, N, 3) with weights (B, N).

    Weighted orthogonal Procrustes (Umeyama, PAMI 1991). All three are NaN where a coordinate or a
    weight is not finite or no weight is above 0; the scale is 0 where all of the source is one
    point.
    """
    total = weights.sum(axis=1, keepdims=True)
    share = (weights / np.where(total > 0, total, np.nan))[..., None]
    with np.errstate(invalid="ignore"):
        centre_s, centre_t = (share * source).sum(axis=1), (share * target).sum(axis=1)
        s, t = source - centre_s[:, None], target - centre_t[:, None]
        covariance = (share * t).transpose(0, 2, 1) @ s
    told = np.isfinite(covariance).all(axis=(1, 2))
    u, stretch, vt = np.linalg.svd(np.where(told[:, None, None], covariance, 0.0))
    # Rotations and no mirrors: the least certain axis is turned round.
    sign = np.ones((len(u), 3))
    sign[:, 2] = np.where(np.linalg.det(u @ vt) > 0, 1.0, -1.0)
    R = np.where(told[:, None, None], (u * sign[:, None]) @ vt, np.nan)
    scale = np.where(told, 1.0, np.nan)
    if with_scale:
        spread = (share * s * s).sum(axis=(1, 2))
        scale = scale * (stretch * sign).sum(axis=1) / np.maximum(spread, 1e-300)
    return scale, R, centre_t - scale[:, None] * (R @ centre_s[..., None])[..., 0]


def sample_at(depth: ArrayLike, height: int, width: int) -> Array:
    """Return a depth map (h, w) at the pixel centres of a photo of another size, by nearest pixel.

    Nearest and not interpolated: a mean over an edge lies on neither surface.
    """
    depth = np.asarray(depth, np.float64)
    rows = ((np.arange(height) + 0.5) * depth.shape[0] / height).astype(np.int64)
    columns = ((np.arange(width) + 0.5) * depth.shape[1] / width).astype(np.int64)
    return depth[rows[:, None], columns]


def cross_matrix(vectors: ArrayLike) -> Array:
    """Return the matrices (..., 3, 3) with ``cross_matrix(v) @ u = v x u`` of vectors (..., 3)."""
    x, y, z = np.moveaxis(np.asarray(vectors, np.float64), -1, 0)
    zero = np.zeros_like(x)
    rows = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1)
    return rows.reshape(*x.shape, 3, 3)


def rotation_exp(vectors: Array) -> Array:
    """Return the rotations (N, 3, 3) of rotation vectors (N, 3)."""
    from scipy.spatial.transform import Rotation

    return np.asarray(Rotation.from_rotvec(vectors).as_matrix())


def rotation_log(rotations: Array) -> Array:
    """Return the rotation vectors (N, 3), of angle at most pi, of rotations (N, 3, 3)."""
    from scipy.spatial.transform import Rotation

    return np.asarray(Rotation.from_matrix(rotations).as_rotvec())
