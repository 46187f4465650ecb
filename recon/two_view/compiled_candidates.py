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
    count = 0
    for row in range(alike.shape[0]):
        x, y, w = points[row]
        for column in range(alike.shape[1]):
            if not alike[row, column] > least:
                continue
            here = x * lines[0, column] + y * lines[1, column] + w * lines[2, column]
            for number in range(len(displaced)):
                if abs(here - displaced[number]) < band:
                    if count == len(off):
                        more = np.empty((2 * count, 3), np.int64)
                        more_off = np.empty(2 * count, np.float32)
                        more[:count], more_off[:count] = found, off
                        found, off = more, more_off
                    found[count] = row, column, number
                    off[count] = here
                    count += 1
    return found[:count].copy(), off[:count].copy()
