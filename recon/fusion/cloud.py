"""From depth maps to one point cloud."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array, transform_points, unproject
from recon.depth.derived_maps import depth_normals
from recon.fusion.options import FusionOptions
from recon.fusion.usable_depth import (
    Frame,
    automatic_voxel_size,
    count_votes,
    inside_box,
    usable_frames,
    witnesses,
)
from recon.scene import PointCloud, View


def fuse_points(views: Sequence[View], *, options: FusionOptions | None = None) -> PointCloud:
    """Return the coloured cloud of all registered views; empty when none has usable depth.

    Pixels that more photos see through (they measured something well behind) than confirm are
    dropped; the rest is thinned to one point per voxel, averaged by confidence.
    """
    options = options or FusionOptions()
    frames = usable_frames(views, options)
    parts = [
        _frame_points(frame, others)
        for frame, others in zip(frames, witnesses(frames), strict=True)
    ]
    if not any(len(part.points) for part in parts):
        return _empty_cloud()
    cloud = PointCloud(
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("points", "colours", "normals", "confidence")
        )
    )
    cloud = _at(cloud, inside_box(cloud.points, options.crop))
    if not len(cloud.points):
        return cloud
    voxel = options.voxel_size or automatic_voxel_size(frames, options)
    thinned = _thin(cloud, voxel)
    while len(thinned.points) > options.max_points:
        # A surface then loses two fifths of its points.
        voxel *= 1.3
        thinned = _thin(cloud, voxel)
    return thinned


def _frame_points(frame: Frame, others: Sequence[Frame]) -> PointCloud:
    """Return the world points of one frame that the other frames don't vote down."""
    known = frame.depth > 0
    camera = unproject(frame.depth, frame.intrinsics, frame.k1)
    world = transform_points(frame.cam_to_world, camera[known])
    keep = count_votes(others, world) >= 0
    normals = depth_normals(frame.depth, frame.intrinsics, frame.k1)[known]
    normals = normals @ frame.cam_to_world[:3, :3].T
    return PointCloud(
        world[keep].astype(np.float32),
        frame.pixels[known][keep],
        normals[keep].astype(np.float32),
        frame.confidence[known][keep],
    )


def _at(cloud: PointCloud, keep: NDArray[np.bool_]) -> PointCloud:
    return PointCloud(
        cloud.points[keep], cloud.colours[keep], cloud.normals[keep], cloud.confidence[keep]
    )


def _thin(cloud: PointCloud, voxel: float) -> PointCloud:
    """Return one point per voxel: the average by confidence of what lies in it."""
    cells = np.floor(cloud.points / voxel).astype(np.int64)
    cells -= cells.min(0)
    span = cells.max(0) + 1
    key = (cells[:, 0] * span[1] + cells[:, 1]) * span[2] + cells[:, 2]
    _, index = np.unique(key, return_inverse=True)
    weight = np.maximum(cloud.confidence, 1e-6).astype(np.float64)
    total = np.bincount(index, weight)

    def mean(values: NDArray[np.generic]) -> Array:
        columns = [np.bincount(index, weight * column) / total for column in values.T]
        return np.stack(columns, -1)

    normals = mean(cloud.normals)
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True).clip(1e-12)
    return PointCloud(
        mean(cloud.points).astype(np.float32),
        np.round(mean(cloud.colours)).astype(np.uint8),
        normals.astype(np.float32),
        (np.bincount(index, weight * cloud.confidence) / total).astype(np.float32),
    )


def _empty_cloud() -> PointCloud:
    none = np.zeros((0, 3), np.float32)
    return PointCloud(none, np.zeros((0, 3), np.uint8), none, np.zeros(0, np.float32))
