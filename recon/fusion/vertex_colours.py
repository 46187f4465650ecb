"""Colours of a mesh's vertices, from the photos that measured the surface there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import invert_rigid
from recon.fusion.exposure import levelled, photo_gains, well_exposed
from recon.fusion.facing import faced_by
from recon.fusion.frames import UsableDepth, as_pinhole
from recon.fusion.tsdf import pixel_weight
from recon.work.threads import in_threads

# Vertices, about, by which exposures are compared.
_SAMPLED = 20_000
# What no photo shows has the mean colour of so many vertices near it, of so many in all, about; a
# surface that faces another way, by a right angle, is as far off as so many voxels.
_NEIGHBOURS, _ASKED, _TURNED = 12, 100_000, 60.0


def vertex_colours(
    vertices: NDArray[np.float32],
    normals: NDArray[np.float32],
    depths: Sequence[UsableDepth],
    *,
    voxel: float,
    truncation: float,
    max_depth_jump: float,
) -> NDArray[np.uint8]:
    """Return colours (V, 3): the mean, by the weights of the fusion, of the pixels that measured a
    surface within ``truncation`` of the vertex (V, 3), after a gain that levels the exposures.

    A vertex that no pixel shows takes the mean of those near it that are shown, by its ``normals``
    (V, 3) rather of a surface that faces as it does. With none shown at all, grey.
    """
    every = np.ascontiguousarray(vertices.T)
    step = max(1, len(vertices) // _SAMPLED)
    few = np.ascontiguousarray(every[:, ::step])

    def look(
        depth: UsableDepth, columns: NDArray[np.float32]
    ) -> tuple[NDArray[np.intp], NDArray[np.uint8], NDArray[np.float32]]:
        """Return which vertices (3, V) the photo measured, their colours (N, 3) and weights."""
        frame = as_pinhole(depth.frame(), max_depth_jump)
        height, width = frame.depth.shape
        world_to_cam = invert_rigid(frame.cam_to_world)
        to_pixel = frame.intrinsics @ world_to_cam[:3]
        matrix, offset = np.hsplit(to_pixel.astype(np.float32), [3])
        x, y, z = matrix @ columns + offset
        # Inside the picture, before the division.
        seen = (z > 0) & (x >= 0) & (x < width * z) & (y >= 0) & (y < height * z)
        number = np.flatnonzero(seen)
        column, row = ((v[number] / z[number]).astype(np.int32) for v in (x, y))
        pixel = np.minimum(row, height - 1) * width + np.minimum(column, width - 1)
        measured = frame.depth.ravel()[pixel]
        faced = faced_by(frame)
        off = np.abs(measured - z[number]) * faced.ravel()[pixel]
        near = (measured > 0) & (off < truncation)
        number, pixel = number[near], pixel[near]
        weight = pixel_weight(frame, voxel, faced).ravel()[pixel]
        return number, frame.pixels.reshape(-1, 3)[pixel], weight

    def sample(depth: UsableDepth) -> tuple[NDArray[np.intp], NDArray[np.uint8]]:
        number, colour, _ = look(depth, few)
        good = well_exposed(colour)
        return number[good], colour[good]

    def weighted(
        pair: tuple[UsableDepth, NDArray[np.float32]],
    ) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        depth, gain = pair
        number, colour, weight = look(depth, every)
        return number, np.column_stack([levelled(colour, gain) * weight[:, None], weight])

    gains = photo_gains(list(in_threads(sample, depths)), few.shape[1])
    total = np.zeros((len(vertices), 4), np.float32)
    for number, seen in in_threads(weighted, list(zip(depths, gains, strict=True))):
        total[number] += seen
    shown = total[:, 3] > 0
    colours = np.full((len(vertices), 3), 128, np.uint8)
    colours[shown] = np.round(total[shown, :3] / total[shown, 3:])
    if shown.any() and not shown.all():
        from scipy.spatial import cKDTree

        where = np.column_stack([vertices, normals * np.float32(_TURNED / 2**0.5 * voxel)])
        some = np.flatnonzero(shown)
        some = some[:: -(-len(some) // _ASKED)]
        near = list(range(1, min(_NEIGHBOURS, len(some)) + 1))
        _, nearest = cKDTree(where[some]).query(where[~shown], k=near)
        colours[~shown] = np.round(colours[some[nearest]].mean(axis=1))
    return colours
