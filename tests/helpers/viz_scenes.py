"""A scene dense enough to look at, and what a picture of it shows."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from scene_factory import WALL_Z, colours_at, make_scene

from recon.reconstruction import Reconstruction
from recon.scene import PointCloud
from viz.drawing.render import BACKGROUND


def dense_scene(photo_folder: Path) -> Reconstruction:
    return dataclasses.replace(make_scene(photo_folder), cloud=wall_and_ball())


def wall_and_ball() -> PointCloud:
    """The factory's scene as a dense cloud: the ball of radius 1 before a piece of the wall."""
    rng = np.random.default_rng(0)
    ball = rng.normal(size=(8000, 3))
    ball /= np.linalg.norm(ball, axis=1, keepdims=True)
    wall = np.column_stack([rng.uniform(-3, 3, (8000, 2)), np.full(8000, WALL_Z)])
    points = np.concatenate([ball, wall])
    normals = np.concatenate([ball, np.tile([0.0, 0.0, -1.0], (8000, 1))])
    return PointCloud(
        points.astype(np.float32),
        colours_at(points),
        normals.astype(np.float32),
        # The left half is unsure.
        np.where(points[:, 0] < 0, 0.2, 0.9).astype(np.float32),
    )


def ink(picture: np.ndarray) -> np.ndarray:
    """Which pixels (h, w) are drawn on."""
    return np.abs(picture.astype(int) - BACKGROUND).max(axis=-1) > 12
