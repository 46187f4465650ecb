"""The scale of a lens at single points, compiled."""

from __future__ import annotations

import math

import numpy as np

from pointmap.compiled import compiled

# Of Newton's method, and of it where it may have to be led by halving; and doublings of a bound.
_NEWTON_ROUNDS, _MORE_ROUNDS, _DOUBLINGS = 12, 40, 30
# Squared radius below which a fisheye's scale is its series.
_NEAR = 1e-8


@compiled()
def lens_scale(square, k1, k2, fisheye):  # type: ignore[no-untyped-def]
    """Return by how much a lens scales the place of a point at the squared radius ``square``, and
    how that changes with ``square``, k1 and k2.
    """
    if not fisheye:
        scale = 1 + square * (k1 + square * k2)
        return scale, k1 + 2 * k2 * square, square, square * square
    if square < _NEAR:
        return 1 + (k1 - 1 / 3) * square, k1 - 1 / 3, square, 0.0
    # With t = atan r: g = a(t) / r, dg/d(r^2) = (a'(t) / (1 + r^2) - g) / (2 r^2).
    radius = math.sqrt(square)
    angle = math.atan(radius)
    t2 = angle * angle
    scale = angle * (1 + t2 * (k1 + t2 * k2)) / radius
    slope = (1 + t2 * (3 * k1 + 5 * k2 * t2)) / (1 + square)
    by_square = (slope - scale) / (2 * square)
    return scale, by_square, t2 * angle / radius, t2 * t2 * angle / radius


@compiled("f8[:,::1](f8[::1],f8[::1],f8[::1],b1[::1])")
def lens_scales(square, k1, k2, fisheye):  # type: ignore[no-untyped-def]
    """Return :func:`lens_scale` of each point, (4, M)."""
    found = np.empty((4, len(square)))
    for m in range(len(square)):
        found[0, m], found[1, m], found[2, m], found[3, m] = lens_scale(
            square[m], k1[m], k2[m], fisheye[m]
        )
    return found


@compiled("f8[::1](f8[::1],f8[::1],f8[::1],f8[::1])")
def least_radii(shown, k1, k2, fold):  # type: ignore[no-untyped-def]
    """Return the least t (M,) with t (1 + k1 t^2 + k2 t^4) = ``shown``, below the ``fold``."""
    found = np.empty_like(shown)
    for m in range(len(shown)):
        low, high = 0.0, min(shown[m], fold[m])
        if k1[m] < 0 or k2[m] < 0:
            # Lenses that draw together: the radius is larger than what is shown.
            high = fold[m]
            if not math.isfinite(high):
                high = shown[m]
                for _ in range(_DOUBLINGS):
                    square = high * high
                    if high * (1 + square * (k1[m] + square * k2[m])) >= shown[m]:
                        break
                    high *= 2
        radius = min(shown[m], high)
        for _ in range(_NEWTON_ROUNDS if k2[m] == 0 else _MORE_ROUNDS):
            square = radius * radius
            slope = max(1 + square * (3 * k1[m] + 5 * k2[m] * square), 1e-9)
            error = radius * (1 + square * (k1[m] + square * k2[m])) - shown[m]
            if error < 0:
                low = radius
            if error > 0:
                high = radius
            moved = radius - error / slope
            if moved < low or moved > high:
                moved = (low + high) / 2
            if moved == radius:
                break
            radius = moved
        found[m] = radius
    return found
