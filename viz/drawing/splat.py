"""Pictures of points without any graphics library: what is left when OpenGL fails.

Slow and plain next to :mod:`viz.drawing.render`, but it needs NumPy only, so that a report always
has its pictures.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array, project, transform_points
from viz.drawing.viewpoint import FRUSTUM_EDGES

_MOST_POINTS = 400_000  # of the cloud; a picture has fewer pixels that points could fill
_PER_EDGE = 200  # points of a camera outline


def splat(
    points: NDArray[np.floating],
    colours: NDArray[np.uint8],
    *,
    world_to_cam: Array,
    intrinsics: Array,
    picture: NDArray[np.uint8],
    size_px: int = 2,
) -> None:
    """Draw ``points`` (N, 3) in ``colours`` (N, 3) into ``picture`` (H, W, 3), nearest on top.

    Each becomes a square of ``size_px``. Points beside or behind the picture are left out.
    """
    stride = max(1, len(points) // _MOST_POINTS)
    in_camera = transform_points(world_to_cam, points[::stride])
    pixels = project(in_camera, intrinsics)
    height, width = picture.shape[:2]
    with np.errstate(invalid="ignore"):
        inside = ((pixels >= 0) & (pixels < [width, height])).all(axis=1)
    order = np.argsort(-in_camera[inside, 2], kind="stable")
    corners = np.floor(pixels[inside][order] - (size_px - 1) / 2).astype(np.intp)
    shades = colours[::stride][inside][order]
    # Later rows overwrite earlier ones. The footprint is part of the order: a near point covers a
    # far one's whole square.
    offsets = np.stack(np.meshgrid(np.arange(size_px), np.arange(size_px)), axis=-1).reshape(-1, 2)
    spread = (corners[:, None] + offsets).reshape(-1, 2)
    spread = np.clip(spread, 0, [width - 1, height - 1])
    picture[spread[:, 1], spread[:, 0]] = np.repeat(shades, len(offsets), axis=0)


def outline_points(vertices: Array) -> Array:
    """Return points (M, 3) along the edges of one camera outline (5, 3)."""
    share = np.linspace(0, 1, _PER_EDGE)[None, :, None]
    start, end = vertices[FRUSTUM_EDGES[:, 0]][:, None], vertices[FRUSTUM_EDGES[:, 1]][:, None]
    return ((1 - share) * start + share * end).reshape(-1, 3)
