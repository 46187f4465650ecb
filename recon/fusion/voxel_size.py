"""How large voxels are, and the cells of space in which anything was measured."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from recon.fusion.facing import facing
from recon.fusion.frames import UsableDepth
from recon.fusion.options import FusionOptions
from recon.work.threads import in_threads

# Edge, in voxels, of the cells by which the area of a surface is estimated.
_AREA_CELL = 8
# Cells of new photos are collected up to this number before they are merged with the rest.
_CELLS_WAITING = 2**18


def automatic_voxel_size(depths: Sequence[UsableDepth], options: FusionOptions) -> float:
    """Return 1.5 pixel footprints at the median depth, more where the mesh would grow too large.

    A surface of area S gives about 2 S / voxel^2 triangles; S is at most what all photos see, and
    at most about the faces of the cells of space that it passes through.
    """
    footprints, area = [], 0.0
    for depth in depths:
        z, known = depth.depth, depth.known
        focal = np.sqrt(depth.intrinsics[0, 0] * depth.intrinsics[1, 1])
        footprints.append(np.median(z[known]) / focal)
        # What is slanted is larger than it looks.
        pixels = np.square(z / focal, dtype=np.float64) / facing(z, depth.intrinsics)
        area += float(pixels[known].sum())
    # Overlapping photos see the same surface again; half of what they see is a safe guess.
    area *= 0.5 if len(depths) > 2 else 1.0
    finest = 1.5 * float(np.median(footprints))
    if 2 * area > options.max_triangles * finest**2 and len(depths) > 2:
        edge = _AREA_CELL * finest
        area = min(area, len(touched_cells(depths, edge)) * edge**2)
    return max(finest, float(np.sqrt(2 * area / options.max_triangles)))


def touched_cells(depths: Sequence[UsableDepth], edge: float) -> Tensor:
    """Return the cells (C, 3) int32 of ``edge`` in which anything was measured."""

    def touched(depth: UsableDepth) -> Tensor:
        places = np.floor(depth.world_points().T / np.float32(edge)).astype(np.int32)
        return unique_rows(torch.from_numpy(places))

    found = torch.zeros(0, 3, dtype=torch.int32)
    waiting: list[Tensor] = []
    for cells in in_threads(touched, depths):
        waiting.append(cells)
        # Photos overlap: many of a few have no more cells than one of them.
        if sum(map(len, waiting)) > max(len(found), _CELLS_WAITING):
            found, waiting = unique_rows(torch.cat([found, *waiting])), []
    return unique_rows(torch.cat([found, *waiting]))


def unique_rows(rows: Tensor) -> Tensor:
    """Return the different rows (N, 3) int32; torch's own search by rows is many times slower."""
    if not len(rows):
        return rows
    low = rows.amin(0)
    span = (rows.amax(0) - low + 1).to(torch.int64)
    shifted = (rows - low).to(torch.int64)
    key = torch.unique((shifted[:, 0] * span[1] + shifted[:, 1]) * span[2] + shifted[:, 2])
    z, rest = key % span[2], key // span[2]
    return torch.stack([rest // span[1], rest % span[1], z], -1).to(torch.int32) + low
