"""From depth maps to one surface (TSDF) and one point cloud.

Open3D's tensor ``VoxelBlockGrid`` has pixel centres at +0.5 as :mod:`pointmap.camera` has, so that
K goes in unchanged; it takes cam_from_world matrices, float32 images and float64 cameras only.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import (
    Array,
    invert_rigid,
    project,
    transform_points,
    unproject,
)
from recon.scene import Mesh, PointCloud, View

if TYPE_CHECKING:
    import open3d as o3d

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FusionOptions:
    """How depth maps become a surface and a cloud."""

    voxel_size: float | None = None
    """Edge of a voxel in scene units; None takes 1.5 pixels at the median depth."""
    min_confidence: float = 0.35
    """Depth below this confidence is left out, unless almost all is: see ``usable_frames``."""
    max_depth_jump: float = 0.03
    """Relative depth step between neighbouring pixels above which they lie on two surfaces."""
    max_triangles: int = 3_000_000
    """Upper bound of the mesh's size; the voxel grows to keep it."""
    min_component: float = 0.0005
    """Connected pieces with less than this share of all triangles are removed as floaters."""
    max_points: int = 2_000_000
    """Upper bound of the cloud's size; points are thinned by growing voxels to keep it."""


@dataclass(frozen=True)
class Frame:
    """One usable depth map: ``depth`` (h, w) float32, 0 where masked; ``weight`` its confidence."""

    depth: NDArray[np.float32]
    confidence: NDArray[np.float32]
    pixels: NDArray[np.uint8]
    intrinsics: Array
    cam_to_world: Array


def fuse_mesh(views: Sequence[View], *, options: FusionOptions | None = None) -> Mesh:
    """Return the coloured surface of all registered views; empty when none has usable depth.

    Truncated signed distances averaged in sparse voxel blocks (Curless and Levoy 1996), surface by
    marching cubes, floaters removed.
    """
    options = options or FusionOptions()
    frames = usable_frames(views, options)
    if not frames:
        return _empty_mesh()
    voxel = options.voxel_size or _voxel_size(frames, options)
    # One photo, or little overlap: every voxel must count, however few rays it got.
    surface = _integrate(frames, voxel, weight_threshold=0.0 if len(frames) < 3 else 1.0)
    return _cleaned(surface, options.min_component)


def fuse_points(views: Sequence[View], *, options: FusionOptions | None = None) -> PointCloud:
    """Return the coloured cloud of all registered views; empty when none has usable depth.

    Pixels that more photos see through (they measured something well behind) than confirm are
    dropped; the rest is thinned to one point per voxel, averaged by confidence.
    """
    options = options or FusionOptions()
    frames = usable_frames(views, options)
    parts = [_frame_points(frame, frames) for frame in frames]
    if not any(len(part.points) for part in parts):
        return _empty_cloud()
    cloud = PointCloud(
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("points", "colours", "normals", "confidence")
        )
    )
    voxel = options.voxel_size or _voxel_size(frames, options)
    thinned = _thin(cloud, voxel)
    while len(thinned.points) > options.max_points:
        voxel *= 1.3
        thinned = _thin(cloud, voxel)
    return thinned


def usable_frames(views: Sequence[View], options: FusionOptions) -> list[Frame]:
    """Return the registered views that keep any depth once unsure pixels and edges are masked.

    Where less than a twentieth of all depth is sure enough (one photo, or depth that was never
    compared between photos) the surest nine tenths are taken instead of next to nothing.
    """
    frames = []
    placed = [view for view in views if view.registered and view.depth.size]
    threshold = _threshold(placed, options.min_confidence)
    for view in placed:
        assert view.camera.cam_to_world is not None
        depth = np.where(_measured(view) & (view.confidence >= threshold), view.depth, 0)
        depth = depth.astype(np.float32)
        depth = _without_edges(depth, options.max_depth_jump)
        if (depth > 0).any():
            frames.append(
                Frame(
                    depth,
                    view.confidence.astype(np.float32),
                    view.pixels,
                    view.depth_intrinsics,
                    view.camera.cam_to_world,
                )
            )
    return frames


def _measured(view: View) -> NDArray[np.bool_]:
    return np.isfinite(view.depth) & (view.depth > 0) & (view.confidence > 0)


def _threshold(views: Sequence[View], wanted: float) -> float:
    """Return the confidence to ask for; see ``usable_frames``."""
    found = np.concatenate([np.zeros(0), *(view.confidence[_measured(view)] for view in views)])
    if not len(found) or (found >= wanted).mean() > 0.05:
        return wanted
    return float(np.quantile(found, 0.1))


