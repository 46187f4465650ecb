"""Which other photos look at what a photo measured, and whether they found the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array, invert_rigid, transform_points
from pointmap.lens import fold_radius
from recon.fusion.frames import UsableDepth

# Points of a photo, about, by which its witnesses are found; of how many times more candidates than
# witnesses; and the width of the cells in which candidates share points, in median depths.
_PROBES, _CANDIDATES, _CELL = 200, 3, 0.2
LOOKS_PAST = -1.0
"""Depth of a pixel that looks past everything: it shows the sky."""


def witnesses(depths: Sequence[UsableDepth], count: int = 12) -> list[list[UsableDepth]]:
    """Return for each photo the others, at most ``count``, that look at most of what it measured.

    Of many photos those are compared that measured something in the same cells of space, so that
    the work grows with their number and not with its square.
    """
    if len(depths) <= count + 1:
        return [[other for other in depths if other is not depth] for depth in depths]
    probes = [_probes(depth) for depth in depths]
    candidates = _sharing_cells(depths, probes, _CANDIDATES * count)
    chosen = []
    for number, (depth, points) in enumerate(zip(depths, probes, strict=True)):
        seen = {k: int((_look_up(depths[k], depth, points) > 0).sum()) for k in candidates[number]}
        # Of equals the nearest in the order in which the photos were given.
        order = sorted(seen, key=lambda k: (-seen[k], abs(k - number)))
        chosen.append([depths[k] for k in order[:count] if seen[k] > 0])
    return chosen


def count_votes(
    others: Sequence[UsableDepth],
    own: UsableDepth,
    points: NDArray[np.float32],
    margin: float = 0.03,
) -> NDArray[np.int8]:
    """Return how many more of the others measured points (3, P) of ``own`` too than look past them,
    at something farther or the sky.

    ``margin``: relative difference of depth up to which both are one surface, as wide as the step
    that counts as an edge (``FusionOptions.max_depth_jump``).
    """
    total = np.zeros(points.shape[1], np.int8)
    for other in others:
        ratio = _look_up(other, own, points)
        total += ratio > 1 - margin
        total -= 2 * (ratio > 1 + margin).view(np.int8)
        total -= (ratio < 0).view(np.int8)
    return total


def is_shown(
    other: UsableDepth, own: UsableDepth, points: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """Return at which of the points (3, P) of ``own`` the other has depth, however far: (P,)."""
    return np.asarray(_look_up(other, own, points) != 0)


def measured_over_true(depth: UsableDepth, places: Array) -> NDArray[np.float32]:
    """Return the depth that a photo measured at ``places`` (P, 3) of the world over that of the
    places, 0 where unknown and outside its picture: (P,).
    """
    points = transform_points(invert_rigid(depth.cam_to_world), places).T
    return _look_up(depth, depth, np.ascontiguousarray(points, np.float32))


def is_in_picture(depth: UsableDepth, places: Array) -> NDArray[np.bool_]:
    """Return which ``places`` (P, 3) of the world lie in a photo's picture."""
    every = replace(depth, padded=np.pad(np.ones_like(depth.rounded), 1))
    return np.asarray(measured_over_true(every, places) > 0)


def _probes(depth: UsableDepth) -> NDArray[np.float32]:
    """Return some of a photo's points (3, P) in its frame, evenly chosen."""
    number = np.flatnonzero(depth.known)
    where = np.zeros(depth.rounded.size, bool)
    where[number[:: max(1, len(number) // _PROBES)]] = True
    return depth.points(where.reshape(depth.rounded.shape))


def _sharing_cells(
    depths: Sequence[UsableDepth], probes: Sequence[NDArray[np.float32]], count: int
) -> list[list[int]]:
    """Return for each photo up to ``count`` others, those with most probes in the same cells."""
    from scipy.sparse import csr_matrix

    width = _CELL * float(np.median([depth.unit for depth in depths]))
    cells = [
        np.floor(transform_points(depth.cam_to_world, points.T) / width)
        for depth, points in zip(depths, probes, strict=True)
    ]
    _, cell = np.unique(np.concatenate(cells), axis=0, return_inverse=True)
    photo = np.repeat(np.arange(len(depths)), [len(c) for c in cells])
    held = csr_matrix((np.ones(len(cell), np.float32), (photo, cell.ravel())))
    # A photo with many probes in one cell says no more of it than one with a few.
    held.data = np.sqrt(held.data)
    shared = (held @ held.T).tolil()
    chosen = []
    for number in range(len(depths)):
        found = np.array(shared.rows[number], np.int64)
        common = np.array(shared.data[number])[found != number]
        found = found[found != number]
        order = np.lexsort((np.abs(found - number), -common))
        chosen.append(found[order[:count]].tolist())
    return chosen


def _look_up(
    other: UsableDepth, own: UsableDepth, points: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the depth that the other measured at points (3, P) of ``own`` over that of the points,
    0 where unknown and outside its picture, less where it looks past all: (P,).
    """
    from recon.fusion.compiled_look_up import looked_up

    move = invert_rigid(other.cam_to_world) @ own.cam_to_world
    lens = other.lens
    k1, k2, fold, fisheye = 0.0, 0.0, np.inf, False
    if lens.is_radial or lens.is_fisheye:
        (k1, k2), fisheye = lens.k1_k2, lens.is_fisheye
        fold = float(fold_radius(np.asarray(k1), np.asarray(k2)))
    else:
        # Rays of what the other sees there, as a pinhole would show them.
        x, y, z = move[:3, :3] @ points + move[:3, 3:]
        ahead = np.where(z > 0, z, np.inf)
        shown = lens.distort(np.stack([x / ahead, y / ahead], axis=-1))
        points, move = np.stack([*(shown.T * z), z]), np.eye(4)
    return np.asarray(
        looked_up(
            np.ascontiguousarray(points, np.float32),
            np.ascontiguousarray(move[:3], np.float32),
            other.intrinsics.astype(np.float32),
            np.array([k1, k2, fold**2]),
            fisheye,
            other.padded.view(np.uint16),
            np.float32(other.unit),
        )
    )
