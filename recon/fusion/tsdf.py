"""Truncated signed distances of many depth maps in sparse blocks of voxels, on any torch device.

Curless and Levoy 1996, in blocks as Niessner et al. 2013. Every pixel has its own weight, which
Open3D's integration has not: sure depth then decides wherever some photo has it. A photo also
clears the space it looks through, so that what it contradicts is outvoted rather than kept.
Distances are along the surface's normal, as each pixel slants: along z a voxel below ground that is
seen at a few degrees is ten voxels away.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from pointmap.camera import invert_rigid
from recon.fusion.cube_cases import EDGES, triangles_of_cases
from recon.fusion.facing import BEHIND, faced_by
from recon.fusion.frames import Frame, UsableDepth
from recon.fusion.voxel_size import touched_cells, unique_rows
from recon.work.threads import in_threads

if TYPE_CHECKING:
    import open3d as o3d

# Voxels along the edge of a block.
BLOCK = 8
# Two numbers of a voxel; of marching cubes the vertices on its edges, and a case.
BYTES_PER_BLOCK = ((2 + 3) * 4 + 1) * BLOCK**3
# What a pixel tells of beyond a truncation along z counts so much less: whoever looks past it
# outvotes it.
_SLIGHT = 1e-3
# Cells whose surroundings are listed at once.
_PART = 2**16
# Blocks handled at once by one thread of a CPU, and on a GPU.
_CHUNK, _GPU_CHUNK = 2**10, 2**14


@dataclass(frozen=True)
class Volume:
    """Voxel ``blocks`` (B, 3) int32, in blocks from the world's origin, and their voxels: signed
    ``distance`` (B, 512) in truncations and its ``weight`` (B, 512).
    """

    voxel_size: float
    blocks: Tensor
    distance: Tensor
    weight: Tensor


def touched_blocks(depths: Sequence[UsableDepth], voxel: float, truncation: float) -> Tensor:
    """Return the blocks (B, 3) int32 that lie within ``truncation`` of any measured point."""
    half = 0.5 * BLOCK * voxel
    reach = max(1, int(np.ceil(truncation / half - 1e-6)))
    steps = torch.unique(torch.tensor([-reach, *range(1 - reach, reach, 2), reach]))
    around = torch.cartesian_prod(steps, steps, steps).to(torch.int32)
    halves = touched_cells(depths, half)
    near = [
        unique_rows(
            torch.div(part[:, None] + around, 2, rounding_mode="floor")
            .to(torch.int32)
            .reshape(-1, 3)
        )
        for part in halves.split(_PART)
    ]
    return unique_rows(torch.cat(near)) if near else halves


def integrate(
    frames: Iterable[Frame], blocks: Tensor, voxel: float, truncation: float, device: str
) -> Volume:
    """Return the volume of ``blocks`` with all frames averaged by weight."""
    size = (len(blocks), BLOCK**3)
    distance, weight = (torch.zeros(size, device=device) for _ in range(2))
    volume = Volume(voxel, blocks.to(device), distance, weight)
    for frame in frames:
        _add(volume, frame, faced_by(frame), truncation)
    return volume


def _add(volume: Volume, frame: Frame, faced: NDArray[np.float32], truncation: float) -> None:
    """Average one frame into the volume, whose pixels' surfaces it ``faced`` (h, w) so squarely."""
    device = volume.weight.device
    world_to_cam = torch.from_numpy(invert_rigid(frame.cam_to_world)).to(device)
    to_pixel = torch.from_numpy(frame.intrinsics).to(device) @ world_to_cam[:3]
    corner = torch.arange(BLOCK, device=device)
    # Open3D numbers the voxels of a block x fastest.
    inside = torch.cartesian_prod(corner, corner, corner).flip(-1).to(torch.float64)
    steps = (inside * volume.voxel_size @ to_pixel[:, :3].T).float().T.contiguous()
    weight = pixel_weight(frame, volume.voxel_size, faced) * (frame.depth > 0)
    pictures = torch.from_numpy(np.stack([frame.depth, weight, faced], axis=-1)).to(device)
    visible = _visible_blocks(volume, pictures, to_pixel, truncation)
    corners = volume.blocks[visible].to(torch.float64) * (BLOCK * volume.voxel_size)
    bases = (corners @ to_pixel[:, :3].T + to_pixel[:, 3]).float()
    average = _average_compiled if device.type == "cpu" else _average
    average(volume, pictures, visible, bases, steps, truncation)


def _average_compiled(
    volume: Volume,
    pictures: Tensor,
    visible: Tensor,
    bases: Tensor,
    steps: Tensor,
    truncation: float,
) -> None:
    """:func:`_average` on a CPU, equal but for rounding, in a fifth of the time."""
    from recon.fusion.compiled_averaging import average

    volume_arrays = volume.distance.numpy(), volume.weight.numpy()
    reach = np.float32(truncation), np.float32(BEHIND), np.float32(_SLIGHT)

    def one(part: slice) -> None:
        blocks = visible[part].numpy(), bases[part].numpy()
        average(*volume_arrays, *blocks, steps.numpy(), pictures.numpy(), *reach)

    for _ in in_threads(one, _slices(len(visible), _CHUNK)):
        pass


