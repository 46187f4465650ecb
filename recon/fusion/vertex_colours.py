"""Colours of a mesh's vertices, from the photos that measured the surface there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import invert_rigid
from recon.fusion.tsdf import pixel_weight
from recon.fusion.usable_depth import UsableDepth, as_pinhole
from recon.work.threads import in_threads


def vertex_colours(
    vertices: NDArray[np.float32],
    depths: Sequence[UsableDepth],
    *,
    voxel: float,
    truncation: float,
    max_depth_jump: float,
) -> NDArray[np.uint8]:
    """Return colours (V, 3): the mean, by the weights of the fusion, of the pixels that measured a
    surface within ``truncation`` of the vertex (V, 3).

    A vertex that no pixel shows takes the nearest one's. With none shown at all, grey.
    """

    columns = np.ascontiguousarray(vertices.T)

    def look(depth: UsableDepth) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """Return which vertices the photo measured, with (N, 4) their weighted colours, weights."""
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
        near = (measured > 0) & (np.abs(measured - z[number]) < truncation)
        number, pixel = number[near], pixel[near]
        weight = pixel_weight(frame, voxel).ravel()[pixel][:, None]
        return number, np.hstack([frame.pixels.reshape(-1, 3)[pixel] * weight, weight])

    total = np.zeros((len(vertices), 4), np.float32)
    for number, seen in in_threads(look, depths):
        total[number] += seen
    shown = total[:, 3] > 0
    colours = np.full((len(vertices), 3), 128, np.uint8)
    colours[shown] = np.round(total[shown, :3] / total[shown, 3:])
    if shown.any() and not shown.all():
        from scipy.spatial import cKDTree

        _, nearest = cKDTree(vertices[shown]).query(vertices[~shown])
        colours[~shown] = colours[shown][nearest]
    return colours
