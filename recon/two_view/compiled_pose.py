"""A relative pose refined on the matches of two photos: a loop that numba compiles when it is
imported.
"""

from __future__ import annotations

import math

import numpy as np

from pointmap.compiled import compiled

# Of Levenberg-Marquardt: the damping at first, its limits, and the part of the cost that a round
# has to gain to be followed by another one.
_DAMPING, _LEAST_DAMPING, _MOST_DAMPING = 1e-4, 1e-7, 1e6
_GAIN = 1e-6
# Unknowns: three of the rotation, two of the direction of translation.
_UNKNOWNS = 5


@compiled()
def _product(a, b):  # type: ignore[no-untyped-def]
    """Return the product of two matrices (3, 3); numpy's own takes many times as long."""
    c = np.empty((3, 3))
    for row in range(3):
        for column in range(3):
            c[row, column] = (
                a[row, 0] * b[0, column] + a[row, 1] * b[1, column] + a[row, 2] * b[2, column]
            )
    return c


@compiled()
def _cross(x, y, z):  # type: ignore[no-untyped-def]
    """Return the matrix (3, 3) of the cross product with a vector."""
    c = np.zeros((3, 3))
    c[0, 1], c[0, 2], c[1, 2] = -z, y, -x
    c[1, 0], c[2, 0], c[2, 1] = z, -y, x
    return c


@compiled()
def _fundamental(rotation, t, left, right):  # type: ignore[no-untyped-def]
    """Return F (3, 3) of a pose; ``left``, ``right``: K_i^-T and K_j^-1."""
    return _product(left, _product(_product(_cross(t[0], t[1], t[2]), rotation), right))


@compiled()
def _lines(F, x_i, y_i, x_j, y_j):  # type: ignore[no-untyped-def]
    """Return a match's epipolar lines, in photo i and of the one in photo j what counts, the length
    of the Sampson error's gradient, and the signed Sampson error.
    """
    a = F[0, 0] * x_j + F[0, 1] * y_j + F[0, 2]
    b = F[1, 0] * x_j + F[1, 1] * y_j + F[1, 2]
    c = F[2, 0] * x_j + F[2, 1] * y_j + F[2, 2]
    d = F[0, 0] * x_i + F[1, 0] * y_i + F[2, 0]
    e = F[0, 1] * x_i + F[1, 1] * y_i + F[2, 1]
    norm = max(math.sqrt(a * a + b * b + d * d + e * e), 1e-300)
    return a, b, d, e, norm, (x_i * a + y_i * b + c) / norm


@compiled()
def _cost(F, xy_i, xy_j, scale_px):  # type: ignore[no-untyped-def]
    """Return the robust cost of all matches."""
    cost = 0.0
    for m in range(len(xy_i)):
        residual = _lines(F, xy_i[m, 0], xy_i[m, 1], xy_j[m, 0], xy_j[m, 1])[5]
        cost += math.log1p((residual / scale_px) ** 2)
    return cost


@compiled()
def _rotation(x, y, z):  # type: ignore[no-untyped-def]
    """Return the rotation (3, 3) of an axis times angle, in radians (Rodrigues)."""
    angle = max(math.sqrt(x * x + y * y + z * z), 1e-300)
    turn = _cross(x / angle, y / angle, z / angle)
    sine, rest, cosine = math.sin(angle), 1 - math.cos(angle), math.cos(angle)
    axis = x / angle, y / angle, z / angle
    for a in range(3):
        for b in range(3):
            turn[a, b] = sine * turn[a, b] + rest * axis[a] * axis[b]
        turn[a, a] += cosine
    return turn


@compiled()
def _tangent(t):  # type: ignore[no-untyped-def]
    """Return two unit vectors (2, 3) at right angles to a unit vector and to each other."""
    least = 0
    for a in range(1, 3):
        if abs(t[a]) < abs(t[least]):
            least = a
    axes = np.zeros((2, 3))
    axes[0, least] = 1.0
    for a in range(3):
        axes[0, a] -= t[least] * t[a]
    length = math.sqrt(axes[0, 0] ** 2 + axes[0, 1] ** 2 + axes[0, 2] ** 2)
    for a in range(3):
        axes[0, a] /= length
    axes[1, 0] = t[1] * axes[0, 2] - t[2] * axes[0, 1]
    axes[1, 1] = t[2] * axes[0, 0] - t[0] * axes[0, 2]
    axes[1, 2] = t[0] * axes[0, 1] - t[1] * axes[0, 0]
    return axes


@compiled()
def _slopes(rotation, t, axes, left, right):  # type: ignore[no-untyped-def]
    """Return the derivatives (5, 3, 3) of F: by rotations about the axes of camera j, and by moves
    of ``t`` along the two ``axes`` at right angles to it.
    """
    slopes = np.empty((_UNKNOWNS, 3, 3))
    turned = _product(left, _product(_cross(t[0], t[1], t[2]), rotation))
    before, after = turned, right
    for k in range(_UNKNOWNS):
        if k < 3:
            middle = _cross(1.0 * (k == 0), 1.0 * (k == 1), 1.0 * (k == 2))
        else:
            middle = _cross(axes[k - 3, 0], axes[k - 3, 1], axes[k - 3, 2])
            before, after = left, _product(rotation, right)
        slope = _product(before, _product(middle, after))
        for a in range(3):
            for b in range(3):
                slopes[k, a, b] = slope[a, b]
    return slopes


