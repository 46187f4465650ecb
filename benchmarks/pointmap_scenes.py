"""Synthetic photos of a room with exact truth, and what a good network would say of their pairs.

A box with five balls in it; cameras on an arc around its middle, looking at it. Every prediction
has errors of its own: smooth depth distortion, noise along the ray, wild pixels, a focal length
slightly off and, for the second photo, a pose slightly off. The sizes are those of the stored
parity scene. Predictions are made one at a time, so that any number takes no memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import (
    Array,
    invert_rigid,
    pinhole,
    pixel_centres,
    pixel_rays,
    rigid,
    rotation_exp,
    transform_points,
)
from pointmap.images import Photo
from pointmap.inference import PairPrediction

Pair = tuple[int, int]

HALF_BOX = np.array([4.2, 1.8, 4.2])
BALLS = np.array(
    [
        [-0.9, 1.1, 0.2, 0.7],
        [0.8, 1.3, 0.6, 0.5],
        [0.1, 0.2, -0.5, 0.4],
        [0.3, -0.9, 0.8, 0.5],
        [-0.6, -0.4, 1.2, 0.4],
    ]
)
"""Centres and radii; y points down."""
RADIUS = 3.2


@dataclass(frozen=True)
class Errors:
    """Sizes of a prediction's errors: shares of depth, of the focal length, of the baseline; of the
    pixels for ``outliers``. The second photo's ``distortion`` is twice as large.
    """

    distortion: float = 0.01
    noise: float = 0.005
    outliers: float = 0.05
    stretch: float = 0.01
    turn_deg: float = 0.5
    baseline: float = 0.01
    log_scale: float = 0.1


EXACT = Errors(*(0.0,) * 7)


@dataclass(frozen=True)
class RoomScene:
    """``cam_to_world`` (N, 4, 4), the ``intrinsics`` (3, 3) of all and ``depth`` (N, h, w)."""

    cam_to_world: Array
    intrinsics: Array
    depth: NDArray[np.float32]

    @property
    def photos(self) -> list[Photo]:
        """Photos that exist on paper only, all of one camera."""
        height, width = self.depth.shape[1:]
        names = [f"{k:03d}.jpg" for k in range(len(self.depth))]
        return [Photo(Path(name), name, width, height, None, "room") for name in names]


def make_room(count: int, width: int, height: int, *, span_deg: float = 80.0) -> RoomScene:
    """Return ``count`` photos from an arc of ``span_deg`` degrees, 360 for a closed circle."""
    rng = np.random.default_rng([count, width])
    steps = np.linspace(-0.5, 0.5, count, endpoint=span_deg < 360) if count > 1 else np.zeros(1)
    angles = np.radians(span_deg * steps) + rng.normal(0, 0.02, count)
    radius = RADIUS + rng.normal(0, 0.15, count)
    heights = rng.normal(0, 0.4, count).clip(-1, 1)
    eyes = np.stack([radius * np.sin(angles), heights, -radius * np.cos(angles)], axis=1)
    targets = rng.normal(0, 0.2, (count, 3))
    poses = np.stack([_looking(eye, target) for eye, target in zip(eyes, targets, strict=True)])
    K = pinhole(0.6 * float(np.hypot(width, height)), width, height)
    depth = np.stack([cast_depth(pose, K, width, height) for pose in poses])
    return RoomScene(poses, K, depth)


def complete_pairs(count: int) -> list[Pair]:
    """Return all pairs of different photos in both orders, (i, j) before (j, i)."""
    return [p for j in range(count) for i in range(j) for p in ((i, j), (j, i))]


def ring_pairs(count: int, neighbours: int) -> list[Pair]:
    """Return each photo with its ``neighbours`` nearest on a closed circle, in both orders."""
    reach = range(1, neighbours // 2 + 1)
    pairs = [(k, (k + step) % count) for k in range(count) for step in reach]
    return [p for i, j in pairs for p in ((min(i, j), max(i, j)), (max(i, j), min(i, j)))]


def predictions(
    scene: RoomScene,
    pairs: Sequence[Pair],
    errors: Errors | None = None,
    *,
    wrong: dict[Pair, Array] | None = None,
    seed: int = 0,
) -> Iterator[PairPrediction]:
    """Yield what a network would say of ``pairs``.

    ``wrong``: cam2_to_cam1 (4, 4) that it believes in place of the true one.
    """
    errors, wrong = errors or Errors(), wrong or {}
    for i, j in pairs:
        rng = np.random.default_rng([seed, i, j])
        relative = wrong.get((i, j))
        if relative is None:
            relative = invert_rigid(scene.cam_to_world[i]) @ scene.cam_to_world[j]
        yield _predict(scene, i, j, relative, errors, rng)


def random_pose(rng: np.random.Generator, baseline: float = 1.0) -> Array:
    """Return a pose of uniformly random rotation, ``baseline`` away."""
    q = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    direction = rng.normal(size=3)
    return rigid(q * np.sign(np.linalg.det(q)), baseline * direction / np.linalg.norm(direction))


def _predict(
    scene: RoomScene, i: int, j: int, relative: Array, errors: Errors, rng: np.random.Generator
) -> PairPrediction:
    baseline = float(np.linalg.norm(relative[:3, 3]))
    turn = rotation_exp(np.radians(errors.turn_deg) * rng.normal(size=3))
    shift = errors.baseline * baseline * rng.normal(size=3)
    relative = rigid(relative[:3, :3] @ turn, relative[:3, 3] + shift)
    own, wild_i = _erroneous(scene, i, errors.distortion, errors, rng)
    other, wild_j = _erroneous(scene, j, 2 * errors.distortion, errors, rng)
    other = transform_points(relative, other)
    norms = np.linalg.norm(own, axis=-1).mean() + np.linalg.norm(other, axis=-1).mean()
    scale = 2 / norms * np.exp(errors.log_scale * rng.normal())
    stretch = scale * np.array([1, 1, 0]) * np.exp(errors.stretch * rng.normal())
    stretch[2] = scale
    reach = baseline / RADIUS
    return PairPrediction(
        i,
        j,
        (own * stretch).astype(np.float32),
        _confidence(wild_i, 0.0, rng),
        (other * stretch).astype(np.float32),
        _confidence(wild_j, 0.5 * reach, rng),
    )


def _erroneous(
    scene: RoomScene, k: int, distortion: float, errors: Errors, rng: np.random.Generator
) -> tuple[Array, NDArray[np.bool_]]:
    """Return photo k's points (h, w, 3) in its own frame with errors, and which are wild."""
    height, width = scene.depth.shape[1:]
    pixels = pixel_centres(width, height)
    log_error = distortion * _smooth(pixels / [width, height], rng)
    log_error = log_error + errors.noise * rng.normal(size=(height, width))
    wild = rng.random((height, width)) < errors.outliers
    factor = np.exp(log_error) * np.where(wild, rng.uniform(0.5, 1.8, (height, width)), 1.0)
    return pixel_rays(pixels, scene.intrinsics) * (scene.depth[k] * factor)[..., None], wild