def _average(
    volume: Volume,
    pictures: Tensor,
    visible: Tensor,
    bases: Tensor,
    steps: Tensor,
    truncation: float,
) -> None:
    """Average a photo into the ``visible`` (N,) blocks, whose first voxels are at homogeneous
    pixels ``bases`` (N, 3), the others ``steps`` (3, 512) on. ``pictures`` (h, w, 3): depth, weight
    and how squarely surfaces face each pixel.
    """
    height, width, _ = pictures.shape
    # One more pixel, of weight 0, for what lies outside.
    looked_up = F.pad(pictures.flatten(0, 1), (0, 0, 0, 1))
    for part in _slices(len(visible), _GPU_CHUNK):
        rows, base = visible[part], bases[part]
        x, y, z = (base[:, k, None] + steps[k] for k in range(3))
        nearer = z.reciprocal()
        column, row = (x * nearer).floor_(), (y * nearer).floor_()
        seen = (z > 0) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
        pixel = row.to(torch.int32).mul_(width).add_(column.to(torch.int32))
        depth, new, faced = looked_up[torch.where(seen, pixel, height * width)].unbind(-1)
        distance = (depth - z).mul_(faced).mul_(1 / truncation)
        new = new * (distance > -faced.clamp_min(BEHIND))
        new = torch.where(distance < -faced, new * _SLIGHT, new)
        before = volume.distance[rows]
        total = volume.weight[rows].add_(new)
        share = new.div_(total.clamp_min(1e-12))
        volume.weight[rows] = total
        volume.distance[rows] = before.lerp_(distance.clamp_(-1, 1), share)


def _slices(count: int, size: int) -> list[slice]:
    return [slice(start, start + size) for start in range(0, count, size)]


def pixel_weight(frame: Frame, voxel: float, faced: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what a pixel (h, w) counts: more when sure, and when it is small on the surface that
    it ``faced`` (h, w).
    """
    focal = np.sqrt(frame.intrinsics[0, 0] * frame.intrinsics[1, 1])
    footprint = np.maximum(frame.depth / (focal * voxel), 1e-3)
    weight = (np.maximum(frame.confidence, 1e-3) / footprint) ** 2
    return (weight * faced).astype(np.float32)


def _visible_blocks(
    volume: Volume, pictures: Tensor, to_pixel: Tensor, truncation: float
) -> Tensor:
    """Return the numbers of the blocks inside the photo and not behind all that it measured."""
    edge = BLOCK * volume.voxel_size
    radius = 0.5 * np.sqrt(3) * edge
    centres = (volume.blocks.to(torch.float64) + 0.5) * edge
    x, y, z = ((centres @ to_pixel[:, :3].T + to_pixel[:, 3]).float()).T
    height, width, _ = pictures.shape
    z_near = z.clamp_min(1e-12)
    reach = radius * float(to_pixel[:2, :3].norm(dim=1).max()) / z_near
    u, v = x / z_near, y / z_near
    inside = (z > -radius) & (u > -reach) & (u < width + reach) & (v > -reach)
    inside &= v < height + reach
    # The farthest that is reached within a tile and its neighbours; what is near may look larger
    # than those, so that near blocks are all taken.
    tile = 16
    depth, _, faced = pictures.unbind(-1)
    reached = torch.where(depth > 0, depth + (BEHIND / faced).clamp_min(1) * truncation, 0.0)
    farthest = F.max_pool2d(reached[None, None], tile, ceil_mode=True)
    farthest = F.max_pool2d(farthest, 3, stride=1, padding=1)[0, 0]
    column, row = (
        torch.div(value.clamp(0, size - 1), tile, rounding_mode="floor").long()
        for value, size in ((u, width), (v, height))
    )
    behind = (z - radius > farthest[row, column]) & (reach < tile)
    return (inside & ~behind).nonzero().squeeze(1)


def extract(volume: Volume) -> o3d.geometry.TriangleMesh:
    """Return the surface where the distance is 0 and all voxels around were measured, by marching
    cubes.
    """
    import open3d as o3d

    from recon.fusion.compiled_marching import draw, find_cases

    table, starts = triangles_of_cases()
    blocks, distance, weight = (
        np.ascontiguousarray(part.cpu().numpy())
        for part in (volume.blocks, volume.distance, volume.weight)
    )
    following = _following(blocks)
    cases = np.zeros(distance.shape, np.uint8)
    count = find_cases(distance, weight, following, starts, cases)
    triangles = np.empty((count, 3), np.int32)
    # Of these and of the numbers, what is not written to takes no memory.
    vertices = np.empty((3 * count, 3), np.float64)
    numbers = np.zeros((*distance.shape, 3), np.int32)
    made = draw(
        distance, blocks, following, cases, starts, table, EDGES, numbers, vertices, triangles
    )
    # As the finished mesh will have them, so that none leaves a box by being rounded.
    places = (vertices[:made] * volume.voxel_size).astype(np.float32).astype(np.float64)
    return o3d.geometry.TriangleMesh(
        o3d.utility.Vector3dVector(places),
        o3d.utility.Vector3iVector(triangles),
    )


def _following(blocks: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return the numbers (B, 8) of the blocks that lie one further along x (bit 0), y (bit 1) and z
    (bit 2) than each of the ``blocks`` (B, 3), -1 where there is none.
    """
    if not len(blocks):
        return np.zeros((0, 8), np.int32)
    low = blocks.min(axis=0)
    span = (blocks.max(axis=0) - low + 2).astype(np.int64)

    def key(some: NDArray[np.int32]) -> NDArray[np.int64]:
        x, y, z = (some - low).astype(np.int64).T
        return np.asarray((x * span[1] + y) * span[2] + z)

    own = key(blocks)
    order = np.argsort(own, kind="stable")
    found = np.empty((len(blocks), 8), np.int32)
    for corner in range(8):
        wanted = key(blocks + np.array([corner >> axis & 1 for axis in range(3)], np.int32))
        place = order[np.minimum(np.searchsorted(own, wanted, sorter=order), len(own) - 1)]
        found[:, corner] = np.where(own[place] == wanted, place, -1)
    return found
