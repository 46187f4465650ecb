"""Averaging a photo into voxels on a CPU: a loop that numba compiles when it is imported."""

from __future__ import annotations

import numpy as np

from pointmap.compiled import compiled

_ZERO, _ONE, _NEARLY_ZERO = np.float32(0), np.float32(1), np.float32(1e-12)


@compiled("void(f4[:,::1],f4[:,::1],i8[::1],f4[:,::1],f4[:,::1],f4[:,:,::1],f4,f4,f4)")
def average(distances, weights, rows, bases, steps, pictures, truncation, least, slight):  # type: ignore[no-untyped-def]
    """Average a photo into the voxels (B, 512) of blocks ``rows`` (N,), whose first voxels are at
    homogeneous pixels ``bases`` (N, 3), the others ``steps`` (3, 512) from there.

    ``pictures`` (h, w, 3): each pixel's depth, weight, and how squarely its surface faces it.
    Distances are along the normal. What is behind a surface is told as far as ``truncation`` along
    z, but at least by the share ``least`` of it along the normal, there with ``slight`` weight.
    """
    height, width, _ = pictures.shape
    right, bottom, nearer = np.float32(width), np.float32(height), _ONE / truncation
    for n in range(len(rows)):
        row = rows[n]
        x0, y0, z0 = bases[n]
        for k in range(steps.shape[1]):
            z = z0 + steps[2, k]
            if not z > _ZERO:
                continue
            scale = _ONE / z
            u, v = (x0 + steps[0, k]) * scale, (y0 + steps[1, k]) * scale
            if not (u >= _ZERO and u < right and v >= _ZERO and v < bottom):
                continue
            i, j = np.int32(v), np.int32(u)
            new = pictures[i, j, 1]
            facing = pictures[i, j, 2]
            distance = (pictures[i, j, 0] - z) * facing * nearer
            if not (new > _ZERO and distance > -max(facing, least)):
                continue
            if distance < -facing:
                new *= slight
            total = weights[row, k] + new
            weights[row, k] = total
            distance = min(distance, _ONE) - distances[row, k]
            distances[row, k] += distance * (new / max(total, _NEARLY_ZERO))
