"""The directions of the flat surfaces that photos confirm, and where such surfaces are.

A room has few directions, and walls, doors and floors that are seen badly share them (Furukawa,
Curless, Seitz and Szeliski, Manhattan-world stereo, 2009). Where many confirmed points lie at one
offset along a direction and few beside it, there is a surface, though only rims and seams of it are
confirmed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pointmap.camera import Array
from recon.stereo.photo import Photo2D
from recon.stereo.piecewise_planes import find_planes
from recon.stereo.plane_frames import in_world

_ON_PLANE = 0.01
"""A pixel whose inverse depth is off by less than this share is on a plane."""
_EVERY = 4
"""Every so many-th pixel, across and down, is a point."""
_SAME_DEG, _LEAST, _MOST_DIRECTIONS = 6.0, 0.04, 6
"""Planes whose normals differ by less are of one direction; it holds at least this share of all
that is on planes."""
_SQUARE_DEG, _NEW_DEG = 5.0, 8.0
"""Directions nearly square to the first are taken to be so; a third one, square to both, is new if
it is so far from all others."""
_LAYER = 0.006
"""Thickness of the layers that are counted, as a share of the median depth."""
_FAR = 20.0
"""Points farther than so many times the median depth don't count."""
_BESIDE, _APART = 6, 1
"""So many layers to either side, but for the nearest, tell how many points there are anyway."""
_MOST_PLACES, _LEAST_PLACE = 24, 0.0015
"""Places found at most, and the share of all points that one has at least more than beside it."""


@dataclass(frozen=True)
class FlatParts:
    """What is flat of a photo's confirmed depth, in the world: unit ``normals`` (K, 3) and
    ``sizes`` (K,), as shares of the photo; ``points`` (N, 3), evenly chosen, and their ``depth``
    (N,).
    """

    normals: Array
    sizes: Array
    points: Array
    depth: Array


def flat_parts(
    photo: Photo2D, known: NDArray[np.float32], confidence: NDArray[np.float32]
) -> FlatParts:
    """Return a photo's, by ``known`` inverse depth (h, w), 0 = unknown, and its ``confidence``."""
    planes = find_planes(torch.from_numpy(known), torch.from_numpy(confidence))
    few = np.s_[_EVERY // 2 :: _EVERY]
    rows, columns = np.nonzero(known[few, few])
    rows, columns = (_EVERY // 2 + _EVERY * place for place in (rows, columns))
    inverse = known[rows, columns].astype(float)
    at = np.stack([np.ones(len(rows)), columns, rows], axis=1)
    on = np.abs(planes @ at.T / inverse - 1) < _ON_PLANE
    # A pixel belongs to the first, the largest, that it is on.
    first = on & (np.cumsum(on, axis=0) == 1)
    K, cam_to_world = photo.intrinsics.cpu().numpy(), photo.cam_to_world.cpu().numpy()
    rays = np.stack([columns + 0.5, rows + 0.5, np.ones(len(rows))], axis=1) @ np.linalg.inv(K).T
    points = (rays / inverse[:, None]) @ cam_to_world[:3, :3].T + cam_to_world[:3, 3]
    sizes = first.sum(axis=1) * (_EVERY**2 / known.size)
    return FlatParts(in_world(planes, photo)[:, :3], sizes, points, 1 / inverse)


def flat_directions(parts: Sequence[FlatParts]) -> Array:
    """Return the directions (D, 3) of most of what is flat, the first that of most.

    What is nearly square to that is made so, and joined by what is square to both.
    """
    normals = np.concatenate([part.normals for part in parts])
    left = np.concatenate([part.sizes for part in parts])
    least, near = _LEAST * left.sum(), np.cos(np.radians(_SAME_DEG))
    close = np.abs(normals @ normals.T) > near
    found: list[Array] = []
    while left.any() and len(found) < _MOST_DIRECTIONS:
        held = (close @ left) * (left > 0)
        if held.max() < least:
            break
        direction = normals[held.argmax()]
        for _ in range(5):
            along = normals @ direction
            its = np.where(np.abs(along) > near, left, 0) * np.sign(along)
            direction = its @ normals
            direction = direction / np.linalg.norm(direction)
        its = np.abs(normals @ direction) > near
        if left[its].sum() >= least:
            found.append(direction)
        # What started it goes in any case.
        its |= close[held.argmax()]
        left = np.where(its, 0, left)
    return _squared(found)


def _squared(found: Sequence[Array]) -> Array:
    if not found:
        return np.zeros((0, 3))
    first, *others = found
    directions, square = [first], None
    for direction in others:
        along = float(direction @ first)
        if abs(along) < np.sin(np.radians(_SQUARE_DEG)):
            direction = direction - along * first
            direction /= np.linalg.norm(direction)
            square = direction if square is None else square
        directions.append(direction)
    if square is not None:
        third = np.cross(first, square)
        if np.abs(np.stack(directions) @ third).max() < np.cos(np.radians(_NEW_DEG)):
            directions.append(third)
    return np.stack(directions)


def flat_places(parts: Sequence[FlatParts], directions: Array) -> tuple[Array, Array]:
    """Return planes (P, 4) of the ``directions``, unit normals and offsets, on which points lie as
    they don't beside them; and by which share (P,) of all points there are more.
    """
    depth = np.concatenate([part.depth for part in parts])
    if not len(depth) or not len(directions):
        return np.zeros((0, 4)), np.zeros(0)
    typical = float(np.median(depth))
    points = np.concatenate([part.points for part in parts])[depth < _FAR * typical]
    layer = _LAYER * typical
    offsets = directions @ points.T
    left = np.ones(len(points), bool)
    planes: list[list[float]] = []
    shares: list[float] = []
    while len(planes) < _MOST_PLACES and left.any():
        best = [_densest(along[left], layer) for along in offsets]
        which = int(np.argmax([more for more, _ in best]))
        more, offset = best[which]
        if more < _LEAST_PLACE * len(points):
            break
        off = np.abs(offsets[which] - offset)
        its = left & (off < 1.5 * layer)
        offset = float(np.median(offsets[which][its]))
        planes.append([*directions[which], offset])
        shares.append(more / len(points))
        # One place ends before another is looked for.
        left &= np.abs(offsets[which] - offset) >= 2 * layer
    return np.reshape(planes, (-1, 4)), np.array(shares)


def _densest(offsets: Array, layer: float) -> tuple[float, float]:
    """Return how many more offsets lie in three layers than in those beside them would, at most,
    and the middle of these three.
    """
    low = offsets.min()
    counts = np.bincount(((offsets - low) / layer).astype(int)).astype(float)
    reach = _BESIDE + _APART
    sums = np.cumsum(np.pad(counts, (reach + 1, reach)))
    middle = np.arange(len(counts)) + reach + 1
    inner, outer = (sums[middle + wide] - sums[middle - wide - 1] for wide in (_APART, reach))
    more = inner - (outer - inner) * ((2 * _APART + 1) / (2 * _BESIDE))
    best = int(more.argmax())
    return float(more[best]), float(low + (best + 0.5) * layer)
