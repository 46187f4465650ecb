"""Synthetic scenes with exact truth for the tests of :mod:`recon.alignment`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from synthetic import look_at

from pointmap.camera import (
    Array,
    invert_rigid,
    pinhole,
    project,
    rigid,
    rotation_angle_deg,
    transform_points,
)
from pointmap.images import Photo
from pointmap.lens import Lens
from recon.alignment.cameras import Cameras
from recon.stage_results import (
    Alignment,
    Focals,
    PairEdge,
    PairEvidence,
    PairMatches,
    PairSketch,
    PhotoPrior,
    RelativePose,
)
from recon.two_view.focal_lengths import solve_focals
from recon.two_view.relative_pose import verify_pair

WIDTH, HEIGHT, FOCAL = 640, 480, 550.0


def phone_photos(count: int, width: int = WIDTH, height: int = HEIGHT) -> list[Photo]:
    """Return photos of one camera, of which EXIF tells no focal length."""
    return [Photo(Path(f"{k}.jpg"), f"{k}.jpg", width, height, None, "phone") for k in range(count)]


def pinhole_cameras(cam_to_world: Array) -> Cameras:
    """Return the cameras (N, 4, 4) of a scene, all placed and without distortion."""
    count = len(cam_to_world)
    none = np.zeros(count)
    return Cameras(
        cam_to_world,
        np.ones(count, bool),
        np.full(count, FOCAL),
        np.tile([WIDTH / 2, HEIGHT / 2], (count, 1)),
        np.tile([float(WIDTH), HEIGHT], (count, 1)),
        np.ones(count),
        none,
        none,
        np.zeros(count, bool),
    )


@dataclass(frozen=True)
class Scene:
    """Cameras on an arc looking at points; ``xy[c]`` (P, 2) with NaN where a point is not seen."""

    cam_to_world: Array
    points: Array
    xy: Array


def arc_scene(
    cameras: int = 12,
    points: int = 400,
    *,
    noise_px: float = 0.0,
    span_deg: float = 100.0,
    visible: float = 0.8,
    seed: int = 0,
    k1: float = 0.0,
    extent: float = 1.0,
) -> Scene:
    rng = np.random.default_rng(seed)
    cloud = rng.uniform(-extent, extent, (points, 3))
    angles = np.radians(np.linspace(-span_deg / 2, span_deg / 2, cameras))
    eyes = np.stack([4 * np.sin(angles), rng.uniform(-0.5, 0.5, cameras), -4 * np.cos(angles)], 1)
    poses = np.stack([look_at(eye, rng.uniform(-0.2, 0.2, 3)) for eye in eyes])
    K = pinhole(FOCAL, WIDTH, HEIGHT)
    xy = np.stack(
        [project(transform_points(invert_rigid(pose), cloud), K, Lens.radial(k1)) for pose in poses]
    )
    xy += rng.normal(0, noise_px, xy.shape) if noise_px else 0.0
    inside = (xy >= 0).all(axis=2) & (xy[..., 0] < WIDTH) & (xy[..., 1] < HEIGHT)
    inside &= rng.random(inside.shape) < visible
    return Scene(poses, cloud, np.where(inside[..., None], xy, np.nan))


def random_rotation(rng: np.random.Generator) -> Array:
    q = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    return q * np.sign(np.linalg.det(q))


def turn(rotation_deg: float, rng: np.random.Generator) -> Array:
    from pointmap.camera import rotation_exp

    axis = rng.normal(size=3)
    return rotation_exp((axis / np.linalg.norm(axis) * np.radians(rotation_deg))[None])[0]


def true_edge(scene: Scene, i: int, j: int) -> Array:
    """Return cam2_to_cam1 (4, 4) of photos i (1) and j (2) with unit translation."""
    relative = invert_rigid(scene.cam_to_world[i]) @ scene.cam_to_world[j]
    relative[:3, 3] /= np.linalg.norm(relative[:3, 3])
    return relative


def all_matches(xy: Array) -> list[PairMatches]:
    """Return the exact matches of every pair of photos that see points at ``xy`` (N, P, 2) pixels,
    NaN where a point is not seen.
    """
    found = []
    for i, j in combinations(range(len(xy)), 2):
        seen = np.flatnonzero(np.isfinite(xy[[i, j]]).all(axis=(0, 2)))
        found.append(PairMatches(i, j, xy[i][seen], xy[j][seen], seen, seen, 0.5))
    return found


def evidence_of(
    photos: Sequence[Photo], matches: Sequence[PairMatches], focals: Focals | None = None
) -> PairEvidence:
    """Return what the program makes of matches: focal lengths (unless given) and verified pairs."""
    focals = focals or solve_focals(photos, matches)
    found = [verify_pair(photos, pair, None, focals.focals_px) for pair in matches]
    return PairEvidence(list(matches), [edge for edge in found if edge is not None], focals, [], [])


def scene_edges(
    scene: Scene,
    *,
    wrong: float = 0.0,
    rotation_noise_deg: float = 0.0,
    neighbours: int | None = None,
    seed: int = 0,
) -> tuple[list[PairEdge], list[bool]]:
    """Return edges of all pairs (or near ones) and which are right.

    A fraction ``wrong`` has a random pose and matches.
    """
    rng = np.random.default_rng(seed)
    count = len(scene.cam_to_world)
    pairs = [(i, j) for i, j in combinations(range(count), 2) if j - i <= (neighbours or count)]
    bad = set(rng.permutation(len(pairs))[: round(wrong * len(pairs))].tolist())
    edges = []
    for e, (i, j) in enumerate(pairs):
        seen = np.flatnonzero(np.isfinite(scene.xy[[i, j]]).all(axis=(0, 2)))
        relative, index_j = true_edge(scene, i, j), seen
        if e in bad:
            direction = rng.normal(size=3)
            relative = rigid(random_rotation(rng), direction / np.linalg.norm(direction))
            index_j = rng.permutation(seen)
        elif rotation_noise_deg:
            relative[:3, :3] = relative[:3, :3] @ turn(rotation_noise_deg, rng)
        matches = PairMatches(i, j, scene.xy[i][seen], scene.xy[j][index_j], seen, index_j, 0.7)
        inliers = np.ones(len(seen), bool)
        edges.append(PairEdge(matches, RelativePose(relative, "essential", inliers, 0.9)))
    return edges, [e not in bad for e in range(len(pairs))]


def pose_errors_deg(found: Alignment, truth: Array) -> tuple[Array, Array]:
    """Errors of all pairs' rotations and translation directions, 180 with a photo not placed."""
    rotations, directions = [], []
    for i in range(len(truth)):
        for j in range(i):
            a, b = found.cam_to_world[i], found.cam_to_world[j]
            if a is None or b is None:
                rotations.append(180.0)
                directions.append(180.0)
                continue
            mine, true = invert_rigid(a) @ b, invert_rigid(truth[i]) @ truth[j]
            rotations.append(float(rotation_angle_deg(mine[:3, :3].T @ true[:3, :3])))
            u, v = mine[:3, 3], true[:3, 3]
            directions.append(np.degrees(np.arctan2(np.linalg.norm(np.cross(u, v)), u @ v)))
    return np.array(rotations), np.array(directions)


def evidence(
    photos: Sequence[Photo],
    edges: Sequence[PairEdge],
    focals_px: ArrayLike,
    *,
    priors: Sequence[PhotoPrior] = (),
    sketches: Sequence[PairSketch] = (),
    focal_log_sigma: ArrayLike = 0.3,
    focal_groups: ArrayLike | None = None,
) -> PairEvidence:
    """What align takes: by default photos of one camera key share a focal length known roughly."""
    count = len(photos)
    names = [photo.camera_key for photo in photos]
    groups = np.unique(names, return_inverse=True)[1] if focal_groups is None else focal_groups
    focals = Focals(
        np.broadcast_to(np.asarray(focals_px, np.float64), (count,)),
        np.broadcast_to(np.asarray(focal_log_sigma, np.float64), (count,)),
        ("default",) * count,
        np.asarray(groups, np.int64),
    )
    return PairEvidence([], list(edges), focals, list(sketches), list(priors))
