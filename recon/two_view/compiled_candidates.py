"""Key points that look alike and lie near epipolar lines: a loop that numba compiles when it is
imported.
"""

from __future__ import annotations

import numpy as np

from pointmap.compiled import compiled

_FIRST_ROOM = 4096


@compiled("Tuple((i8[:,::1],f4[::1]))(f4[:,::1],f4[:,::1],f4[:,::1],f4,f4[::1],f4)")
def alike_near_lines(alike, points, lines, least, displaced, band):  # type: ignore[no-untyped-def]
    """Return (C, 3) row, column and number of the displacement of pairs of key points, and how far
    off (C,) the undisplaced epipolar line they are.

    Pairs are ``alike`` (R, K) by more than ``least``, and ``points`` (R, 3) times ``lines`` (3, K)
    is within ``band`` of one of the ``displaced`` (S,), which are farther apart than that.
    """
    found, off = np.empty((_FIRST_ROOM, 3), np.int64), np.empty(_FIRST_ROOM, np.float32)
    here = np.empty(alike.shape[1], np.float32)
    near = np.empty(alike.shape[1], np.uint8)
    count = 0
    for row in range(alike.shape[0]):
        x, y, w = points[row]
        # Loops without a branch take many columns at once; few of them are left.
        for column in range(len(here)):
            here[column] = x * lines[0, column] + y * lines[1, column] + w * lines[2, column]
            near[column] = 0
        for number in range(len(displaced)):
            for column in range(len(here)):
                near[column] |= np.uint8(abs(here[column] - displaced[number]) < band)
        for column in range(len(here)):
            near[column] &= np.uint8(alike[row, column] > least)
        for column in range(len(here)):
            if near[column] == 0:
                continue
            for number in range(len(displaced)):
                if abs(here[column] - displaced[number]) < band:
                    if count == len(off):
                        more = np.empty((2 * count, 3), np.int64)
                        more_off = np.empty(2 * count, np.float32)
                        more[:count], more_off[:count] = found, off
                        found, off = more, more_off
                    found[count] = row, column, number
                    off[count] = here[column]
                    count += 1
    return found[:count].copy(), off[:count].copy()
