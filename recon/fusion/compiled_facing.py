"""How squarely surfaces face a photo: a loop that numba compiles when it is imported."""

from __future__ import annotations

import math

import numpy as np

from pointmap.compiled import compiled

# Pixels to either side to which a slope is taken.
_APART = 2


@compiled()
def _slope(depth, i, j, down, right):  # type: ignore[no-untyped-def]
    """Return by what share inverse depth grows from one pixel to the next, on the flatter side: the
    other one may be beyond an edge. 0 where neither side is known.
    """
    height, width = depth.shape
    here = depth[i, j]
    best, known = 0.0, False
    for side in (-_APART, _APART):
        y, x = i + side * down, j + side * right
        if y < 0 or y >= height or x < 0 or x >= width or not depth[y, x] > 0:
            continue
        slope = (here / depth[y, x] - 1) / side
        if not known or abs(slope) < abs(best):
            best, known = slope, True
    return best


@compiled("f4[:,::1](f4[:,::1],f8,f8,f8,f8,f8)")
def facing_of(depth, fx, fy, cx, cy, least):  # type: ignore[no-untyped-def]
    """Return for each pixel (h, w) of a ``depth`` map the part n r of its ray r, with z = 1, along
    the unit normal n of its surface, ``least`` to 1.

    Inverse depth w of a plane is linear in the pixel; from n X = p follows n = p (fx dw/du,
    fy dw/dv, w - (u - cx) dw/du - (v - cy) dw/dv) and n r = p w.
    """
    height, width = depth.shape
    found = np.ones((height, width), np.float32)
    for i in range(height):
        for j in range(width):
            if not depth[i, j] > 0:
                continue
            across, down = _slope(depth, i, j, 0, 1), _slope(depth, i, j, 1, 0)
            ahead = 1 - (j + 0.5 - cx) * across - (i + 0.5 - cy) * down
            length = math.sqrt((fx * across) ** 2 + (fy * down) ** 2 + ahead**2)
            found[i, j] = min(max(1 / length, least), 1.0)
    return found
