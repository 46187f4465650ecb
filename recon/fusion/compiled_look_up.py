"""What a depth map holds at points of space: a loop that numba compiles when it is imported."""

from __future__ import annotations

import math

import numpy as np

from pointmap.compiled import compiled
from pointmap.lens_loops import lens_scale

# Numba computes with no half-precision numbers.
_OF_HALF = np.arange(2**16, dtype=np.uint16).view(np.float16).astype(np.float32)
_ZERO, _ONE = np.float32(0), np.float32(1)


@compiled("f4[::1](f4[:,::1],f4[:,::1],f4[:,::1],f8[::1],b1,u2[:,::1],f4)")
def looked_up(points, move, intrinsics, lens, fisheye, padded, unit):  # type: ignore[no-untyped-def]
    """Return the depth of a map at ``points`` (3, P) over their own, (P,), 0 where it has none.

    ``move`` (3, 4) takes the points to the map's camera of ``intrinsics`` (3, 3) and ``lens``: k1,
    k2 and the squared radius (of a fisheye the squared angle) beyond which it shows nothing.
    ``padded`` (h + 2, w + 2): the bits of half-precision depth over ``unit``, in a rim of 0.
    """
    count = points.shape[1]
    found = np.zeros(count, np.float32)
    bottom, right = np.float32(padded.shape[0] - 1), np.float32(padded.shape[1] - 1)
    bent = fisheye or lens[0] != 0 or lens[1] != 0
    for n in range(count):
        px, py, pz = points[0, n], points[1, n], points[2, n]
        z = move[2, 0] * px + move[2, 1] * py + move[2, 2] * pz + move[2, 3]
        if not z > _ZERO:
            continue
        nearer = _ONE / z
        x = (move[0, 0] * px + move[0, 1] * py + move[0, 2] * pz + move[0, 3]) * nearer
        y = (move[1, 0] * px + move[1, 1] * py + move[1, 2] * pz + move[1, 3]) * nearer
        if bent:
            square = np.float64(x * x + y * y)
            along = math.atan(math.sqrt(square)) ** 2 if fisheye else square
            if not along < lens[2]:
                continue
            scale = np.float32(lens_scale(square, lens[0], lens[1], fisheye)[0])
            x *= scale
            y *= scale
        column = intrinsics[0, 0] * x + intrinsics[0, 1] * y + intrinsics[0, 2] + _ONE
        row = intrinsics[1, 1] * y + intrinsics[1, 2] + _ONE
        if column >= _ONE and column < right and row >= _ONE and row < bottom:
            found[n] = _OF_HALF[padded[np.int32(row), np.int32(column)]] * unit * nearer
    return found
