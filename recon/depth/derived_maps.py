"""What a depth map turns into: disparity, distance along the ray, normals, edges; and its cleaning.

Depth is (h, w) along z, 0 = unknown, in any unit of length; unknown stays unknown (0, a zero
vector) in every product. All of them refuse depth with NaN, infinite or negative values.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pointmap.camera import Array, pixel_centres, pixel_rays, unproject
from pointmap.errors import InputError
from pointmap.lens import PINHOLE, Lens

# Steps of inverse depth, as a share of it, that lead from one surface to another.
_JUMP = 0.05
# What depth is smoothed over: pixels around each, two standard deviations of the weights of
# distance, and the standard deviation of those of colour, in levels per channel.
_RADIUS, _COLOUR = 4, 12.0


def check_depth(depth: ArrayLike) -> Array:
    """Return ``depth`` (h, w) as float64; ``InputError`` when it holds what no depth can be."""
    depth = np.asarray(depth, np.float64)
    if depth.ndim != 2:
        raise InputError(f"a depth map has the shape (height, width); got {depth.shape}")
    bad = int((~np.isfinite(depth) | (depth < 0)).sum())
    if bad:
        raise InputError(f"{bad} depths are NaN, infinite or negative; 0 marks unknown depth")
    return depth


def depth_to_disparity(depth: ArrayLike, *, focal_px: float, baseline: float) -> Array:
    """Return the disparity (h, w) in pixels that a rectified stereo pair would measure.

    d = f b / z, with the focal length in pixels of this map and the baseline in the unit of depth;
    with f = b = 1 it is inverse depth.
    """
    depth = check_depth(depth)
    return np.where(depth > 0, focal_px * baseline / np.where(depth > 0, depth, 1), 0)


def ray_distance(depth: ArrayLike, intrinsics: ArrayLike, lens: Lens = PINHOLE) -> Array:
    """Return the distance (h, w) from the camera's centre along each pixel's ray."""
    depth = check_depth(depth)
    height, width = depth.shape
    rays = pixel_rays(pixel_centres(width, height), intrinsics, lens)
    return depth * np.linalg.norm(rays, axis=-1)


def depth_normals(depth: ArrayLike, intrinsics: ArrayLike, lens: Lens = PINHOLE) -> Array:
    """Return unit normals (h, w, 3) in the camera's frame, towards the camera.

    From the neighbours left and right, above and below, each on the nearer surface of the two where
    they lie on different ones (see :func:`depth_edges`); a pixel without known neighbours on both
    axes faces the camera.
    """
    depth = check_depth(depth)
    known = depth > 0
    points = unproject(depth, intrinsics, lens)
    cut = depth_steps(depth)
    tangents = [_tangent(points, known, cut[axis], axis) for axis in (1, 0)]
    (x1, y1, z1), (x0, y0, z0) = (np.moveaxis(tangent, -1, 0) for tangent in tangents[::-1])
    normals = np.stack([y1 * z0 - z1 * y0, z1 * x0 - x1 * z0, x1 * y0 - y1 * x0], axis=-1)
    length = np.sqrt(np.einsum("hwk,hwk->hw", normals, normals))
    lost = known & (length == 0)
    normals[lost] = -points[lost]
    length[lost] = np.linalg.norm(points[lost], axis=-1)
    away = np.einsum("hwk,hwk->hw", normals, points) > 0
    length[away] *= -1
    length[~known] = np.inf
    return normals / length[..., None]


def _tangent(points: Array, known: NDArray[np.bool_], cut: NDArray[np.bool_], axis: int) -> Array:
    """Return steps (h, w, 3) along ``axis``, over both neighbours where surface joins them."""
    joined = ~cut & np.take(known, range(1, known.shape[axis]), axis)
    joined &= np.take(known, range(known.shape[axis] - 1), axis)
    pad = [(0, 0), (0, 0)]
    pad[axis] = (1, 0)
    before = np.pad(joined, pad)
    pad[axis] = (0, 1)
    after = np.pad(joined, pad)
    start = np.where(before[..., None], np.roll(points, 1, axis), points)
    return np.where(after[..., None], np.roll(points, -1, axis), points) - start


def depth_steps(depth: Array) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which neighbours lie on different surfaces: rows (h-1, w) and columns (h, w-1).

    Their inverse depths differ by more than :data:`_JUMP` of the larger, and by more than three
    times what they differ from the neighbours beyond: over a plane, however slanted, inverse depth
    is linear, so that its steps are alike. Pairs with an unknown pixel are False.
    """
    inverse = depth_to_disparity(depth, focal_px=1, baseline=1)
    return (
        _steps_along(inverse),
        np.ascontiguousarray(_steps_along(np.ascontiguousarray(inverse.T)).T),
    )


def _steps_along(inverse: Array) -> NDArray[np.bool_]:
    """Return the steps (h-1, w) between rows of inverse depth (h, w)."""
    known = (inverse[1:] > 0) & (inverse[:-1] > 0)
    step = np.where(known, np.abs(np.diff(inverse, axis=0)), 0)
    beyond = np.maximum(np.pad(step, ((1, 0), (0, 0)))[:-1], np.pad(step, ((0, 1), (0, 0)))[1:])
    larger = np.maximum(inverse[1:], inverse[:-1])
    return known & (step > _JUMP * larger) & (step > 3 * beyond)