@compiled()
def _equations(F, slopes, xy_i, xy_j, scale_px):  # type: ignore[no-untyped-def]
    """Return the weighted normal equations of all matches: matrix (5, 5) and gradient (5,)."""
    hessian, gradient = np.zeros((_UNKNOWNS, _UNKNOWNS)), np.zeros(_UNKNOWNS)
    row = np.empty(_UNKNOWNS)
    for m in range(len(xy_i)):
        x_i, y_i, x_j, y_j = xy_i[m, 0], xy_i[m, 1], xy_j[m, 0], xy_j[m, 1]
        a, b, d, e, norm, residual = _lines(F, x_i, y_i, x_j, y_j)
        for k in range(_UNKNOWNS):
            S = slopes[k]
            a_k = S[0, 0] * x_j + S[0, 1] * y_j + S[0, 2]
            b_k = S[1, 0] * x_j + S[1, 1] * y_j + S[1, 2]
            c_k = S[2, 0] * x_j + S[2, 1] * y_j + S[2, 2]
            d_k = S[0, 0] * x_i + S[1, 0] * y_i + S[2, 0]
            e_k = S[0, 1] * x_i + S[1, 1] * y_i + S[2, 1]
            along = a * a_k + b * b_k + d * d_k + e * e_k
            row[k] = (x_i * a_k + y_i * b_k + c_k - residual / norm * along) / norm
        weight = 1 / (1 + (residual / scale_px) ** 2)
        for k in range(_UNKNOWNS):
            weighted = weight * row[k]
            gradient[k] += weighted * residual
            for n in range(k + 1):
                hessian[k, n] += weighted * row[n]
    return hessian, gradient


@compiled()
def _solve(hessian, gradient, damping, step):  # type: ignore[no-untyped-def]
    """Write the step (5,) of the damped equations, of whose matrix the lower half is read; return
    whether they have one (Cholesky).
    """
    root = np.empty((_UNKNOWNS, _UNKNOWNS))
    for a in range(_UNKNOWNS):
        step[a] = gradient[a]
        for b in range(a + 1):
            rest = hessian[a, b]
            if a == b:
                rest += damping * hessian[a, a] + 1e-12
            for k in range(b):
                rest -= root[a, k] * root[b, k]
            if a != b:
                root[a, b] = rest / root[b, b]
            elif rest > 0:
                root[a, a] = math.sqrt(rest)
            else:
                return False
        for k in range(a):
            step[a] -= root[a, k] * step[k]
        step[a] /= root[a, a]
    for a in range(_UNKNOWNS - 1, -1, -1):
        for k in range(a + 1, _UNKNOWNS):
            step[a] -= root[k, a] * step[k]
        step[a] /= root[a, a]
    return True


@compiled()
def _move(t, step, axes, moved):  # type: ignore[no-untyped-def]
    """Write the direction (3,) that a step leads to from ``t``."""
    for a in range(3):
        moved[a] = t[a] - step[3] * axes[0, a] - step[4] * axes[1, a]
    length = math.sqrt(moved[0] ** 2 + moved[1] ** 2 + moved[2] ** 2)
    for a in range(3):
        moved[a] /= length


@compiled("f8(f8[:,::1],f8[::1],f8[:,::1],f8[:,::1],f8[:,::1],f8[:,::1],f8,i8)")
def refine_in_place(rotation, t, xy_i, xy_j, left, right, scale_px, rounds):  # type: ignore[no-untyped-def]
    """Refine a ``rotation`` (3, 3) and unit translation ``t`` (3,) in place, as
    :func:`recon.two_view.epipolar.refine_pose` says; return the cost.

    ``xy_i``, ``xy_j`` (M, 2) pixels; ``left``, ``right``: K_i^-T and K_j^-1 (3, 3).
    """
    F = _fundamental(rotation, t, left, right)
    cost, damping = _cost(F, xy_i, xy_j, scale_px), _DAMPING
    step, moved = np.empty(_UNKNOWNS), np.empty(3)
    for _ in range(rounds):
        axes = _tangent(t)
        slopes = _slopes(rotation, t, axes, left, right)
        hessian, gradient = _equations(F, slopes, xy_i, xy_j, scale_px)
        start = cost
        while damping < _MOST_DAMPING:
            if _solve(hessian, gradient, damping, step):
                turned = _product(rotation, _rotation(-step[0], -step[1], -step[2]))
                _move(t, step, axes, moved)
                F_new = _fundamental(turned, moved, left, right)
                cost_new = _cost(F_new, xy_i, xy_j, scale_px)
                if cost_new < cost:
                    for a in range(3):
                        t[a] = moved[a]
                        for b in range(3):
                            rotation[a, b] = turned[a, b]
                    F, cost = F_new, cost_new
                    damping = max(damping / 10, _LEAST_DAMPING)
                    break
            damping *= 10
        if start - cost <= _GAIN * start:
            break
    return cost
