"""The planes of a scene: ground, walls, floors, table tops, each seen by any number of photos.

Photos tell planes (RANSAC, Fischler and Bolles 1981), all of them together which ones hold most. A
plane through several parallel faces holds points of each, but slants against what it holds: it only
counts if it faces as its points do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pointmap.camera import Array, transform_points, unproject
from recon.fusion.frames import Frame, UsableDepth, as_pinhole
from recon.stereo.piecewise_planes import find_planes
from recon.work.threads import in_threads

# Points of all photos, about, by which planes are chosen; planes of photos that are tried; and how
# many are taken, each with at least this share of the points.
_SAMPLED, _TRIED, _MOST_PLANES, _LEAST_SHARE = 20_000, 800, 24, 0.005
# Photos of which all points are looked at before planes are chosen; of more it is a part of each.
_WHOLE = 20
# A plane holds what is so many voxels from it and faces it to so many degrees; on the whole it has
# to face as what it holds does, to the last.
_NEAR, _FACING_DEG, _SLANT_DEG = 1.0, 15.0, 1.5
# Of what is so many voxels from a plane this share has to be on it (a quarter would be by chance),
# and this share of that to face it.
_AROUND, _ON_IT, _FACING = 4.0, 0.45, 0.7
# Voxels beside a cut through several faces at which the fullest of them is looked for.
_BESIDE = (-2.0, 2.0, -4.0, 4.0, -6.0, 6.0, -8.0, 8.0)
# Pixels to either side from which a point's normal is taken, and from one point to the next; how
# straight depth has to be there.
_APART, _BENT = 3, 0.01


@dataclass(frozen=True)
class ScenePlane:
    """Places x (3,) of the world with ``normal`` x = ``offset``; the unit ``normal`` (3,) points to
    where it was seen from. ``one_face``: of something flat, not the mean of a relief.
    """

    normal: Array
    offset: float
    one_face: bool

    @property
    def axes(self) -> Array:
        """Two unit vectors (2, 3) in the plane, at a right angle."""
        first = np.cross(self.normal, np.eye(3)[np.abs(self.normal).argmin()])
        first /= np.linalg.norm(first)
        return np.stack([first, np.cross(self.normal, first)])


def scene_planes(
    depths: Sequence[UsableDepth], voxel: float, max_depth_jump: float
) -> list[ScenePlane]:
    """Return the planes of the scene, those that hold most first."""
    step = max(1, len(depths) // _WHOLE)
    seen = list(in_threads(lambda depth: _seen_by(depth, max_depth_jump, step), depths))
    tried, points, normals = (np.concatenate(part) for part in zip(*seen, strict=True))
    some = slice(None, None, max(1, -(-len(points) // _SAMPLED)))
    points, normals = points[some], normals[some]
    tried = tried[:: max(1, -(-len(tried) // _TRIED))]
    if not len(tried) or not len(points):
        return []
    held = np.stack([_held(plane, points, normals, voxel) for plane in tried])
    left = np.ones(len(points), bool)
    found: list[ScenePlane] = []
    least = max(_LEAST_SHARE * len(points), 20)
    while len(found) < _MOST_PLANES:
        votes = held @ left.astype(np.float32)
        best = int(votes.argmax())
        if votes[best] < least:
            break
        held[best] = False
        plane = _fitted(tried[best], points, normals, left, voxel)
        its = left & _held(plane, points, normals, voxel)
        if not _is_one_face(plane, points, normals, voxel):
            for off in _BESIDE:
                beside = tried[best] + [0, 0, 0, off * voxel]
                beside = _fitted(beside, points, normals, left, voxel)
                on_it = left & _held(beside, points, normals, voxel)
                if on_it.sum() > its.sum():
                    plane, its = beside, on_it
        if its.sum() < least:
            continue
        left &= ~its
        faced = normals[its].mean(axis=0)
        if plane[:3] @ faced > np.cos(np.radians(_SLANT_DEG)) * np.linalg.norm(faced):
            one_face = _is_one_face(plane, points, normals, voxel)
            found.append(ScenePlane(plane[:3], float(plane[3]), one_face))
    return found


def _seen_by(depth: UsableDepth, max_depth_jump: float, step: int) -> tuple[Array, Array, Array]:
    """Return planes (K, 4) of a photo, normal and offset, and every ``step``-th of some of its
    points (P, 3) with their normals (P, 3).
    """
    frame = as_pinhole(depth.frame(), max_depth_jump)
    points, normals = _oriented(frame)
    return _planes_of(frame), points[::step].copy(), normals[::step].copy()


def _planes_of(frame: Frame) -> Array:
    known = frame.depth > 0
    inverse = np.where(known, 1 / np.where(known, frame.depth, 1), 0).astype(np.float32)
    weight = np.where(known, frame.confidence, 0).astype(np.float32)
    found = find_planes(torch.from_numpy(inverse), torch.from_numpy(weight))
    # Inverse depth a + b x + c y in the middle of a pixel: with homogeneous pixels K X of a place X
    # of the camera's frame, (b, c, a - b / 2 - c / 2) K X = 1.
    a, b, c = found.T
    inner = np.stack([b, c, a - (b + c) / 2], 1) @ frame.intrinsics
    outer = inner @ frame.cam_to_world[:3, :3].T
    # The camera, where that is 0, is on the side to which the other sign points.
    planes = -np.column_stack([outer, 1 + outer @ frame.cam_to_world[:3, 3]])
    return np.asarray(planes / np.linalg.norm(outer, axis=1, keepdims=True))


def _oriented(frame: Frame) -> tuple[Array, Array]:
    """Return some points (P, 3) of a photo with unit normals (P, 3) towards it, in the world."""
    depth = frame.depth[::_APART, ::_APART]
    intrinsics = frame.intrinsics.copy()
    intrinsics[:2] /= _APART
    # The middle of a pixel that is kept is the middle of one again.
    intrinsics[:2, 2] += 0.5 - 0.5 / _APART
    places = unproject(depth, intrinsics)
    middle, left, right = np.s_[1:-1, 1:-1], np.s_[1:-1, :-2], np.s_[1:-1, 2:]
    above, below = np.s_[:-2, 1:-1], np.s_[2:, 1:-1]
    whole = depth[middle] > 0
    for one, other in ((left, right), (above, below)):
        whole &= (depth[one] > 0) & (depth[other] > 0)
        whole &= np.abs(depth[one] + depth[other] - 2 * depth[middle]) < _BENT * depth[middle]
    across, down = ((places[b] - places[a])[whole] for a, b in ((left, right), (above, below)))
    normals = np.cross(down, across)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    return (
        transform_points(frame.cam_to_world, places[middle][whole]),
        normals @ frame.cam_to_world[:3, :3].T,
    )


def _held(plane: Array, points: Array, normals: Array, voxel: float) -> NDArray[np.bool_]:
    near = np.abs(points @ plane[:3] - plane[3]) < _NEAR * voxel
    near[near] = normals[near] @ plane[:3] > np.cos(np.radians(_FACING_DEG))
    return np.asarray(near)


def _is_one_face(plane: Array, points: Array, normals: Array, voxel: float) -> bool:
    """Return whether a plane is a face rather than a cut through several, or through what is rough:
    what is near it is on it, and faces as it does.
    """
    off = np.abs(points @ plane[:3] - plane[3])
    near, around = ((off < far * voxel).sum() for far in (_NEAR, _AROUND))
    facing = _held(plane, points, normals, voxel).sum()
    return bool(near > _ON_IT * around and facing > _FACING * near)


def _fitted(
    plane: Array, points: Array, normals: Array, left: NDArray[np.bool_], voxel: float
) -> Array:
    """Return the plane (4,) fitted to the points that it holds and that are ``left``."""
    for _ in range(3):
        held = points[left & _held(plane, points, normals, voxel)]
        if len(held) < 3:
            break
        middle = held.mean(axis=0)
        normal = np.linalg.eigh((held - middle).T @ (held - middle))[1][:, 0]
        normal *= np.sign(normal @ plane[:3]) or 1.0
        plane = np.append(normal, normal @ middle)
    return plane
