"""Marching cubes over sparse blocks of voxels: loops that numba compiles when they are imported.

In one order, whatever the threads do; each vertex once.
"""

from __future__ import annotations

import numpy as np

from pointmap.compiled import compiled

_ZERO = np.float32(0)
_SIDE, _HALO = 8, 9


@compiled("i8(f4[:,::1],f4[:,::1],i4[:,::1],i4[::1],u1[:,::1])")
def find_cases(distance, weight, following, starts, cases):  # type: ignore[no-untyped-def]
    """Find the case (B, 512) of every cube, 0 where a corner was not measured, and return how many
    triangles they have.

    ``distance``, ``weight`` (B, 512), x fastest; ``following`` (B, 8): the numbers of the blocks
    that lie one further along x (bit 0), y (bit 1) and z (bit 2), -1 where there is none;
    ``starts`` (257,): where the triangles of each case begin, three edges each.
    """
    # Of a block and the first voxels of those that follow: bit 0 behind the surface, bit 1 unknown.
    state = np.empty((_HALO, _HALO, _HALO), np.uint8)
    count = 0
    for block in range(len(distance)):
        any_behind, any_front = False, False
        for z in range(_HALO):
            for y in range(_HALO):
                for x in range(_HALO):
                    other = following[block, (x >> 3) + 2 * (y >> 3) + 4 * (z >> 3)]
                    voxel = (x & 7) + _SIDE * (y & 7) + _SIDE * _SIDE * (z & 7)
                    if other < 0 or not weight[other, voxel] > _ZERO:
                        state[z, y, x] = 2
                        continue
                    behind = distance[other, voxel] < _ZERO
                    state[z, y, x] = 1 if behind else 0
                    any_behind |= behind
                    any_front |= not behind
        if not (any_behind and any_front):
            continue
        for z in range(_SIDE):
            for y in range(_SIDE):
                for x in range(_SIDE):
                    a, b = state[z, y, x], state[z, y, x + 1]
                    c, d = state[z, y + 1, x], state[z, y + 1, x + 1]
                    e, f = state[z + 1, y, x], state[z + 1, y, x + 1]
                    g, h = state[z + 1, y + 1, x], state[z + 1, y + 1, x + 1]
                    if (a | b | c | d | e | f | g | h) > 1:
                        continue
                    case = a | b << 1 | c << 2 | d << 3 | e << 4 | f << 5 | g << 6 | h << 7
                    cases[block, x + _SIDE * y + _SIDE * _SIDE * z] = case
                    count += (starts[case + 1] - starts[case]) // 3
    return count


@compiled(
    "i8(f4[:,::1],i4[:,::1],i4[:,::1],u1[:,::1],i4[::1],i4[::1],i4[:,::1],i4[:,:,::1],f8[:,::1],i4[:,::1])"
)
def draw(distance, blocks, following, cases, starts, table, edges, numbers, vertices, triangles):  # type: ignore[no-untyped-def]
    """Fill in the triangles of all ``cases``, and return how many vertices (V, 3) they have, in
    voxels from the world's origin.

    ``blocks`` (B, 3); ``table``, ``edges``: :mod:`recon.fusion.cube_cases`; ``numbers``
    (B, 512, 3): 0, becomes the vertex, counted from 1, on the edge that goes from each voxel along
    each axis.
    """
    made, count = 0, 0
    for block in range(len(cases)):
        for voxel in range(cases.shape[1]):
            case = cases[block, voxel]
            first, last = starts[case], starts[case + 1]
            if first == last:
                continue
            x, y, z = voxel & 7, voxel >> 3 & 7, voxel >> 6
            for k in range(first, last):
                corner, axis = edges[table[k], 0], edges[table[k], 1]
                u, v, w = x + (corner & 1), y + (corner >> 1 & 1), z + (corner >> 2 & 1)
                owner = following[block, (u >> 3) + 2 * (v >> 3) + 4 * (w >> 3)]
                place = (u & 7) + _SIDE * (v & 7) + _SIDE * _SIDE * (w & 7)
                number = numbers[owner, place, axis] - 1
                if number < 0:
                    number = made
                    made += 1
                    numbers[owner, place, axis] = made
                    vertices[number, 0] = blocks[block, 0] * _SIDE + u
                    vertices[number, 1] = blocks[block, 1] * _SIDE + v
                    vertices[number, 2] = blocks[block, 2] * _SIDE + w
                    u += axis == 0
                    v += axis == 1
                    w += axis == 2
                    other = following[block, (u >> 3) + 2 * (v >> 3) + 4 * (w >> 3)]
                    end = (u & 7) + _SIDE * (v & 7) + _SIDE * _SIDE * (w & 7)
                    here, there = distance[owner, place], distance[other, end]
                    vertices[number, axis] += here / (here - there)
                triangles[count // 3, count % 3] = number
                count += 1
    return made
