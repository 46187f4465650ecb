"""The cloud of a saved scene against the one that the true depth maps and cameras make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pointmap.camera import Array, pixel_centres, pixel_rays, sample_at, transform_points, unproject
from recon.depth.derived_maps import depth_normals
from recon.evaluation.depth import is_known
from recon.evaluation.points import CloudScores, cloud_scores, register_clouds
from recon.export.ply import read_cloud_ply
from recon.scene import Camera

THRESHOLD = 0.025
"""Distance that counts as right, as a share of the median true depth: 5 cm at 2 m."""
# Points of either cloud that are compared, and pixels of a photo that register them, at most.
_MAX_POINTS = 100_000
_PAIRS_PER_PHOTO = 2000


@dataclass(frozen=True)
class TrueView:
    """A photo with both sides known: true camera and depth (h, w), and what was found of them."""

    true_camera: Camera
    true_depth: Array
    camera: Camera
    depth: Array


def score_cloud(points_ply: Path, views: Sequence[TrueView]) -> CloudScores | None:
    """Score ``points_ply`` in the truth's unit; None without a view, file or point.

    Registered by Umeyama's similarity of the pixels known on both sides, then by ICP. Points beyond
    what the true depth maps saw count against accuracy.
    """
    if not views or not points_ply.is_file():
        return None
    cloud = read_cloud_ply(points_ply)
    pairs = [_pixel_pairs(view) for view in views]
    found, true = (np.concatenate(side) for side in zip(*pairs, strict=True))
    if not len(cloud.points) or len(found) < 3:
        return None
    known = np.concatenate([view.true_depth[is_known(view.true_depth)] for view in views])
    threshold = THRESHOLD * float(np.median(known))
    rng = np.random.default_rng(0)
    chosen = rng.permutation(len(cloud.points))[:_MAX_POINTS]
    points, normals = _true_cloud(views)
    kept = rng.permutation(len(points))[:_MAX_POINTS]
    points, normals = points[kept], normals[kept]
    fit = register_clouds(
        cloud.points[chosen], points, pairs=(found, true), threshold=4 * threshold
    )
    turned = cloud.normals[chosen] @ (fit[:3, :3] / np.cbrt(np.linalg.det(fit[:3, :3]))).T
    return cloud_scores(
        transform_points(fit, cloud.points[chosen]),
        points,
        threshold=threshold,
        predicted_normals=turned,
        true_normals=normals,
    )


def _pixel_pairs(view: TrueView) -> tuple[Array, Array]:
    """Return world points (P, 3) of some pixels, as found and as they truly are."""
    height, width = view.true_depth.shape
    depth = sample_at(view.depth, height, width)
    both = np.flatnonzero(is_known(depth) & is_known(view.true_depth))
    both = np.random.default_rng(0).permutation(both)[:_PAIRS_PER_PHOTO]
    pixels = pixel_centres(width, height).reshape(-1, 2)[both]
    sides = []
    for camera, z in ((view.camera, depth), (view.true_camera, view.true_depth)):
        rays = pixel_rays(pixels, camera.intrinsics_at(width, height), camera.lens)
        assert camera.cam_to_world is not None
        sides.append(transform_points(camera.cam_to_world, rays * z.ravel()[both, None]))
    return sides[0], sides[1]


def _true_cloud(views: Sequence[TrueView]) -> tuple[Array, Array]:
    """Return world points (N, 3) and normals (N, 3) of all true depth maps."""
    points, normals = [], []
    for view in views:
        camera, depth = view.true_camera, view.true_depth
        known = is_known(depth)
        height, width = depth.shape
        K = camera.intrinsics_at(width, height)
        assert camera.cam_to_world is not None
        points.append(
            transform_points(camera.cam_to_world, unproject(depth, K, camera.lens)[known])
        )
        normal = depth_normals(depth, K, camera.lens)[known]
        normals.append(normal @ camera.cam_to_world[:3, :3].T)
    return np.concatenate(points), np.concatenate(normals)
