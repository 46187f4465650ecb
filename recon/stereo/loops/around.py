"""What is known around each pixel."""

from __future__ import annotations

import numpy as np

from pointmap.compiled import compiled


@compiled()
def _from_one_side(y, x, down, right, reach, known, colours, place, step):  # type: ignore[no-untyped-def]
    """Pass on the nearest known place, and the largest change of colour on the way, if near."""
    h, w = known.shape
    if known[y, x]:
        place[y, x], step[y, x] = y * w + x, 0.0
        return
    place[y, x] = -1
    b, a = y + down, x + right
    if not (0 <= b < h and 0 <= a < w) or place[b, a] < 0:
        return
    row = place[b, a] // w
    column = place[b, a] - row * w
    if (row - y) ** 2 + (column - x) ** 2 > reach * reach:
        return
    here = 0.0
    for c in range(colours.shape[2]):
        here = max(here, abs(float(colours[y, x, c] - colours[b, a, c])))
    place[y, x], step[y, x] = place[b, a], max(step[b, a], here)


@compiled("f4[:,:,::1](b1[:,::1],f4[:,::1],f4[:,:,::1],f8,f8)")
def depths_around(known, depth, colours, reach, dearness):  # type: ignore[no-untyped-def]
    """Return the least and the largest of the nearest known depths in eight directions, and the one
    on the way to which colours change least (3, h, w); 0 where none is within ``reach`` pixels.

    ``dearness``: what a pixel of the way costs, in the unit of ``colours`` (h, w, 3).
    """
    h, w = depth.shape
    result, least = np.zeros((3, h, w), np.float32), np.full((h, w), np.inf, np.float32)
    place, step = np.empty((h, w), np.int32), np.empty((h, w), np.float32)
    for down in range(-1, 2):
        for right in range(-1, 2):
            if down == 0 and right == 0:
                continue
            for i in range(h):
                # Rows and columns in the order in which what lies that way comes first.
                y = i if down <= 0 else h - 1 - i
                for j in range(w):
                    x = j if right <= 0 else w - 1 - j
                    _from_one_side(y, x, down, right, reach, known, colours, place, step)
                    if place[y, x] < 0:
                        continue
                    row = place[y, x] // w
                    column = place[y, x] - row * w
                    there = depth[row, column]
                    cost = step[y, x] + dearness * np.sqrt((row - y) ** 2.0 + (column - x) ** 2.0)
                    if result[0, y, x] == 0 or there < result[0, y, x]:
                        result[0, y, x] = there
                    result[1, y, x] = max(result[1, y, x], there)
                    if cost < least[y, x]:
                        least[y, x], result[2, y, x] = cost, there
    return result
