"""Sorting triangles by their vertices: a loop that numba compiles when it is imported."""

from __future__ import annotations

import numpy as np

from pointmap.compiled import compiled


@compiled("i4[:,::1](i4[:,::1],i8)")
def sorted_triangles(triangles, vertices):  # type: ignore[no-untyped-def]
    """Return triangles (F, 3) of so many ``vertices`` in ascending order, each turned to begin with
    its smallest vertex.

    By counting: a vertex begins a few triangles, so that sorting these takes next to nothing.
    """
    count = len(triangles)
    start = np.zeros(vertices + 1, np.int64)
    for n in range(count):
        start[min(triangles[n, 0], triangles[n, 1], triangles[n, 2]) + 1] += 1
    for v in range(vertices):
        start[v + 1] += start[v]
    end = start[:-1].copy()
    result = np.empty((count, 3), np.int32)
    for n in range(count):
        a, b, c = triangles[n, 0], triangles[n, 1], triangles[n, 2]
        if b < a and b <= c:
            a, b, c = b, c, a
        elif c < a and c < b:
            a, b, c = c, a, b
        place = end[a]
        while place > start[a]:
            second, third = result[place - 1, 1], result[place - 1, 2]
            if second < b or (second == b and third <= c):
                break
            result[place, 0], result[place, 1], result[place, 2] = a, second, third
            place -= 1
        result[place, 0], result[place, 1], result[place, 2] = a, b, c
        end[a] += 1
    return result
