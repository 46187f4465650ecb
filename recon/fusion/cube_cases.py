"""What marching cubes draws in each of the 256 cases of a cube (Lorensen and Cline 1987), derived.

Corner c of a cube lies at (c & 1, c >> 1 & 1, c >> 2 & 1), and is bit c of a case: set where it is
behind the surface. Edge 4 a + n goes along axis a (0 to 2) from the n-th of the corners that lie
low on that axis.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

_LOW = [[c for c in range(8) if not c >> axis & 1] for axis in range(3)]

EDGES = np.array([(_LOW[axis][n], axis) for axis in range(3) for n in range(4)], np.int32)
"""(12, 2): the corner in which each edge begins, and the axis it goes along."""


@lru_cache(maxsize=1)
def triangles_of_cases() -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return the edges that have corners of triangles, three a triangle, of all cases in a row, and
    where those of each case begin: (257,). Seen from the front the corners turn anticlockwise.

    Where the corners of a face take turns, those behind are parted on either side of it alike: so
    surfaces of neighbouring cubes meet (Duerst 1988 shows what comes of doing otherwise).
    """
    edges: list[int] = []
    starts = [0]
    for case in range(256):
        for loop in _loops(case):
            for second, third in pairwise(loop[1:]):
                edges += [loop[0], second, third]
        starts.append(len(edges))
    return np.array(edges, np.int32), np.array(starts, np.int32)


def _loops(case: int) -> list[list[int]]:
    """Return the closed lines, as edges in turn, in which the surface cuts a cube's faces."""
    following: dict[int, int] = {}
    for face in _faces():
        for k, corner in enumerate(face):
            before = face[k - 1]
            if case >> corner & 1 and not case >> before & 1:
                # From here to the end of this run of corners behind.
                end = k
                while case >> face[(end + 1) % 4] & 1:
                    end += 1
                following[_edge(before, corner)] = _edge(face[end % 4], face[(end + 1) % 4])
    loops = []
    while following:
        start = min(following)
        loop = [start]
        while (edge := following.pop(loop[-1])) != start:
            loop.append(edge)
        loops.append(loop)
    return loops


def _faces() -> list[list[int]]:
    """Return the corners of the six faces, each in turn as seen from outside."""
    faces = []
    for axis in range(3):
        u, v = 1 << (axis + 1) % 3, 1 << (axis + 2) % 3
        for side in (0, 1 << axis):
            turn = [side, side + u, side + u + v, side + v]
            faces.append(turn if side else turn[::-1])
    return faces


def _edge(first: int, second: int) -> int:
    axis = (first ^ second).bit_length() - 1
    return 4 * axis + _LOW[axis].index(min(first, second))
