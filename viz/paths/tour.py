"""The photos as stops of a film, in an order without long ways."""

from __future__ import annotations

import numpy as np

from recon.scene import Scene
from viz.drawing.viewpoint import Viewpoint, photo_viewpoint, registered_cameras, scene_frame
from viz.paths.free_space import FreeSpace

_AROUND = 3.0  # how much longer a way about a wall is taken to be


def tour(scene: Scene, free: FreeSpace, *, aspect: float) -> list[tuple[int, Viewpoint]]:
    """Return (index into ``scene.views``, view point) of the placed photos.

    From an outermost one always to the next. Photos that look elsewhere are far, too: half a turn
    counts as two of the scene's radius; and so are those behind a wall.
    """
    indices = [index for index, _, _ in registered_cameras(scene)]
    stops = [photo_viewpoint(scene, index, aspect=aspect) for index in indices]
    if not stops:
        return []
    eyes = np.array([stop.eye for stop in stops])
    forwards = np.array([stop.target - stop.eye for stop in stops])
    forwards /= np.linalg.norm(forwards, axis=1, keepdims=True)
    way = np.linalg.norm(eyes[:, None] - eyes[None], axis=-1) / scene_frame(scene).radius
    a, b = np.triu_indices(len(stops), 1)
    blocked = ~free.clear(eyes[a], eyes[b])
    for from_, to in ((a, b), (b, a)):
        way[from_[blocked], to[blocked]] *= _AROUND
    apart = np.hypot(way, np.linalg.norm(forwards[:, None] - forwards[None], axis=-1))
    order = [int(np.argmax(apart[int(np.argmax(apart.sum(axis=1)))]))]
    left = set(range(len(stops))) - set(order)
    while left:
        order.append(min(left, key=lambda k: apart[order[-1], k]))
        left.remove(order[-1])
    return [(indices[k], stops[k]) for k in order]
