"""Rotations and their tangent vectors (axis times angle, radians), batched."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from pointmap.camera import Array


def rotation_exp(vectors: Array) -> Array:
    """Return the rotations (N, 3, 3) of rotation vectors (N, 3)."""
    return np.asarray(Rotation.from_rotvec(vectors).as_matrix())


def rotation_log(rotations: Array) -> Array:
    """Return the rotation vectors (N, 3), of angle at most pi, of rotations (N, 3, 3)."""
    return np.asarray(Rotation.from_matrix(rotations).as_rotvec())