def depth_edges(depth: ArrayLike) -> NDArray[np.bool_]:
    """Return the pixels (h, w) at an edge between two surfaces, on either side of it."""
    down, across = depth_steps(check_depth(depth))
    return (
        np.pad(down, ((1, 0), (0, 0)))
        | np.pad(down, ((0, 1), (0, 0)))
        | np.pad(across, ((0, 0), (1, 0)))
        | np.pad(across, ((0, 0), (0, 1)))
    )


def remove_flying_pixels(depth: ArrayLike) -> Array:
    """Return depth (h, w) without the pixels that hang in the air between two surfaces.

    Interpolation and blur leave them at edges. A pixel flies when, over one or two pixels to both
    sides in x or in y, inverse depth passes through it from one surface to another (both steps
    above :data:`_JUMP` of it), while beyond these pixels it hardly changes (less than a third of
    that): a slanted surface would go on as it comes.
    """
    depth = check_depth(depth)
    inverse = depth_to_disparity(depth, focal_px=1, baseline=1)
    flying = np.zeros(depth.shape, bool)
    for reach in (1, 2):
        flying |= _passes(inverse, reach)
        flying |= _passes(np.ascontiguousarray(inverse.T), reach).T
    return np.where(flying, 0, depth)


def _passes(inverse: Array, reach: int) -> NDArray[np.bool_]:
    """Return pixels (h, w) that lie between surfaces ``reach`` rows above and below."""
    padded = np.pad(inverse, ((2 * reach, 2 * reach), (0, 0)), mode="edge")
    rows = len(inverse)
    far_up, up, down, far_down = (
        padded[start * reach : start * reach + rows] for start in (0, 1, 3, 4)
    )
    first, second = inverse - up, down - inverse
    known = (up > 0) & (down > 0) & (inverse > 0)
    limit = _JUMP * inverse
    between = (first * second > 0) & (np.minimum(np.abs(first), np.abs(second)) > limit)
    outside = np.maximum(np.abs(up - far_up), np.abs(down - far_down))
    return known & between & (outside < np.abs(down - up) / 3)


def joint_bilateral(depth: ArrayLike, pixels: ArrayLike) -> Array:
    """Return depth (h, w) smoothed within regions of one colour of its photo (h, w, 3) uint8.

    Joint bilateral filter (Petschnigg et al., Eisemann and Durand, SIGGRAPH 2004) of inverse depth,
    in which planes are straight: Gaussian weights of distance and of colour difference. Unknown
    pixels stay unknown.
    """
    depth, guide = check_depth(depth), np.asarray(pixels, np.float32)
    if guide.shape != (*depth.shape, 3):
        raise InputError(
            f"a photo of {guide.shape[1]}x{guide.shape[0]} pixels cannot guide depth of "
            f"{depth.shape[1]}x{depth.shape[0]}: resize one of them"
        )
    inverse = depth_to_disparity(depth, focal_px=1, baseline=1)
    total, weights = np.zeros(depth.shape), np.zeros(depth.shape)
    for (dy, dx), here, there in _shifts(depth.shape, _RADIUS):
        difference = guide[here] - guide[there]
        closeness = (dy * dy + dx * dx) / (_RADIUS / 2) ** 2
        alike = (difference**2).mean(-1) / _COLOUR**2
        weight = np.exp(-0.5 * (closeness + alike)) * (inverse[there] > 0)
        total[here] += weight * inverse[there]
        weights[here] += weight
    smooth = total / np.maximum(weights, 1e-12)
    return np.where(depth > 0, 1 / np.maximum(smooth, 1e-300), 0)


def _shifts(
    shape: tuple[int, ...], radius: int
) -> Iterator[tuple[tuple[int, int], tuple[slice, ...], tuple[slice, ...]]]:
    """Yield every offset in the window with the slices that pair each pixel with its neighbour."""
    for dy in range(-radius, radius + 1):
        for dx in range(-radius, radius + 1):
            here = tuple(
                slice(max(0, -d), size - max(0, d)) for d, size in zip((dy, dx), shape, strict=True)
            )
            there = tuple(
                slice(max(0, d), size - max(0, -d)) for d, size in zip((dy, dx), shape, strict=True)
            )
            yield (dy, dx), here, there


def on_edge(depth: NDArray[np.float32], max_jump: float) -> NDArray[np.bool_]:
    """Return pixels (h, w) between two surfaces: known neighbours on opposite sides lie apart.

    A slanted surface changes steadily, so that depth is compared with the mean of the neighbours
    across from each other: only a bend counts. Pixels without known neighbours (flying specks)
    count as edges too.
    """
    inverse = np.where(depth > 0, 1 / np.maximum(depth, 1e-12), 0)
    padded = np.pad(inverse, 1)
    h, w = depth.shape
    around = [padded[dy : dy + h, dx : dx + w] for dy, dx in ((0, 1), (2, 1), (1, 0), (1, 2))]
    edge = np.zeros(depth.shape, bool)
    known = np.zeros(depth.shape, int)
    for one, other in ((around[0], around[1]), (around[2], around[3])):
        both = (one > 0) & (other > 0)
        # Inverse depth is linear over a plane, so its second difference is 0 there.
        bend = np.abs(one + other - 2 * inverse)
        edge |= both & (bend > max_jump * inverse)
        known += (one > 0).astype(int) + (other > 0)
    return edge | (known < 2)
