"""From depth maps to one point cloud."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array
from recon.depth.derived_maps import depth_normals
from recon.fusion.frames import UsableDepth
from recon.fusion.options import FusionOptions
from recon.fusion.usable_depth import inside_box, usable_depths
from recon.fusion.voxel_size import automatic_voxel_size
from recon.fusion.witnesses import count_votes, witnesses
from recon.scene import PointCloud, View
from recon.work.threads import in_threads

# Cells of new photos are collected up to this number before they are merged with the rest.
_WAITING = 2_000_000
# Voxels grow by this factor where there are too many points: a surface loses two fifths of them.
_COARSER = 1.3


def fuse_points(views: Sequence[View], *, options: FusionOptions | None = None) -> PointCloud:
    """Return the coloured cloud of all registered views; empty when none has usable depth.

    Pixels that more photos see through (they measured something well behind) than confirm are
    dropped; the rest is thinned to one point per voxel, averaged by confidence.
    """
    options = options or FusionOptions()
    return points_of(usable_depths(views, options), options)


def points_of(depths: Sequence[UsableDepth], options: FusionOptions) -> PointCloud:
    """Return the cloud of usable depth.

    Every photo's points are thinned by themselves and merged with those before, so that memory
    grows with the scene and not with the number of photos.
    """
    if not depths:
        return _empty_cloud()
    voxel = options.voxel_size or automatic_voxel_size(depths, options)
    finest = grid = _Grid.around(depths, voxel)

    def cells_of(pair: tuple[UsableDepth, Sequence[UsableDepth]]) -> _Cells:
        return _Cells.of(_photo_points(*pair, options), finest)

    merged, waiting = _Cells.of(_empty_cloud(), grid), []
    for cells in in_threads(cells_of, zip(depths, witnesses(depths), strict=True)):
        waiting.append(cells)
        if sum(len(cells.key) for cells in waiting) > _WAITING:
            merged, grid = _merged(merged, waiting, finest, grid, options.max_points)
            waiting = []
    merged, grid = _merged(merged, waiting, finest, grid, options.max_points)
    return merged.points(grid)


@dataclass(frozen=True)
class _Grid:
    """Voxels of edge ``voxel``; cells are numbered from ``low`` (3,) in a box of ``span`` (3,)."""

    voxel: float
    low: NDArray[np.int64]
    span: NDArray[np.int64]

    @staticmethod
    def around(depths: Sequence[UsableDepth], voxel: float) -> _Grid:
        """Return the grid of all points; coarser than ``voxel`` where 63 bits don't number it."""
        low, high = np.full(3, np.inf), np.full(3, -np.inf)
        for low_here, high_here in in_threads(_bounds, depths):
            low, high = np.minimum(low, low_here), np.maximum(high, high_here)
        # What was rounded may lie a little farther out.
        room = 0.01 * (high - low).max() + voxel
        return _Grid._of(low - room, high + room, voxel)

    @staticmethod
    def _of(low: NDArray[np.floating], high: NDArray[np.floating], voxel: float) -> _Grid:
        volume = float(np.prod((high - low) / voxel + 2))
        voxel *= max(1.0, (volume / 2**62) ** (1 / 3))
        first = np.floor(low / voxel).astype(np.int64)
        return _Grid(voxel, first, np.floor(high / voxel).astype(np.int64) - first + 1)

    def coarser(self) -> _Grid:
        """Return the grid of larger voxels."""
        low, high = self.low * self.voxel, (self.low + self.span) * self.voxel
        return _Grid._of(low, high, self.voxel * _COARSER)


def _bounds(depth: UsableDepth) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    world = depth.world_points()
    return world.min(axis=1), world.max(axis=1)


