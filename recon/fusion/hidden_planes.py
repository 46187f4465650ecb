"""Planes of the scene that go on behind what stands before them.

Ground behind a bench, the foot of a wall behind pots: what no photo measured, or only through a gap
of a few pixels, is closed where the plane around it goes on. A hole counts as closed in by what is
known of the plane and by other planes at which it ends; what any photo looks past stays open.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray

from pointmap.camera import Array
from recon.fusion.frames import UsableDepth
from recon.fusion.scene_planes import ScenePlane, scene_planes
from recon.fusion.tsdf import BLOCK, Volume
from recon.fusion.voxel_size import unique_rows
from recon.fusion.witnesses import is_in_picture, measured_over_true
from recon.work.threads import in_threads

# Voxels along the edge of a cell; cells in all from which a face is believed to go on, as those of
# ground, walls and floors do, and to end others; from which the mean of a relief ends others; and
# in a patch.
_CELL, _LEAST_FACE, _LEAST_MEAN, _LEAST_PATCH = 2, 2000, 4000, 200
# A hole is closed whose inside is nowhere farther from its rim than so many cells: 60 voxels, or a
# sixth of a photo's longer side at the usual distance.
_REACH = 30
# Photos whose cells are put together at once.
_TOGETHER = 16
# Cells of a plane's grid at most: one that reaches farther is left alone.
_MOST_CELLS = 2**24
# What is so many voxels from a plane is known to be on it; and a plane ends at another that it
# crosses at more than 60 degrees, there to so many cells.
_ON_PLANE, _LEAST_ANGLE, _CROSSING = 1.5, 0.5, 0.75
# What is fewer voxels before a plane is relief on it, or near enough to be the surface there; and
# planes are parallel that differ by less than 11 degrees.
_RELIEF, _PARALLEL = 8.0, 0.98
# Photos that found nothing where a place would be seen, to one that something hides it from: there
# may be a thing that no photo measured, chairs' legs in a room.
_BLIND = 0.5
# Voxels to either side of a plane that marching cubes ask for: the diagonal of one.
_BAND = 1.75
# What a voxel of a hidden plane weighs, next to nothing.
_WEIGHT = 1e-6


@dataclass(frozen=True)
class HiddenPlane:
    """A ``plane`` in cells (I, J) of ``edge`` along its axes, the first at ``low`` (2,), of which
    those that are hidden are ``filled``.
    """

    plane: ScenePlane
    edge: float
    low: NDArray[np.int64]
    filled: NDArray[np.bool_]


def hidden_planes(
    depths: Sequence[UsableDepth], voxel: float, max_depth_jump: float
) -> list[HiddenPlane]:
    """Return where planes of the scene go on hidden from all photos."""
    grids = _known(scene_planes(depths, voxel, max_depth_jump), depths, voxel)
    near = [replace(grid, filled=_widened(grid.filled, _REACH)) for grid in grids]
    found, whole = [], list[HiddenPlane]()
    for number, grid in enumerate(grids):
        if not grid.plane.one_face:
            continue
        ends = np.zeros_like(grid.filled)
        for other in (*near[:number], *near[number + 1 :]):
            ends |= _ends_at(other, grid)
        hidden = _closed_in(grid.filled | ends) & ~grid.filled
        hidden[hidden] = _only_hidden(depths, grid.plane, _middles(grid, hidden), voxel)
        for larger in whole:
            if larger.plane.normal @ grid.plane.normal > _PARALLEL:
                hidden[hidden] = ~_beside(larger, _middles(grid, hidden), _RELIEF * voxel)
        whole.append(replace(grid, filled=grid.filled | hidden))
        if hidden.any():
            found.append(replace(grid, filled=hidden))
    return found


def blocks_of(planes: Sequence[HiddenPlane], voxel: float) -> NDArray[np.int32]:
    """Return the blocks (B, 3) of voxels in which planes are filled."""
    rows = [np.zeros((0, 3), np.int32)]
    for plane in planes:
        middles = _middles(plane, plane.filled)
        for step in product((-1, 1), repeat=3):
            near = middles + np.array(step) * ((_BAND + _CELL) * voxel)
            rows.append(np.floor(near / (BLOCK * voxel)).astype(np.int32))
    return unique_rows(torch.from_numpy(np.concatenate(rows))).numpy()


def fill(volume: Volume, planes: Sequence[HiddenPlane], truncation: float) -> None:
    """Put the planes into the voxels of ``volume`` that no photo measured."""
    voxel = volume.voxel_size
    blocks = volume.blocks.cpu().numpy()
    corner = np.arange(BLOCK)
    z, y, x = np.meshgrid(corner, corner, corner, indexing="ij")
    inside = np.stack([x, y, z], -1).reshape(-1, 3)
    for hidden in planes:
        normal, offset = hidden.plane.normal, hidden.plane.offset
        middle = (blocks + 0.5) * (BLOCK * voxel)
        reach = 0.5 * np.sqrt(3) * BLOCK * voxel
        rows = np.flatnonzero(np.abs(middle @ normal - offset) < reach + _BAND * voxel)
        rows = rows[_at(hidden, _widened(hidden.filled, reach / hidden.edge + 1), middle[rows])]
        if not len(rows):
            continue
        places = (blocks[rows, None] * BLOCK + inside) * voxel
        distance = places @ normal - offset
        taken = np.abs(distance) < _BAND * voxel
        taken[taken] = _at(hidden, hidden.filled, places[taken])
        row, column = np.nonzero(taken)
        device = volume.weight.device
        values = np.clip(distance[taken] / truncation, -1, 1).astype(np.float32)
        at = tuple(torch.from_numpy(k).to(device) for k in (rows[row], column))
        free = volume.weight[at] == 0
        at = at[0][free], at[1][free]
        volume.distance[at] = torch.from_numpy(values).to(device)[free]
        volume.weight[at] = _WEIGHT


def _known(
    planes: Sequence[ScenePlane], depths: Sequence[UsableDepth], voxel: float
) -> list[HiddenPlane]:
    """Return the planes with the cells in which photos measured them for ``filled``."""
    if not planes:
        return []
    edge = _CELL * voxel
    normals = np.stack([plane.normal for plane in planes]).astype(np.float32)
    offsets = np.array([plane.offset for plane in planes], np.float32)
    axes = [plane.axes.astype(np.float32) for plane in planes]

    def cells(depth: UsableDepth) -> list[NDArray[np.int64]]:
        points = depth.world_points()[:, ::_CELL]
        near = np.abs(normals @ points - offsets[:, None]) < _ON_PLANE * voxel
        found = []
        for its, on in zip(axes, near, strict=True):
            i, j = np.floor(its @ points[:, on] / edge).astype(np.int64)
            # Both in one number: rows are slow to tell apart.
            found.append(np.unique((i << 32) + j))
        return found

    seen = [np.zeros(0, np.int64)] * len(planes)
    waiting: list[list[NDArray[np.int64]]] = []
    for number, its in enumerate(in_threads(cells, depths), 1):
        waiting.append(its)
        # Many photos see the same cells.
        if len(waiting) == _TOGETHER or number == len(depths):
            every = [np.concatenate(own) for own in zip(seen, *waiting, strict=True)]
            seen, waiting = [np.unique(own) for own in every], []
    found = []
    for plane, both in zip(planes, seen, strict=True):
        least = _LEAST_FACE if plane.one_face else _LEAST_MEAN
        if len(both) < least:
            continue
        first = (both + (1 << 31)) >> 32
        touched = np.stack([first, both - (first << 32)])
        low = touched.min(axis=1) - _REACH - 2
        size = touched.max(axis=1) - low + _REACH + 3
        if np.prod(size) > _MOST_CELLS:
            continue
        known = np.zeros(size, bool)
        known[tuple(touched - low[:, None])] = True
        known = _patches(known)
        if known.sum() >= least:
            found.append(HiddenPlane(plane, edge, low, known))
    return found


def _patches(known: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return cells without gaps between pixels, lines and small patches."""
    import cv2

    square = np.ones((3, 3), np.uint8)
    whole = cv2.morphologyEx(known.astype(np.uint8), cv2.MORPH_CLOSE, square)
    whole = cv2.morphologyEx(whole, cv2.MORPH_OPEN, square)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(whole, connectivity=4)
    return (whole > 0) & (stats[labels, cv2.CC_STAT_AREA] >= _LEAST_PATCH)


