"""What the photos are about: which part of a scene a picture of it should be filled with."""

from __future__ import annotations

import numpy as np

from pointmap.camera import Array

# What is so many times as far from the nearest camera as the median point is far behind.
_FAR = 2.5
# Cameras look at one thing together if they stand about it (the mean of the unit vectors to it is
# no longer) and most look past it by less than so many degrees.
_ABOUT, _MISS_DEG = 0.9, 12.0
# It is small in a scene that reaches so many times as far from it as the cameras stand.
_SMALL = 3.0


def subject(points: Array, cam_to_world: Array) -> Array:
    """Return the ``points`` (N, 3) that photos from ``cam_to_world`` (C, 4, 4) are about.

    What is at most 2.5 times as far from the nearest camera as the median point: a street seen past
    a corner would push the rest out of the middle. Where the cameras stand about one thing, small
    in all this, what is nearer to it than they are: a figure on a table, not the room behind.
    """
    if not len(points) or not len(cam_to_world):
        return points
    from scipy.spatial import cKDTree

    centres = cam_to_world[:, :3, 3]
    apart = cKDTree(centres).query(points)[0]
    points = points[apart <= _FAR * np.median(apart)]
    middle = looked_at(cam_to_world)
    if middle is None:
        return points
    stand = np.median(np.linalg.norm(centres - middle, axis=1))
    away = np.linalg.norm(points - middle, axis=1)
    near = away < stand
    return points[near] if near.any() and np.percentile(away, 90) > _SMALL * stand else points


def looked_at(cam_to_world: Array) -> Array | None:
    """Return the place (3,) in the world that cameras (C, 4, 4) look at together from all about;
    None where there is none.

    It is the one nearest to all optical axes, in the least-squares sense.
    """
    centres, forward = cam_to_world[:, :3, 3], cam_to_world[:, :3, 2]
    if len(centres) < 3:
        return None
    across = np.eye(3) - forward[:, :, None] * forward[:, None, :]
    total = across.sum(axis=0)
    if np.linalg.cond(total) > 1e6:
        return None
    middle = np.linalg.solve(total, np.einsum("cij,cj->i", across, centres))
    towards = middle - centres
    distance = np.linalg.norm(towards, axis=1)
    if not distance.all():
        return None
    towards /= distance[:, None]
    ahead = np.degrees(np.arccos(np.clip((towards * forward).sum(axis=1), -1, 1)))
    about = np.linalg.norm(towards.mean(axis=0))
    return middle if about < _ABOUT and np.median(ahead) < _MISS_DEG else None
