"""Synthetic matches and pointmap predictions of known cameras, for tests of two-view geometry."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from synthetic import Shot

from pointmap.camera import (
    Array,
    invert_rigid,
    project,
    rigid,
    transform_points,
    unproject,
)
from pointmap.images import Photo
from pointmap.inference import PairPrediction
from recon.stage_results import PairMatches


def photo(
    width: int = 640, height: int = 480, *, key: str = "camera", exif: float | None = None
) -> Photo:
    """Return a photo that exists on paper only."""
    return Photo(Path("none.jpg"), "none.jpg", width, height, exif, key)


def rotation(degrees: Sequence[float]) -> Array:
    """Return the rotation by a vector in degrees."""
    import cv2

    return np.asarray(cv2.Rodrigues(np.radians(np.asarray(degrees, np.float64)))[0])


def make_matches(
    points: Array,
    cam_to_world_i: Array,
    cam_to_world_j: Array,
    K_i: Array,
    K_j: Array,
    *,
    noise_px: float = 0.3,
    outliers: float = 0.0,
    i: int = 0,
    j: int = 1,
    seed: int = 0,
) -> PairMatches:
    """Return matches of world points seen by both photos, the last ``outliers`` part wrong."""
    rng = np.random.default_rng(seed)
    xy_i = project(transform_points(invert_rigid(cam_to_world_i), points), K_i)
    xy_j = project(transform_points(invert_rigid(cam_to_world_j), points), K_j)
    seen = np.ones(len(points), bool)
    for xy, K in ((xy_i, K_i), (xy_j, K_j)):
        seen &= np.isfinite(xy).all(1) & (xy > 0).all(1) & (xy < 2 * K[:2, 2]).all(1)
    xy_i, xy_j = xy_i[seen], xy_j[seen]
    xy_i = xy_i + rng.normal(0, noise_px, xy_i.shape)
    xy_j = xy_j + rng.normal(0, noise_px, xy_j.shape)
    wrong = round(outliers * len(xy_j))
    if wrong:
        xy_j[-wrong:] = rng.uniform([0, 0], 2 * K_j[:2, 2], (wrong, 2))
    index = np.arange(len(xy_i))
    return PairMatches(i, j, xy_i, xy_j, index, index, 0.5)


def cloud(count: int = 600, *, depth: float = 2.0, seed: int = 0) -> Array:
    """Return world points (count, 3) in a box around the origin, ``depth`` deep along z."""
    rng = np.random.default_rng(seed)
    return rng.uniform([-2, -1.5, -depth / 2], [2, 1.5, depth / 2], (count, 3))


def camera_at(position: Sequence[float], turn_deg: Sequence[float] = (0, 0, 0)) -> Array:
    """Return cam_to_world of a camera that looks along z, then turned."""
    return rigid(rotation(turn_deg), np.asarray(position, np.float64))


def predict(
    shots: Sequence[Shot],
    i: int,
    j: int,
    *,
    noise: float = 0.0,
    scale: float = 1.0,
    confidence: float = 10.0,
    seed: int = 0,
) -> PairPrediction:
    """Return what a network with relative depth errors of ``noise`` would say of two shots."""
    rng = np.random.default_rng([seed, i, j])
    own, other = (
        unproject(shots[k].depth, shots[k].intrinsics)
        * np.exp(noise * rng.normal(size=shots[k].depth.shape))[..., None]
        for k in (i, j)
    )
    j_to_i = invert_rigid(shots[i].cam_to_world) @ shots[j].cam_to_world
    other = transform_points(j_to_i, other)
    return PairPrediction(
        i,
        j,
        (scale * own).astype(np.float32),
        np.full(own.shape[:2], confidence, np.float32),
        (scale * other).astype(np.float32),
        np.full(other.shape[:2], confidence, np.float32),
    )
