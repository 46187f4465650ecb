"""Sums over observations that make normal equations, and the elimination of their points.

Observations (M,) are sorted by point: those of point p are ``ends[p]`` to ``ends[p + 1]``.
"""

from __future__ import annotations

import numpy as np

from pointmap.compiled import compiled
from recon.alignment.loops.small import backward, cholesky, forward


@compiled(
    "void(f8[:,:,::1],i8[::1],i8[::1],f8[:,:,::1],f8[:,:,::1],f8[:,::1],f8[:,:,::1],f8[:,:,::1])"
)
def add_products(  # type: ignore[no-untyped-def]
    joined, ends, camera, camera_sums, point_sums, point_gradient, with_poses, with_lenses
):
    """Add the products of the rows of ``joined`` (M, R, 3 + W + 1), Jacobians to point and camera
    and residuals.

    To ``camera_sums`` (C, W + 1, W + 1; the upper half), to ``point_sums`` (P, 3, 3) and
    ``point_gradient`` (P, 3); those of point with camera are written to ``with_poses`` (M, 3, a)
    and ``with_lenses`` (M, 3, b), W = a + b.
    """
    rows, last = joined.shape[1], joined.shape[2] - 1
    width, own = last - 3, with_poses.shape[2]
    for p in range(len(ends) - 1):
        V, g = point_sums[p], point_gradient[p]
        for m in range(ends[p], ends[p + 1]):
            U, poses, lenses = camera_sums[camera[m]], with_poses[m], with_lenses[m]
            poses[:] = 0.0
            lenses[:] = 0.0
            for r in range(rows):
                row = joined[m, r]
                for a in range(3):
                    for b in range(3):
                        V[a, b] += row[a] * row[b]
                    g[a] += row[a] * row[last]
                    for k in range(own):
                        poses[a, k] += row[a] * row[3 + k]
                    for k in range(own, width):
                        lenses[a, k - own] += row[a] * row[3 + k]
                for a in range(width + 1):
                    for b in range(a, width + 1):
                        U[a, b] += row[3 + a] * row[3 + b]


@compiled(
    "b1(f8[:,:,::1],f8[:,::1],i8[::1],i8[::1],f8[:,:,::1],f8[:,:,::1],f8[:,:,::1],f8[:,:,::1])"
)
def eliminate(V, g, ends, lens_block, to_poses, with_lenses, root, to_lenses):  # type: ignore[no-untyped-def]
    """Write the lower roots L (P, 3, 3) of the points' damped Hessians ``V``, and what takes the
    points out of the cameras' equations: L^-1 of their gradients in place of ``g`` (P, 3), of what
    ties them to poses in place of ``to_poses`` (M, 3, a), and of ``with_lenses`` (M, 3, b), added
    up to ``to_lenses`` (K, 3, b) by ``lens_block``.

    Return False where a point is not held.
    """
    column = np.empty(3)
    for p in range(len(V)):
        L = root[p]
        if not cholesky(V[p], L):
            return False
        forward(L, g[p])
        for m in range(ends[p], ends[p + 1]):
            pose, own, lens = to_poses[m], with_lenses[m], to_lenses[lens_block[m]]
            for k in range(pose.shape[1]):
                for a in range(3):
                    column[a] = pose[a, k]
                forward(L, column)
                for a in range(3):
                    pose[a, k] = column[a]
            for k in range(own.shape[1]):
                for a in range(3):
                    column[a] = own[a, k]
                forward(L, column)
                for a in range(3):
                    lens[a, k] += column[a]
    return True


@compiled("void(f8[:,:,::1],i8[::1],i8[::1],f8[:,::1],f8[:,::1])")
def subtract_from_rows(blocks, ends, column, of_points, out):  # type: ignore[no-untyped-def]
    """Subtract ``blocks^T of_points`` (P, 3) from the row of ``out`` (N, a) of each column."""
    for p in range(len(of_points)):
        x, y, z = of_points[p]
        for m in range(ends[p], ends[p + 1]):
            row = out[column[m]]
            for k in range(len(row)):
                row[k] -= blocks[m, 0, k] * x + blocks[m, 1, k] * y + blocks[m, 2, k] * z


@compiled("void(f8[:,:,::1],i8[::1],i8[::1],f8[:,::1],f8[:,::1])")
def subtract_from_points(blocks, ends, column, of_columns, out):  # type: ignore[no-untyped-def]
    """Subtract ``blocks of_columns`` (N, a) from each point's row of ``out`` (P, 3)."""
    for p in range(len(out)):
        for m in range(ends[p], ends[p + 1]):
            row = of_columns[column[m]]
            for a in range(3):
                for k in range(len(row)):
                    out[p, a] -= blocks[m, a, k] * row[k]


@compiled("void(f8[:,:,::1],f8[:,::1])")
def solve_transposed(root, out):  # type: ignore[no-untyped-def]
    """Write L^-T ``out`` in its place, of the lower roots L (P, 3, 3)."""
    for p in range(len(out)):
        backward(root[p], out[p])


@compiled(
    "void(f8[:,:,::1],i8[::1],i8[::1],i8[::1],f8[:,:,::1],i8[::1],i8[::1],"
    "i8[::1],i8[::1],f8[:,:,::1])"
)
def subtract_shares(A, rows, row_ends, point, B, ends, column, out_ends, out_column, out):  # type: ignore[no-untyped-def]
    """Subtract ``A^T B`` of all pairs of blocks that share a point from the blocks ``out``
    (N, a, b).

    Block m of ``A`` (M, 3, a) is one of ``point[m]``; ``rows[row_ends[i] : row_ends[i + 1]]`` are
    the blocks of row i. Blocks ``ends[p]`` to ``ends[p + 1]`` of ``B`` (K, 3, b), of ``column``
    (K,), are those of point p. Row i of ``out`` has blocks ``out_ends[i]`` to ``out_ends[i + 1]``,
    of ``out_column``; what falls outside them is left out.
    """
    place = np.full(column.max() + 1, -1)
    for i in range(len(row_ends) - 1):
        for n in range(out_ends[i], out_ends[i + 1]):
            if out_column[n] < len(place):
                place[out_column[n]] = n
        for m in rows[row_ends[i] : row_ends[i + 1]]:
            left = A[m]
            for k in range(ends[point[m]], ends[point[m] + 1]):
                n = place[column[k]]
                if n < 0:
                    continue
                block, right = out[n], B[k]
                for a in range(block.shape[0]):
                    x, y, z = left[0, a], left[1, a], left[2, a]
                    for b in range(block.shape[1]):
                        block[a, b] -= x * right[0, b] + y * right[1, b] + z * right[2, b]
        for n in range(out_ends[i], out_ends[i + 1]):
            if out_column[n] < len(place):
                place[out_column[n]] = -1
