"""Planes of a photo's inverse depth in the world, and back."""

from __future__ import annotations

import numpy as np

from pointmap.camera import Array
from recon.stereo.photo import Photo2D


def in_world(planes: Array, photo: Photo2D) -> Array:
    """Return planes (K, 3) of ``photo``'s inverse depth (a + b x + c y at column x and row y) as
    (K, 4): unit normals, and their product with the points of each.
    """
    K, cam_to_world = _camera(photo)
    a, b, c = planes.T
    # Points X of a plane have normal . X = 1, as inverse depth is (normal K^-1) . (x, y, 1).
    normal = np.stack([b, c, a - (b + c) / 2], axis=1) @ K @ cam_to_world[:3, :3].T
    offset = 1 + normal @ cam_to_world[:3, 3]
    return np.column_stack([normal, offset]) / np.linalg.norm(normal, axis=1)[:, None]


def in_photo(planes: Array, photo: Photo2D) -> Array:
    """Return planes (K, 4) of the world as those (K, 3) of ``photo``'s inverse depth."""
    K, cam_to_world = _camera(photo)
    distance = planes[:, 3] - planes[:, :3] @ cam_to_world[:3, 3]
    # A plane through the camera is seen nowhere: its inverse depth comes out as next to infinite.
    distance = np.where(np.abs(distance) < 1e-12, 1e-12, distance)
    b, c, a = ((planes[:, :3] @ cam_to_world[:3, :3] / distance[:, None]) @ np.linalg.inv(K)).T
    return np.stack([a + (b + c) / 2, b, c], axis=1)


def _camera(photo: Photo2D) -> tuple[Array, Array]:
    return photo.intrinsics.cpu().numpy(), photo.cam_to_world.cpu().numpy()
