"""From depth maps to one surface (TSDF).

Open3D's tensor ``VoxelBlockGrid`` has pixel centres at +0.5 as :mod:`pointmap.camera` has, so that
K goes in unchanged; it takes cam_from_world matrices, float32 images and float64 cameras only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array, invert_rigid
from recon.fusion.frames import Frame, as_pinhole, automatic_voxel_size, usable_frames
from recon.fusion.options import FusionOptions
from recon.scene import Mesh, View

if TYPE_CHECKING:
    import open3d as o3d


def fuse_mesh(views: Sequence[View], *, options: FusionOptions | None = None) -> Mesh:
    """Return the coloured surface of all registered views; empty when none has usable depth.

    Truncated signed distances averaged in sparse voxel blocks (Curless and Levoy 1996), surface by
    marching cubes, floaters removed.
    """
    options = options or FusionOptions()
    frames = usable_frames(views, options)
    if not frames:
        return _empty_mesh()
    voxel = options.voxel_size or automatic_voxel_size(frames, options)
    # One photo, or little overlap: every voxel must count, however few rays it got.
    pinholes = [as_pinhole(frame, options.max_depth_jump) for frame in frames]
    surface = _integrate(pinholes, voxel, weight_threshold=0.0 if len(frames) < 3 else 1.0)
    return _cleaned(surface, options.min_component)


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


def _to_bytes(colours: Array) -> NDArray[np.uint8]:
    return np.round(np.clip(colours, 0, 1) * 255).astype(np.uint8)


def _empty_mesh() -> Mesh:
    none = np.zeros((0, 3), np.float32)
    return Mesh(none, np.zeros((0, 3), np.int32), np.zeros((0, 3), np.uint8), none)
