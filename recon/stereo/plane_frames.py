"""Planes of a photo's inverse depth in the world, and back; and pixels on them in other photos."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array
from recon.stereo.known_pixels import Pixels
from recon.stereo.photo import Photo2D, pixel_terms


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


@dataclass(frozen=True)
class Places:
    """Where pixels that lie on planes are in another photo, (C, N) each: ``place``, rows and
    columns, 0 where they are not ``inside`` it; ``nearness``: of inverse depth there, the factor
    that makes it inverse depth over the planes'.
    """

    place: tuple[NDArray[np.int64], NDArray[np.int64]]
    inside: NDArray[np.bool_]
    nearness: Array

    def over(self, there: NDArray[np.floating]) -> Array:
        """Return inverse depth (C, N) that the other photo has ``there`` over the planes', 0 where
        it has none.
        """
        return np.asarray(np.where(self.inside, there * self.nearness, 0))


def places_in(other: Photo2D, photo: Photo2D, pixels: Pixels, inverse: Array) -> Places:
    """Return where N ``pixels`` of a ``photo``, at inverse depths (C, N), are in ``other``."""
    A, b = (term.double().cpu().numpy() for term in pixel_terms(photo, other))
    at = np.column_stack([pixels.at[:, 1:] + 0.5, pixels.at[:, 0]])
    u, v, z = np.moveaxis(at @ A.T + inverse[..., None] * b, -1, 0)
    height, width = other.grey.shape
    with np.errstate(divide="ignore", invalid="ignore"):
        u, v = u / z, v / z
        inside = (z > 0) & (u >= 0) & (u < width) & (v >= 0) & (v < height)
    place = np.where(inside, v, 0).astype(int), np.where(inside, u, 0).astype(int)
    return Places(place, inside, z / np.maximum(inverse, 1e-12))


def _camera(photo: Photo2D) -> tuple[Array, Array]:
    return photo.intrinsics.cpu().numpy(), photo.cam_to_world.cpu().numpy()
