"""Planes fitted around each pixel."""

from __future__ import annotations

import math

import numpy as np

from pointmap.compiled import compiled


@compiled()
def _add_products(inverse, weight, row, sign, columns):  # type: ignore[no-untyped-def]
    for i in range(len(columns)):
        m, v, sums = sign * weight[row, i], float(inverse[row, i]), columns[i]
        sums[0] += m
        sums[1] += m * i
        sums[2] += m * row
        sums[3] += m * i * i
        sums[4] += m * i * row
        sums[5] += m * row * row
        sums[6] += m * v
        sums[7] += m * v * i
        sums[8] += m * v * row
        sums[9] += m * v * v


@compiled()
def _plane_at(means, x, y):  # type: ignore[no-untyped-def]
    m, mx, my, mxx, mxy, myy, mv, mvx, mvy, mvv = means
    total = max(m, 1e-9)
    mean_x, mean_y, mean_v = mx / total, my / total, mv / total
    # Covariances; the ridge keeps lone columns or rows of pixels from tilting the plane.
    xx, yy = mxx / total - mean_x**2 + 1e-3, myy / total - mean_y**2 + 1e-3
    xy = mxy / total - mean_x * mean_y
    vx, vy = mvx / total - mean_v * mean_x, mvy / total - mean_v * mean_y
    determinant = max(xx * yy - xy * xy, 1e-6)
    b, c = (vx * yy - vy * xy) / determinant, (vy * xx - vx * xy) / determinant
    fitted = mean_v + b * (x - mean_x) + c * (y - mean_y)
    return fitted, mvv / total - mean_v**2 - b * vx - c * vy, m


@compiled("f4[:,:,::1](f4[:,::1],f4[:,::1],i8)")
def plane_fit(inverse, weight, radius):  # type: ignore[no-untyped-def]
    """Return value, residual and mean weight (3, h, w) of the plane fitted around each pixel."""
    h, w = inverse.shape
    result = np.empty((3, h, w), np.float32)
    # Sums down the columns of the window, and over all of it, of the products of _add_products.
    columns, window, means = np.zeros((w, 10)), np.empty(10), np.empty(10)
    for row in range(-radius, radius):
        _add_products(inverse, weight, min(max(row, 0), h - 1), 1.0, columns)
    for row in range(h):
        _add_products(inverse, weight, min(row + radius, h - 1), 1.0, columns)
        if row > 0:
            _add_products(inverse, weight, max(row - radius - 1, 0), -1.0, columns)
        for k in range(10):
            window[k] = 0.0
            for i in range(-radius, radius):
                window[k] += columns[min(max(i, 0), w - 1), k]
        for i in range(w):
            newest, oldest = min(i + radius, w - 1), max(i - radius - 1, 0)
            for k in range(10):
                window[k] += columns[newest, k]
                if i > 0:
                    window[k] -= columns[oldest, k]
                means[k] = window[k] / (2 * radius + 1) ** 2
            fitted, variance, share = _plane_at(means, i, row)
            result[0, row, i], result[2, row, i] = fitted, share
            result[1, row, i] = math.sqrt(max(variance, 0.0))
    return result
