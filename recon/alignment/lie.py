"""Rotations and their tangent vectors (axis times angle, radians), batched."""

from __future__ import annotations

import numpy as np

from pointmap.camera import Array


def rotation_exp(vectors: Array) -> Array:
    """Return the rotations (N, 3, 3) of rotation vectors (N, 3): Rodrigues' formula."""
    theta2 = (vectors**2).sum(axis=-1)
    theta = np.sqrt(theta2)
    small = theta2 < 1e-12
    safe = np.where(small, 1.0, theta)
    a = np.where(small, 1 - theta2 / 6, np.sin(safe) / safe)
    b = np.where(small, 0.5 - theta2 / 24, (1 - np.cos(safe)) / safe**2)
    K = skew(vectors)
    return np.eye(3) + a[..., None, None] * K + b[..., None, None] * (K @ K)


def rotation_log(rotations: Array) -> Array:
    """Return the rotation vectors (N, 3), of angle at most pi, of rotations (N, 3, 3)."""
    import roma
    import torch

    return np.asarray(roma.rotmat_to_rotvec(torch.from_numpy(np.ascontiguousarray(rotations))))


def skew(vectors: Array) -> Array:
    """Return the matrices (N, 3, 3) of the cross product: ``skew(v) @ x = v x x``."""
    x, y, z = vectors[..., 0], vectors[..., 1], vectors[..., 2]
    zero = np.zeros_like(x)
    rows = [np.stack(row, axis=-1) for row in ([zero, -z, y], [z, zero, -x], [-y, x, zero])]
    return np.stack(rows, axis=-2)
