"""Truncated signed distances of many depth maps in sparse blocks of voxels, on any torch device.

Curless and Levoy 1996, in blocks as Niessner et al. 2013. Every pixel has its own weight, which
Open3D's integration has not: sure depth then decides wherever some photo has it. A photo also
clears the space it looks through, so that what it contradicts is outvoted rather than kept.
Open3D only draws the surface (marching cubes).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from pointmap.camera import invert_rigid, transform_points, unproject
from recon.fusion.usable_depth import Frame

if TYPE_CHECKING:
    import open3d as o3d

# Voxels along the edge of a block.
BLOCK = 8
# Six numbers of a voxel, float32; twice, for handing them to Open3D.
BYTES_PER_BLOCK = 2 * 6 * 4 * BLOCK**3
# Blocks handled at once, for bounded memory.
_CHUNK = 2**12


@dataclass(frozen=True)
class Volume:
    """Voxel ``blocks`` (B, 3) int32, in blocks from the world's origin, and their voxels:
    signed ``distance`` (B, 512) in truncations, its ``weight`` (B, 512), ``colour`` (B, 512, 3) in
    [0, 1] and its own weight (B, 512), as space that a photo looks through has no colour.
    """

    voxel_size: float
    blocks: Tensor
    distance: Tensor
    weight: Tensor
    colour: Tensor
    colour_weight: Tensor


def touched_blocks(frames: Sequence[Frame], voxel: float, truncation: float) -> Tensor:
    """Return the blocks (B, 3) int32 that lie within ``truncation`` of any measured point."""
    half = 0.5 * BLOCK * voxel
    reach = max(1, int(np.ceil(truncation / half - 1e-6)))
    steps = torch.unique(torch.tensor([-reach, *range(1 - reach, reach, 2), reach]))
    around = torch.cartesian_prod(steps, steps, steps)
    found = []
    for frame in frames:
        camera = unproject(frame.depth, frame.intrinsics)[frame.depth > 0]
        world = transform_points(frame.cam_to_world, camera)
        cells = _unique_rows(torch.from_numpy(np.floor(world / half).astype(np.int32)))
        near = torch.div(cells[:, None] + around, 2, rounding_mode="floor").to(torch.int32)
        found.append(_unique_rows(near.reshape(-1, 3)))
    return _unique_rows(torch.cat(found))


def _unique_rows(rows: Tensor) -> Tensor:
    """Return the different rows (N, 3) int32; torch's own search by rows is many times slower."""
    if not len(rows):
        return rows
    low = rows.amin(0)
    span = (rows.amax(0) - low + 1).to(torch.int64)
    shifted = (rows - low).to(torch.int64)
    key = torch.unique((shifted[:, 0] * span[1] + shifted[:, 1]) * span[2] + shifted[:, 2])
    z, rest = key % span[2], key // span[2]
    return torch.stack([rest // span[1], rest % span[1], z], -1).to(torch.int32) + low


def integrate(
    frames: Sequence[Frame], blocks: Tensor, voxel: float, truncation: float, device: str
) -> Volume:
    """Return the volume of ``blocks`` with all frames averaged by weight."""
    shape = (len(blocks), BLOCK**3)
    volume = Volume(
        voxel,
        blocks.to(device),
        *(torch.zeros(size, device=device) for size in (shape, shape, (*shape, 3), shape)),
    )
    for frame in frames:
        _add(volume, frame, truncation)
    return volume


def _add(volume: Volume, frame: Frame, truncation: float) -> None:
    """Average one frame into the volume."""
    device = volume.weight.device
    weight = _weight(frame, volume.voxel_size)
    channels = (frame.depth, weight, *np.moveaxis(frame.pixels / np.float32(255), -1, 0))
    picture = torch.from_numpy(np.stack(channels).astype(np.float32)).to(device)
    world_to_cam = torch.from_numpy(invert_rigid(frame.cam_to_world)).to(device)
    to_pixel = torch.from_numpy(frame.intrinsics).to(device) @ world_to_cam[:3]
    # grid_sample's coordinates run from -1 to 1 over the photo's whole width and height.
    height, width = frame.depth.shape
    to_unit = torch.tensor([[2 / width, 0, -1], [0, 2 / height, -1], [0, 0, 1]]).to(to_pixel)
    to_unit = to_unit @ to_pixel
    corner = torch.arange(BLOCK, device=device)
    # Open3D numbers the voxels of a block x fastest.
    inside = torch.cartesian_prod(corner, corner, corner).flip(-1).to(torch.float64)
    steps = (inside * volume.voxel_size @ to_unit[:, :3].T).float()
    for part in _visible_blocks(volume, picture[0], to_pixel, truncation).split(_CHUNK):
        corners = volume.blocks[part].to(torch.float64) * (BLOCK * volume.voxel_size)
        base = (corners @ to_unit[:, :3].T + to_unit[:, 3]).float()
        x, y, z = (base[:, None, k] + steps[:, k] for k in range(3))
        x, y = (torch.where(z > 0, value / z, 2.0) for value in (x, y))
        sampled = F.grid_sample(
            picture[None], torch.stack([x, y], -1)[None], mode="nearest", align_corners=False
        )[0]
        _average(volume, part, sampled, z, truncation)


def _weight(frame: Frame, voxel: float) -> NDArray[np.float32]:
    """Return what a pixel (h, w) counts: more when sure, and when it is small on the surface."""
    focal = np.sqrt(frame.intrinsics[0, 0] * frame.intrinsics[1, 1])
    footprint = np.maximum(frame.depth / (focal * voxel), 1e-3)
    return ((np.maximum(frame.confidence, 1e-3) / footprint) ** 2).astype(np.float32)


def _average(volume: Volume, part: Tensor, sampled: Tensor, z: Tensor, truncation: float) -> None:
    """Average what the voxels (P, 512) of some blocks look at into the volume.

    ``sampled`` (5, P, 512): depth, weight and colour of the pixels; ``z`` (P, 512) of the voxels.
    """
    measured, weight, colour = sampled[0], sampled[1], sampled[2:].permute(1, 2, 0)
    distance = (measured - z) / truncation
    weight = weight * ((measured > 0) & (distance > -1))
    total = volume.weight[part] + weight
    share = weight / total.clamp_min(1e-12)
    volume.weight[part] = total
    volume.distance[part] = torch.lerp(volume.distance[part], distance.clamp(-1, 1), share)
    weight = weight * (distance < 1)
    total = volume.colour_weight[part] + weight
    share = weight / total.clamp_min(1e-12)
    volume.colour_weight[part] = total
    volume.colour[part] = torch.lerp(volume.colour[part], colour, share[..., None])


def _visible_blocks(volume: Volume, depth: Tensor, to_pixel: Tensor, truncation: float) -> Tensor:
    """Return the numbers of the blocks inside the photo and not behind all that it measured."""
    edge = BLOCK * volume.voxel_size
    radius = 0.5 * np.sqrt(3) * edge
    centres = (volume.blocks.to(torch.float64) + 0.5) * edge
    x, y, z = ((centres @ to_pixel[:, :3].T + to_pixel[:, 3]).float()).T
    height, width = depth.shape
    z_near = z.clamp_min(1e-12)
    reach = radius * float(to_pixel[:2, :3].norm(dim=1).max()) / z_near
    u, v = x / z_near, y / z_near
    inside = (z > -radius) & (u > -reach) & (u < width + reach) & (v > -reach)
    inside &= v < height + reach
    # The farthest depth within a tile and its neighbours; what is near may look larger than those,
    # so that near blocks are all taken.
    tile = 16
    farthest = F.max_pool2d(depth[None, None], tile, ceil_mode=True)
    farthest = F.max_pool2d(farthest, 3, stride=1, padding=1)[0, 0]
    column, row = (
        torch.div(value.clamp(0, size - 1), tile, rounding_mode="floor").long()
        for value, size in ((u, width), (v, height))
    )
    behind = (z - radius - truncation > farthest[row, column]) & (reach < tile)
    return (inside & ~behind).nonzero().squeeze(1)


def extract(volume: Volume) -> o3d.geometry.TriangleMesh:
    """Return the surface where the distance is 0 and all voxels around were measured.

    Vertices and triangles are sorted: Open3D's threads leave them in another order each time, on
    which the closing of holes depends.
    """
    import open3d as o3d
    import open3d.core as o3c

    if not (volume.weight > 0).any():
        return o3d.geometry.TriangleMesh()
    count = len(volume.blocks)
    grid = o3d.t.geometry.VoxelBlockGrid(
        ("tsdf", "weight", "color"),
        (o3c.float32,) * 3,
        [o3c.SizeVector([channels]) for channels in (1, 1, 3)],
        voxel_size=volume.voxel_size,
        block_resolution=BLOCK,
        block_count=count,
        device=o3c.Device("CPU:0"),
    )
    slots, _ = grid.hashmap().activate(o3c.Tensor.from_numpy(volume.blocks.cpu().numpy()))
    slots = slots.numpy().astype(np.int64)
    shape = (count, BLOCK, BLOCK, BLOCK, -1)
    attributes = {
        "tsdf": volume.distance,
        "weight": (volume.weight > 0).float(),
        # Open3D takes them for bytes.
        "color": volume.colour * 255,
    }
    for name, values in attributes.items():
        # The array shares the grid's memory.
        grid.attribute(name).numpy()[slots] = values.cpu().numpy().reshape(shape)
    return in_order(grid.extract_triangle_mesh(weight_threshold=0.5).to_legacy())


def in_order(mesh: o3d.geometry.TriangleMesh) -> o3d.geometry.TriangleMesh:
    """Return the same mesh with vertices sorted by position, triangles by their vertices."""
    import open3d as o3d

    vertices, colours = np.asarray(mesh.vertices), np.asarray(mesh.vertex_colors)
    order = np.lexsort((*colours.T, *vertices.T))
    place = np.empty(len(order), np.int32)
    place[order] = np.arange(len(order), dtype=np.int32)
    triangles = place[np.asarray(mesh.triangles)]
    # From its first vertex on, in the same sense of rotation.
    turned = (triangles.argmin(axis=1)[:, None] + np.arange(3)) % 3
    triangles = np.take_along_axis(triangles, turned, axis=1)
    triangles = triangles[np.lexsort(triangles.T[::-1])]
    vector = o3d.utility.Vector3dVector
    ordered = o3d.geometry.TriangleMesh(
        vector(vertices[order]), o3d.utility.Vector3iVector(triangles)
    )
    ordered.vertex_colors = vector(colours[order])
    return ordered