def _ends_at(other: HiddenPlane, grid: HiddenPlane) -> NDArray[np.bool_]:
    """Return the cells at which a plane ends, as it meets the ``filled`` ones of the other."""
    ends = np.zeros_like(grid.filled)
    if abs(other.plane.normal @ grid.plane.normal) > _LEAST_ANGLE:
        return ends
    # Of the cells only those along a line: distance from the other is linear in both numbers.
    slope = grid.plane.axes @ other.plane.normal * grid.edge
    start = grid.plane.offset * (grid.plane.normal @ other.plane.normal) - other.plane.offset
    i, j = (low + 0.5 + np.arange(n) for low, n in zip(grid.low, ends.shape, strict=True))
    ends = np.abs(start + i[:, None] * slope[0] + j * slope[1]) < _CROSSING * grid.edge
    ends[ends] = _at(other, other.filled, _middles(grid, ends))
    return np.asarray(ends)


def _closed_in(known: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return cells that no circle of the reach comes to that has nothing known in it (closing)."""
    # Beyond the grid nothing is known, as far as a circle may lie.
    return (
        _distance(~_widened(np.pad(known, _REACH), _REACH))[_REACH:-_REACH, _REACH:-_REACH] > _REACH
    )


def _widened(cells: NDArray[np.bool_], radius: float) -> NDArray[np.bool_]:
    return np.asarray(_distance(cells) <= radius)


def _distance(cells: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return how far each cell is from the nearest of ``cells``."""
    import cv2

    return np.asarray(cv2.distanceTransform((~cells).astype(np.uint8), cv2.DIST_L2, 5), np.float32)


def _middles(grid: HiddenPlane, which: NDArray[np.bool_]) -> Array:
    """Return the middles (P, 3) of some cells (I, J) of a grid."""
    along = (np.argwhere(which) + grid.low + 0.5) * grid.edge
    return np.asarray(along @ grid.plane.axes + grid.plane.normal * grid.plane.offset)


def _at(
    grid: HiddenPlane, cells: NDArray[np.bool_], places: NDArray[np.floating]
) -> NDArray[np.bool_]:
    """Return at which ``places`` (P, 3), straight above or below, some ``cells`` (I, J) are."""
    number = np.floor(places @ grid.plane.axes.T / grid.edge).astype(np.int64) - grid.low
    inside = np.asarray(((number >= 0) & (number < cells.shape)).all(axis=1))
    inside[inside] = cells[tuple(number[inside].T)]
    return inside


def _beside(grid: HiddenPlane, places: Array, distance: float) -> NDArray[np.bool_]:
    """Return which places (P, 3) are at a ``distance`` at most from the cells of a grid."""
    off = np.abs(places @ grid.plane.normal - grid.plane.offset)
    return (off < distance) & _at(grid, grid.filled, places)


def _only_hidden(
    depths: Sequence[UsableDepth], plane: ScenePlane, places: Array, voxel: float
) -> NDArray[np.bool_]:
    """Return which places (P, 3) of a plane are hidden by what stands well before it, and that no
    photo looks past: of the photos that look there at least half say so, or found the plane, and
    those that found nothing are few.
    """
    hiding, found, blind, looking = (np.zeros(len(places), np.int32) for _ in range(4))
    past = np.zeros(len(places), bool)
    for depth in depths:
        ratio = measured_over_true(depth, places)
        # How far what was measured is before the plane: along the ray that means little.
        above = plane.normal @ depth.cam_to_world[:3, 3] - plane.offset
        before = np.where(ratio < 0, -np.inf, above * (1 - ratio) / voxel)
        looks, knows = is_in_picture(depth, places), ratio != 0
        hiding += knows & (before > _RELIEF)
        found += knows & (before < _ON_PLANE)
        past |= knows & (before < -_ON_PLANE)
        blind += looks & ~knows
        looking += looks
    return (hiding > 0) & (blind <= _BLIND * hiding) & (2 * (hiding + found) >= looking) & ~past
