"""A volume too large for memory is made in parts of space, and their surfaces are joined."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import invert_rigid, pixel_rays
from recon.fusion.facing import BEHIND, LEAST
from recon.fusion.frames import UsableDepth
from recon.fusion.tsdf import BLOCK
from recon.fusion.vertex_order import merged, sorted_by_place

if TYPE_CHECKING:
    import open3d as o3d

Blocks = NDArray[np.int32]
Part = tuple[NDArray[np.float32], NDArray[np.int32]]
"""Vertices (V, 3) and triangles (F, 3) of the surface in a part of space."""

# Blocks are looked at by cubes of so many along an edge; a photo's border is looked at in so many
# places along a side, and what it may show beyond them, in tangents.
_GROUP, _BORDER, _SLACK = 4, 33, 0.02
# A cell of eight voxels lies in the block where it begins, or reaches into those that follow.
_FOLLOWING = np.stack(np.meshgrid(*3 * [[0, 1]], indexing="ij"), axis=-1).reshape(-1, 3)[1:]


def parts_of(blocks: Blocks, at_most: int) -> Iterator[tuple[Blocks, Blocks]]:
    """Yield parts of ``blocks`` (B, 3): the part's own, and these with the ones that its surface
    reaches into, together ``at_most`` or one with those around it.
    """
    waiting = [blocks]
    while waiting:
        own = waiting.pop()
        own_or_following = own
        if len(own) < len(blocks):
            near = np.unique((own[:, None] + _FOLLOWING).reshape(-1, 3), axis=0)
            near = near[_among(near, blocks) & ~_among(near, own)].astype(np.int32)
            own_or_following = np.concatenate([own, near])
        if len(own_or_following) <= at_most or len(own) == 1:
            yield own, own_or_following
            continue
        axis = int(np.ptp(own, axis=0).argmax())
        order = np.argsort(own[:, axis], kind="stable")
        waiting += [own[order[len(own) // 2 :]], own[order[: len(own) // 2]]]


def looking_into(
    depths: Sequence[UsableDepth], blocks: Blocks, voxel: float, truncation: float
) -> list[UsableDepth]:
    """Return the photos that may change voxels of ``blocks`` (B, 3); the others need not be read.

    Such a photo's pyramid of view, as far behind the farthest that it measured as it averages,
    comes near one of them.
    """
    edge = _GROUP * BLOCK * voxel
    centres = (np.unique(blocks // _GROUP, axis=0) + 0.5) * edge
    radius = 0.5 * np.sqrt(3) * edge
    reach = max(1.0, BEHIND / LEAST) * truncation + radius

    def looks(depth: UsableDepth) -> bool:
        world_to_cam = invert_rigid(depth.cam_to_world)
        x, y, z = (centres @ world_to_cam[:3, :3].T + world_to_cam[:3, 3]).T
        farthest = float(depth.rounded.max()) * depth.unit
        near = (z > -radius) & (z < farthest + reach)
        for along, (low, high) in zip((x, y), _slopes(depth), strict=True):
            near &= low * z - along < radius * np.hypot(1, low)
            near &= along - high * z < radius * np.hypot(1, high)
        return bool(near.any())

    return [depth for depth in depths if looks(depth)]


def _slopes(depth: UsableDepth) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the least and the largest x / z, and y / z, of what the photo may see."""
    height, width = depth.rounded.shape
    across, down = (np.linspace(0, size, _BORDER) for size in (width, height))
    border = [[(x, y) for x in across for y in (0, height)],
              [(x, y) for x in (0, width) for y in down]]  # fmt: skip
    rays = pixel_rays(np.concatenate(border), depth.intrinsics, depth.lens)
    low, high = rays.min(axis=0) - _SLACK, rays.max(axis=0) + _SLACK
    return (float(low[0]), float(high[0])), (float(low[1]), float(high[1]))


def inside(
    mesh: o3d.geometry.TriangleMesh, blocks: Blocks, voxel: float
) -> o3d.geometry.TriangleMesh:
    """Return the triangles of the cells that begin in ``blocks``, of voxels of a size."""
    corners = np.asarray(mesh.vertices)[np.asarray(mesh.triangles)]
    # The middle of a triangle is inside its cell.
    cells = np.floor(corners.mean(axis=1) / voxel).astype(np.int32)
    mesh.remove_triangles_by_mask((~_among(cells // BLOCK, blocks)).tolist())
    mesh.remove_unreferenced_vertices()
    return mesh


def joined(parts: Sequence[Part]) -> o3d.geometry.TriangleMesh:
    """Return the parts as one mesh in its own order, on which the closing of holes depends;
    vertices of the same place, where two meet, become one.
    """
    import open3d as o3d

    starts = np.cumsum([0, *(len(vertices) for vertices, _ in parts)])
    numbered = zip(starts, parts, strict=False)
    together = np.concatenate([part[1] + start for start, part in numbered])
    order = merged if len(parts) > 1 else sorted_by_place
    vertices, triangles = order(np.concatenate([part[0] for part in parts]), together)
    return o3d.geometry.TriangleMesh(
        o3d.utility.Vector3dVector(vertices.astype(np.float64)),
        o3d.utility.Vector3iVector(triangles),
    )


def _among(rows: NDArray[np.integer], blocks: Blocks) -> NDArray[np.bool_]:
    """Return (N,) which ``rows`` (N, 3) are among ``blocks``."""
    low, high = blocks.min(axis=0), blocks.max(axis=0)
    within = ((rows >= low) & (rows <= high)).all(axis=1)
    span = (high - low + 1).astype(np.int64)

    def key(some: NDArray[np.integer]) -> NDArray[np.int64]:
        x, y, z = (some - low).astype(np.int64).T
        return np.asarray((x * span[1] + y) * span[2] + z)

    return np.asarray(within & np.isin(key(rows), key(blocks)))