def _without_edges(depth: NDArray[np.float32], max_jump: float) -> NDArray[np.float32]:
    """Return depth (h, w) with 0 at edges between surfaces and in specks.

    Depth that would lose more than half of itself is rough all over rather than at edges (a poor
    prior that nothing sharpened) and comes back as it is: rough geometry beats none.
    """
    masked = np.where(_on_edge(depth, max_jump), 0, depth)
    masked[_speckle(masked > 0)] = 0
    return masked if (masked > 0).sum() > 0.5 * (depth > 0).sum() else depth


def _on_edge(depth: NDArray[np.float32], max_jump: float) -> NDArray[np.bool_]:
    """Return pixels (h, w) between two surfaces: known neighbours on opposite sides lie apart.

    A slanted surface changes steadily, so that depth is compared with the mean of the neighbours
    across from each other: only a bend counts. Pixels without known neighbours (flying specks)
    count as edges too.
    """
    inverse = np.where(depth > 0, 1 / np.maximum(depth, 1e-12), 0)
    padded = np.pad(inverse, 1)
    h, w = depth.shape
    around = [padded[dy : dy + h, dx : dx + w] for dy, dx in ((0, 1), (2, 1), (1, 0), (1, 2))]
    edge = np.zeros(depth.shape, bool)
    known = np.zeros(depth.shape, int)
    for one, other in ((around[0], around[1]), (around[2], around[3])):
        both = (one > 0) & (other > 0)
        # Inverse depth is linear over a plane, so its second difference is 0 there.
        bend = np.abs(one + other - 2 * inverse)
        edge |= both & (bend > max_jump * inverse)
        known += (one > 0).astype(int) + (other > 0)
    return edge | (known < 2)


def _speckle(known: NDArray[np.bool_], share: float = 3e-4) -> NDArray[np.bool_]:
    """Return pixels (h, w) of connected patches smaller than ``share`` of the photo."""
    import cv2

    _, labels, stats, _ = cv2.connectedComponentsWithStats(known.astype(np.uint8), connectivity=4)
    small = stats[:, cv2.CC_STAT_AREA] < share * known.size
    return known & small[labels]


def _voxel_size(frames: Sequence[Frame], options: FusionOptions) -> float:
    """Return 1.5 pixel footprints at the median depth, more where the mesh would grow too large.

    A surface of area S gives about 2 S / voxel^2 triangles; S is at most what all photos see.
    """
    footprints, area = [], 0.0
    for frame in frames:
        z = frame.depth[frame.depth > 0].astype(np.float64)
        focal = np.sqrt(frame.intrinsics[0, 0] * frame.intrinsics[1, 1])
        footprints.append(np.median(z) / focal)
        area += float(((z / focal) ** 2).sum())
    # Overlapping photos see the same surface again; half of what they see is a safe guess.
    area *= 0.5 if len(frames) > 2 else 1.0
    return float(max(1.5 * np.median(footprints), np.sqrt(2 * area / options.max_triangles)))


def _integrate(
    frames: Sequence[Frame], voxel: float, *, weight_threshold: float
) -> o3d.geometry.TriangleMesh:
    """Return the TSDF surface of the frames as a legacy Open3D mesh with colours."""
    import open3d as o3d
    import open3d.core as o3c

    # Blocks of 8 voxels hug the surface closer than 16: a third of the memory, the same speed.
    grid = o3d.t.geometry.VoxelBlockGrid(
        ("tsdf", "weight", "color"),
        (o3c.float32,) * 3,
        [o3c.SizeVector([channels]) for channels in (1, 1, 3)],
        voxel_size=voxel,
        block_resolution=8,
        block_count=20_000,
        device=o3c.Device("CPU:0"),
    )
    truncation = 5.0
    for frame in frames:
        # Both default to a millimetre camera's 3 m; ours are any unit.
        limit = float(frame.depth.max()) * 1.01
        depth = o3d.t.geometry.Image(o3c.Tensor.from_numpy(np.ascontiguousarray(frame.depth)))
        colour = np.ascontiguousarray(frame.pixels.astype(np.float32) / 255)
        K = o3c.Tensor.from_numpy(np.ascontiguousarray(frame.intrinsics, np.float64))
        world_to_cam = o3c.Tensor.from_numpy(invert_rigid(frame.cam_to_world))
        try:
            blocks = grid.compute_unique_block_coordinates(
                depth, K, world_to_cam, 1.0, limit, truncation
            )
        except RuntimeError as error:
            # Open3D looks at every fourth pixel in x and y; a few known ones may lie between.
            if "No block is touched" not in str(error):
                raise
            continue
        grid.integrate(
            blocks,
            depth,
            o3d.t.geometry.Image(o3c.Tensor.from_numpy(colour)),
            K,
            K,
            world_to_cam,
            1.0,
            limit,
            truncation,
        )
    if not grid.hashmap().size():
        return o3d.geometry.TriangleMesh()
    return grid.extract_triangle_mesh(weight_threshold=weight_threshold).to_legacy()


