"""Points in cameras, and systems of three unknowns."""

from __future__ import annotations

import math

from pointmap.compiled import compiled


@compiled()
def in_camera(rotation, centre, point):  # type: ignore[no-untyped-def]
    """Return where a world point lies in the frame of a camera."""
    x, y, z = point[0] - centre[0], point[1] - centre[1], point[2] - centre[2]
    return (
        rotation[0, 0] * x + rotation[0, 1] * y + rotation[0, 2] * z,
        rotation[1, 0] * x + rotation[1, 1] * y + rotation[1, 2] * z,
        rotation[2, 0] * x + rotation[2, 1] * y + rotation[2, 2] * z,
    )


@compiled()
def cholesky(symmetric, root):  # type: ignore[no-untyped-def]
    """Write the lower root (3, 3) of a matrix, of which the lower half is read; return whether it
    is positive definite.
    """
    for a in range(3):
        for b in range(a + 1):
            rest = symmetric[a, b]
            for k in range(b):
                rest -= root[a, k] * root[b, k]
            if a == b:
                if not rest > 0:
                    return False
                root[a, a] = math.sqrt(rest)
            else:
                root[a, b] = rest / root[b, b]
                root[b, a] = 0.0
    return True


@compiled()
def forward(root, vector):  # type: ignore[no-untyped-def]
    """Solve ``root x = vector`` in place."""
    for a in range(3):
        for k in range(a):
            vector[a] -= root[a, k] * vector[k]
        vector[a] /= root[a, a]


@compiled()
def backward(root, vector):  # type: ignore[no-untyped-def]
    """Solve ``root^T x = vector`` in place."""
    for a in range(2, -1, -1):
        for k in range(a + 1, 3):
            vector[a] -= root[k, a] * vector[k]
        vector[a] /= root[a, a]


@compiled()
def solved(root, vector):  # type: ignore[no-untyped-def]
    """Solve ``root root^T x = vector`` in place."""
    forward(root, vector)
    backward(root, vector)