@dataclass(frozen=True)
class _Cells:
    """What lies in the cells of a grid: ``key`` (N,) ascending numbers of cells, ``sums`` (N, 11)
    of weight, and weighted offset from the cell's low corner in voxels, colour, normal, confidence.
    """

    key: NDArray[np.int64]
    sums: NDArray[np.float32]

    @staticmethod
    def of(cloud: PointCloud, grid: _Grid) -> _Cells:
        """Return the points in cells."""
        weight = np.maximum(cloud.confidence, 1e-6)[:, None]
        return _Cells._binned(
            cloud.points / grid.voxel,
            weight,
            np.hstack([cloud.colours, cloud.normals, cloud.confidence[:, None]]) * weight,
            grid,
        )

    @staticmethod
    def _binned(
        places: NDArray[np.floating],
        weight: NDArray[np.float32],
        sums: NDArray[np.float32],
        grid: _Grid,
    ) -> _Cells:
        """Return (N, 7) ``sums`` at ``places`` (N, 3), in voxels, in cells."""
        corner = np.floor(places)
        x, y, z = (corner.astype(np.int64) - grid.low).T
        key = (x * grid.span[1] + y) * grid.span[2] + z
        offset = (places - corner).astype(np.float32)
        return _Cells._summed(key, np.hstack([weight, weight * offset, sums]).astype(np.float32))

    @staticmethod
    def _summed(key: NDArray[np.int64], sums: NDArray[np.float32]) -> _Cells:
        """Return rows of equal key added up, in their order."""
        from scipy.sparse import csr_matrix

        order = np.argsort(key, kind="stable")
        key = key[order]
        first = np.flatnonzero(np.diff(key, prepend=-1))
        ones = np.ones(len(key), np.float32)
        rows = csr_matrix((ones, order, np.append(first, len(key))), (len(first), len(key)))
        return _Cells(key[first], rows @ sums)

    @staticmethod
    def joined(parts: Sequence[_Cells]) -> _Cells:
        """Return the cells of several photos in one."""
        keys, sums = zip(*((part.key, part.sums) for part in parts), strict=True)
        return _Cells._summed(np.concatenate(keys), np.concatenate(sums))

    def places(self, grid: _Grid) -> Array:
        """Return the mean place (N, 3) in each cell, in voxels from the world's origin."""
        rest, z = np.divmod(self.key, grid.span[2])
        x, y = np.divmod(rest, grid.span[1])
        corner = np.stack([x, y, z], -1) + grid.low
        return corner + self.sums[:, 1:4].astype(np.float64) / self.sums[:, :1]

    def moved(self, grid: _Grid, target: _Grid) -> _Cells:
        """Return the same in the cells of another grid."""
        if target is grid:
            return self
        places = self.places(grid) * (grid.voxel / target.voxel)
        return _Cells._binned(places, self.sums[:, :1], self.sums[:, 4:], target)

    def points(self, grid: _Grid) -> PointCloud:
        """Return one point per cell: the average of what lies in it."""
        mean = self.sums[:, 4:] / self.sums[:, :1]
        normals = mean[:, 3:6]
        normals /= np.linalg.norm(normals, axis=-1, keepdims=True).clip(1e-12)
        return PointCloud(
            (self.places(grid) * grid.voxel).astype(np.float32),
            np.round(mean[:, :3]).astype(np.uint8),
            normals,
            mean[:, 6].copy(),
        )


def _merged(
    merged: _Cells, found: Sequence[_Cells], finest: _Grid, grid: _Grid, most: int
) -> tuple[_Cells, _Grid]:
    """Return ``merged``, in ``grid``, with what was ``found`` in the finest one, in a grid so
    coarse that at most ``most`` cells are left.
    """
    merged = _Cells.joined([merged, *(cells.moved(finest, grid) for cells in found)])
    while len(merged.key) > most:
        coarser = grid.coarser()
        merged, grid = merged.moved(grid, coarser), coarser
    return merged, grid


def _photo_points(
    depth: UsableDepth, others: Sequence[UsableDepth], options: FusionOptions
) -> PointCloud:
    """Return the world points of one photo that the others don't vote down."""
    frame, known = depth.frame(), depth.known
    points = depth.rays(known) * frame.depth[known]
    keep = count_votes(others, depth, points) >= 0
    rotation, centre = np.hsplit(depth.cam_to_world[:3], [3])
    world = (rotation @ points[:, keep] + centre).T
    pixel = np.flatnonzero(known)[keep]
    if options.crop is not None:
        inside = inside_box(world, options.crop)
        world, pixel = world[inside], pixel[inside]
    normals = depth_normals(frame.depth, frame.intrinsics, frame.lens).reshape(-1, 3)[pixel]
    return PointCloud(
        world.astype(np.float32),
        frame.pixels.reshape(-1, 3)[pixel],
        normals.astype(np.float32) @ rotation.T.astype(np.float32),
        frame.confidence.ravel()[pixel],
    )


def _empty_cloud() -> PointCloud:
    none = np.zeros((0, 3), np.float32)
    return PointCloud(none, np.zeros((0, 3), np.uint8), none, np.zeros(0, np.float32))
