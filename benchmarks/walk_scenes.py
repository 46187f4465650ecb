"""A synthetic walk with exact truth: what feature matching says of its photos, right and wrong.

Buildings stand in a row. The walker goes once around each, looking at it, goes on along the side
where the round began, which closes the loop, and so comes to the next building. Points are on the
facades, up to a metre proud of them. Every key point is seen with noise and found in about half of
the photos that could show it; some matches, and a few whole pairs, are wrong; the focal length and,
with it, the pairs' rotations are off. Nothing is rendered: the matches are made as such.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from pointmap.camera import (
    Array,
    Index,
    cross_matrix,
    invert_rigid,
    pinhole,
    project,
    rigid,
    rotation_exp,
    rotation_log,
    transform_points,
)
from pointmap.images import Photo
from recon.stage_results import (
    Focals,
    PairEdge,
    PairEvidence,
    PairMatches,
    PhotoFeatures,
    RelativePose,
)

WIDTH, HEIGHT, FOCAL_PX = 640, 480, 550.0
STEP_M, DISTANCE_M, REACH_M = 0.7, 6.0, 14.0
"""Between photos; from the walker to the facade; how far key points are seen."""
_GAP_M, _FACADE_HEIGHT_M, _RELIEF_M = 3.0, 5.0, 1.0
# Key points on a square metre of facade; how often one is found in a photo, and matched again.
_DENSITY, _FOUND, _MATCHED = 28.0, 0.5, 0.8
# Beyond this angle between two lines of sight a key point looks different.
_SAME_LOOK_DEG = 40.0
_LEAST_MATCHES = 25


@dataclass(frozen=True)
class WalkErrors:
    """What is wrong: key points by ``noise_px``, a share ``wrong_matches`` of a pair's matches and
    as many pairs, of all, as the share ``wrong_pairs`` says; the focal length by the factor
    ``focal``, which turns a pair's rotation by the factor ``turn``; its pose by ``rotation_deg``
    and ``direction_deg`` besides.
    """

    noise_px: float = 0.5
    wrong_matches: float = 0.04
    wrong_pairs: float = 0.02
    focal: float = 1.15
    turn: float = 1.03
    rotation_deg: float = 0.4
    direction_deg: float = 2.0


@dataclass(frozen=True)
class Walk:
    """``cam_to_world`` (N, 4, 4) of the ``photos``, in metres, and what their matches say."""

    photos: tuple[Photo, ...]
    cam_to_world: Array
    evidence: PairEvidence
    features: tuple[PhotoFeatures, ...]
    revisits: Index
    """Pairs (R, 2) of photos taken in nearly the same place, a round apart."""


def make_walk(
    count: int,
    *,
    loop: int = 260,
    neighbours: int = 10,
    errors: WalkErrors | None = None,
    seed: int = 0,
) -> Walk:
    """Return a walk of ``count`` photos, ``loop`` of them once around a building.

    Each photo is matched with about as many ``neighbours``: the nearest ones of the walk, and those
    of an earlier round that see most of the same.
    """
    errors = errors or WalkErrors()
    rng = np.random.default_rng(seed)
    poses, side_m = _path(count, loop, rng)
    points, normals = _facades(side_m, float(poses[:, 0, 3].max()) + REACH_M, rng)
    seen = _key_points(poses, points, normals, errors, rng)
    pairs = _pairs(poses, neighbours)
    photos = tuple(
        Photo(Path(f"{k:05d}.jpg"), f"{k:05d}.jpg", WIDTH, HEIGHT, None, "walk")
        for k in range(count)
    )
    edges = []
    for i, j in pairs:
        edge = _edge(poses, points, seen, int(i), int(j), errors, rng)
        if edge is not None:
            edges.append(edge)
    for _ in range(round(errors.wrong_pairs * len(edges))):
        i, j = np.sort(rng.choice(count, 2, replace=False))
        if j - i > neighbours:
            edges.append(_wrong_edge(seen, int(i), int(j), rng))
    unique = {(edge.matches.i, edge.matches.j): edge for edge in reversed(edges)}
    edges = [unique[pair] for pair in sorted(unique)]
    focals = Focals(
        np.full(count, errors.focal * FOCAL_PX),
        np.full(count, 0.2),
        ("default",) * count,
        np.zeros(count, np.int64),
    )
    evidence = PairEvidence([edge.matches for edge in edges], edges, focals, [], [])
    features = tuple(
        PhotoFeatures(xy, np.zeros((len(xy), 0), np.float32), np.zeros((len(xy), 3), np.uint8))
        for xy, _ in seen
    )
    lines = np.array([(edge.matches.i, edge.matches.j) for edge in edges]).reshape(-1, 2)
    apart = np.linalg.norm(poses[lines[:, 0], :3, 3] - poses[lines[:, 1], :3, 3], axis=1)
    far = (lines[:, 1] - lines[:, 0] > loop / 2) & (apart < 3 * STEP_M)
    return Walk(photos, poses, evidence, features, lines[far])


def _path(count: int, loop: int, rng: np.random.Generator) -> tuple[Array, float]:
    """Return the walker's cameras (N, 4, 4) and the length of a building's side."""
    side = max((loop * STEP_M - 2 * np.pi * DISTANCE_M) / 4, 2.0)
    around = 4 * side + 2 * np.pi * DISTANCE_M
    # Once around, and then along the first side to the next building.
    block = around + side + _GAP_M
    along = STEP_M * np.arange(count)
    number, rest = np.divmod(along, block)
    start = number * (side + _GAP_M)
    leg = side + np.pi / 2 * DISTANCE_M
    again = rest >= around
    quarter, on = np.divmod(np.where(again, 0.0, rest), leg)
    on = np.where(again, rest - around, on)
    straight = again | (on < side)
    angle = np.where(straight, 0.0, (on - side) / DISTANCE_M)
    # In the frame of one side: x along it, y into the building.
    x = np.where(straight, on, side + DISTANCE_M * np.sin(angle))
    y = np.where(straight, -DISTANCE_M, -DISTANCE_M * np.cos(angle))
    turn = np.pi / 2 * quarter
    middle = side / 2
    u, v = x - middle, y - middle
    eyes = np.stack(
        [
            start + middle + np.cos(turn) * u - np.sin(turn) * v,
            middle + np.sin(turn) * u + np.cos(turn) * v,
            np.zeros(count),
        ],
        axis=1,
    )
    eyes += rng.normal(0, [0.15, 0.15, 0.1], (count, 3))
    yaw = turn + angle + np.pi / 2 + np.radians(rng.normal(0, 5, count) - 15)
    pitch = np.radians(rng.normal(0, 3, count))
    forward = np.stack(
        [np.cos(yaw) * np.cos(pitch), np.sin(yaw) * np.cos(pitch), np.sin(pitch)], axis=1
    )
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    poses = np.tile(np.eye(4), (count, 1, 1))
    poses[:, :3, :3] = np.stack([right, np.cross(forward, right), forward], axis=2)
    poses[:, :3, 3] = eyes
    return poses, float(side)


def _facades(side: float, until: float, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return points (P, 3) on the four faces of every building, and the faces' normals (P, 3)."""
    points, normals = [], []
    for number in range(int(until // (side + _GAP_M)) + 1):
        corner = np.array([number * (side + _GAP_M), 0.0, 0.0])
        for quarter in range(4):
            count = int(_DENSITY * side * _FACADE_HEIGHT_M)
            local = np.stack(
                [
                    rng.uniform(-side / 2, side / 2, count),
                    rng.uniform(-_RELIEF_M, 0, count) - side / 2,
                    rng.uniform(-_FACADE_HEIGHT_M / 2, _FACADE_HEIGHT_M / 2, count),
                ],
                axis=1,
            )
            turn = rotation_exp(np.array([[0.0, 0.0, np.pi / 2 * quarter]]))[0]
            points.append(local @ turn.T + corner + [side / 2, side / 2, 0.0])
            normals.append(np.tile(turn @ [0.0, -1.0, 0.0], (count, 1)))
    return np.concatenate(points), np.concatenate(normals)


def _key_points(
    poses: Array, points: Array, normals: Array, errors: WalkErrors, rng: np.random.Generator
) -> list[tuple[Array, Index]]:
    """Return each photo's key points (K, 2) and which point each one is (K,), sorted."""
    tree = KDTree(points)
    K = pinhole(FOCAL_PX, WIDTH, HEIGHT)
    result = []
    for pose in poses:
        near = np.sort(np.array(tree.query_ball_point(pose[:3, 3], REACH_M), np.int64))
        local = transform_points(invert_rigid(pose), points[near])
        faces = ((pose[:3, 3] - points[near]) * normals[near]).sum(axis=1) > 1.0
        near, local = near[faces & (local[:, 2] > 0.5)], local[faces & (local[:, 2] > 0.5)]
        xy = project(local, K)
        inside = (xy > 0).all(axis=1) & (xy[:, 0] < WIDTH) & (xy[:, 1] < HEIGHT)
        inside &= rng.random(len(xy)) < _FOUND
        noise = rng.normal(0, errors.noise_px, (int(inside.sum()), 2))
        result.append((xy[inside] + noise, near[inside]))
    return result


def _pairs(poses: Array, neighbours: int) -> list[tuple[int, int]]:
    """Return the pairs (i < j) to match: neighbours of the walk, and what is near in space."""
    count = len(poses)
    reach = max(neighbours // 2 - 1, 1)
    pairs = {(i, j) for i in range(count) for j in range(i + 1, min(i + reach + 1, count))}
    tree = KDTree(poses[:, :3, 3])
    _, near = tree.query(poses[:, :3, 3], min(4 * neighbours, count), workers=1)
    for i, others in enumerate(near):
        alike = (poses[others, :3, 2] @ poses[i, :3, 2]) > np.cos(np.radians(40))
        others = others[alike & (np.abs(others - i) > 4 * reach)]
        pairs |= {(min(i, int(j)), max(i, int(j))) for j in others[: neighbours - 2 * reach]}
    return sorted(pairs)


def _edge(
    poses: Array,
    points: Array,
    seen: list[tuple[Array, Index]],
    i: int,
    j: int,
    errors: WalkErrors,
    rng: np.random.Generator,
) -> PairEdge | None:
    (xy_i, name_i), (xy_j, name_j) = seen[i], seen[j]
    common, index_i, index_j = np.intersect1d(
        name_i, name_j, assume_unique=True, return_indices=True
    )
    rays = [points[common] - poses[k, :3, 3] for k in (i, j)]
    cosine = (rays[0] * rays[1]).sum(axis=1)
    cosine /= np.linalg.norm(rays[0], axis=1) * np.linalg.norm(rays[1], axis=1)
    kept = (cosine > np.cos(np.radians(_SAME_LOOK_DEG))) & (rng.random(len(common)) < _MATCHED)
    if kept.sum() < _LEAST_MATCHES:
        return None
    index_i, index_j = index_i[kept], index_j[kept].copy()
    wrong = np.flatnonzero(rng.random(len(index_i)) < errors.wrong_matches)
    index_j[wrong] = rng.integers(len(xy_j), size=len(wrong))
    # Of every photo a key point is matched once.
    _, first = np.unique(index_j, return_index=True)
    index_i, index_j = index_i[first], index_j[first]
    relative = invert_rigid(poses[i]) @ poses[j]
    K = pinhole(FOCAL_PX, WIDTH, HEIGHT)
    # Wrong matches on the epipolar line pass for right ones.
    essential = cross_matrix(relative[None, :3, 3])[0] @ relative[:3, :3]
    lines = (np.c_[xy_i[index_i], np.ones(len(index_i))] @ np.linalg.inv(K).T @ essential) @ (
        np.linalg.inv(K)
    )
    off = np.abs((np.c_[xy_j[index_j], np.ones(len(index_j))] * lines).sum(axis=1))
    inliers = off / np.linalg.norm(lines[:, :2], axis=1) < 2.5
    turned = rotation_exp(errors.turn * rotation_log(relative[None, :3, :3]))[0]
    turned = _shaken(errors.rotation_deg, rng) @ turned
    direction = _shaken(errors.direction_deg, rng) @ relative[:3, 3]
    pose = rigid(turned, direction / np.linalg.norm(direction))
    matches = PairMatches(i, j, xy_i[index_i], xy_j[index_j], index_i, index_j, 0.5)
    return PairEdge(matches, RelativePose(pose, "essential", inliers, 0.9))


def _shaken(deg: float, rng: np.random.Generator) -> Array:
    return np.asarray(rotation_exp(np.radians(rng.normal(0, deg, (1, 3))))[0])


def _wrong_edge(
    seen: list[tuple[Array, Index]], i: int, j: int, rng: np.random.Generator
) -> PairEdge:
    """Return a pair that shows two places and passed for one: any pose, matches at random."""
    count = min(40, len(seen[i][0]), len(seen[j][0]))
    index_i = np.sort(rng.choice(len(seen[i][0]), count, replace=False))
    index_j = rng.choice(len(seen[j][0]), count, replace=False)
    direction = rng.normal(size=3)
    turn = rotation_exp(rng.normal(0, 0.8, (1, 3)))[0]
    pose = rigid(turn, direction / np.linalg.norm(direction))
    matches = PairMatches(i, j, seen[i][0][index_i], seen[j][0][index_j], index_i, index_j, 0.5)
    inliers: NDArray[np.bool_] = rng.random(count) < 0.8
    return PairEdge(matches, RelativePose(pose, "essential", inliers, 0.3))
