"""The room of :mod:`synthetic`, fused: how far from its surfaces something lies."""

import numpy as np
from synthetic import ROOM, Plane

VOXEL = 0.04


def distance_to_room(points: np.ndarray) -> np.ndarray:
    """Return the distance (P,) of points to the nearest surface of ROOM."""
    distances = []
    for surface in ROOM:
        if isinstance(surface, Plane):
            normal = np.array(surface.normal)
            distances.append(np.abs(points @ normal - surface.offset) / np.linalg.norm(normal))
        else:
            centre = np.array(surface.centre)
            distances.append(np.abs(np.linalg.norm(points - centre, axis=1) - surface.radius))
    return np.min(distances, axis=0)