def _smooth(where: Array, rng: np.random.Generator) -> Array:
    """Return a smooth field of about unit size: two waves of at most one period over the photo."""
    waves = rng.uniform(-2 * np.pi, 2 * np.pi, (2, 2)), rng.uniform(0, 2 * np.pi, 2)
    return np.asarray(np.sin(where @ waves[0] + waves[1]).sum(axis=-1))


def _confidence(
    wild: NDArray[np.bool_], lower: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return confidences around 5, ``lower`` in their logarithm; low for most ``wild`` pixels."""
    logit = np.log(4.5) - lower + 0.25 * rng.normal(size=wild.shape)
    noticed = wild & (rng.random(wild.shape) < 0.8)
    confidence = 1 + np.exp(np.where(noticed, logit - 2, logit))
    return (np.round(16 * confidence) / 16).astype(np.float32)


def _looking(eye: Array, target: Array) -> Array:
    forward = (target - eye) / np.linalg.norm(target - eye)
    right = np.cross([0.0, 1.0, 0.0], forward)
    right /= np.linalg.norm(right)
    return rigid(np.stack([right, np.cross(forward, right), forward], axis=1), eye)


def cast_depth(cam_to_world: Array, K: Array, width: int, height: int) -> NDArray[np.float32]:
    """Return the z depth (h, w) of the nearest wall or ball along each pixel's ray."""
    rays = pixel_rays(pixel_centres(width, height), K) @ cam_to_world[:3, :3].T
    eye = cam_to_world[:3, 3]
    with np.errstate(divide="ignore"):
        walls = (np.sign(rays) * HALF_BOX - eye) / rays
    depth = walls.min(axis=-1)
    for x, y, z, radius in BALLS:
        offset = eye - [x, y, z]
        a, b = (rays**2).sum(-1), rays @ offset
        root = b**2 - a * (offset @ offset - radius**2)
        hit = (-b - np.sqrt(np.maximum(root, 0))) / a
        depth = np.where((root > 0) & (hit > 0), np.minimum(depth, hit), depth)
    return depth.astype(np.float32)