def _cleaned(surface: o3d.geometry.TriangleMesh, min_component: float) -> Mesh:
    """Return the surface without small pieces, with normals facing outward, as our type."""
    surface.remove_degenerate_triangles()
    if not len(surface.triangles):
        return _empty_mesh()
    labels, sizes, _ = surface.cluster_connected_triangles()
    counts = np.asarray(sizes)
    # Relative to the whole, but never more than the largest piece.
    needed = min(min_component * counts.sum(), counts.max())
    surface.remove_triangles_by_mask(counts[np.asarray(labels)] < needed)
    surface.remove_unreferenced_vertices()
    surface.compute_vertex_normals()
    return Mesh(
        np.asarray(surface.vertices, np.float32),
        np.asarray(surface.triangles, np.int32),
        _to_bytes(np.asarray(surface.vertex_colors)),
        np.asarray(surface.vertex_normals, np.float32),
    )


def _frame_points(frame: Frame, frames: Sequence[Frame]) -> PointCloud:
    """Return the world points of one frame that the other frames don't vote down."""
    known = frame.depth > 0
    camera = unproject(frame.depth, frame.intrinsics)
    normals = _normals(camera, known)
    world = transform_points(frame.cam_to_world, camera[known])
    votes = sum((_votes(other, world) for other in frames if other is not frame), np.zeros(1))
    keep = np.broadcast_to(votes >= 0, len(world))
    normals = normals[known] @ frame.cam_to_world[:3, :3].T
    return PointCloud(
        world[keep].astype(np.float32),
        frame.pixels[known][keep],
        normals[keep].astype(np.float32),
        frame.confidence[known][keep],
    )


def _votes(other: Frame, world: Array, margin: float = 0.03) -> Array:
    """Return +1 for points (P, 3) that ``other`` measured too, -1 where it looked past them."""
    camera = transform_points(invert_rigid(other.cam_to_world), world)
    xy = project(camera, other.intrinsics)
    height, width = other.depth.shape
    with np.errstate(invalid="ignore"):
        inside = np.all((xy >= 0) & (xy < [width, height]), axis=-1)
    column, row = np.where(inside[:, None], xy, 0).astype(int).T
    ratio = np.where(inside, other.depth[row, column], 0) / np.where(inside, camera[:, 2], 1)
    agrees = np.abs(ratio - 1) < margin
    return agrees.astype(np.float64) - (ratio > 1 + margin)


def _normals(camera: Array, known: NDArray[np.bool_]) -> Array:
    """Return unit normals (h, w, 3) towards the camera, from neighbouring pixels.

    A pixel without known neighbours on both axes faces the camera.
    """
    tangents = []
    for axis in (1, 0):
        before, after = np.roll(camera, 1, axis), np.roll(camera, -1, axis)
        has_before, has_after = np.roll(known, 1, axis), np.roll(known, -1, axis)
        has_before[(slice(None), 0) if axis else 0] = False
        has_after[(slice(None), -1) if axis else -1] = False
        start = np.where(has_before[..., None], before, camera)
        tangents.append(np.where(has_after[..., None], after, camera) - start)
    normals = np.cross(tangents[1], tangents[0])
    length = np.linalg.norm(normals, axis=-1, keepdims=True)
    facing = -camera / np.linalg.norm(camera, axis=-1, keepdims=True).clip(1e-12)
    normals = np.where(length > 0, normals / np.maximum(length, 1e-300), facing)
    return np.where((normals * facing).sum(-1, keepdims=True) < 0, -normals, normals)


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


def _to_bytes(colours: Array) -> NDArray[np.uint8]:
    return np.round(np.clip(colours, 0, 1) * 255).astype(np.uint8)


def _empty_mesh() -> Mesh:
    none = np.zeros((0, 3), np.float32)
    return Mesh(none, np.zeros((0, 3), np.int32), np.zeros((0, 3), np.uint8), none)


def _empty_cloud() -> PointCloud:
    none = np.zeros((0, 3), np.float32)
    return PointCloud(none, np.zeros((0, 3), np.uint8), none, np.zeros(0, np.float32))
