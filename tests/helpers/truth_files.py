"""Folders with true or found cameras and depth, small and known."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation
from synthetic import Shot, save_photos

from pointmap.camera import pinhole, rigid


def some_cameras(count: int, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    rotations = Rotation.random(count, rng).as_matrix()
    return [rigid(R, c) for R, c in zip(rotations, rng.normal(size=(count, 3)), strict=True)]


def write_scene(folder: Path, *, found: Sequence[np.ndarray | None], focal: float) -> None:
    """Write a scene of 3 photos, 80x60, at a quarter of the size for depth (all 2.0)."""
    (folder / "depth").mkdir(parents=True)
    images = {}
    for n, pose in enumerate(found):
        images[f"{n}.jpg"] = {
            "K": pinhole(focal, 80, 60).tolist(),
            "cam_to_world": None if pose is None else pose.tolist(),
            "width": 80,
            "height": 60,
            "registered": pose is not None,
            "reason": None if pose is not None else "no overlap",
            "depth": f"depth/{n}.npz",
        }
        np.savez(
            folder / f"depth/{n}.npz",
            depth=np.full((15, 20), 2.0, np.float32),
            confidence=np.ones((15, 20), np.float32),
            K=pinhole(focal / 4, 20, 15),
            image=np.zeros((15, 20, 3), np.uint8),
        )
    data = {"units": "scene", "pixel_centre": 0.5, "images": images}
    (folder / "cameras.json").write_text(json.dumps(data))


def write_truth(folder: Path, cameras: list[np.ndarray]) -> Path:
    """Write the truth of 4 photos at twice the size (the file's K has integer centres)."""
    (folder / "depth").mkdir(parents=True)
    intrinsics = [[200, 0, 79.5], [0, 200, 59.5], [0, 0, 1]]
    images = {
        f"{n}.jpg": {
            "K": intrinsics,
            "cam_to_world": np.eye(4).tolist(),
            "width": 160,
            "height": 120,
        }
        | {"cam_to_world_sfm": pose.tolist()}
        for n, pose in enumerate(cameras)
    }
    depth = np.full((120, 160), 1000, np.uint16)
    depth[:, :40], depth[:, 40:60] = 0, 1250
    Image.fromarray(depth).save(folder / "depth" / "0.png")
    np.savez(folder / "depth" / "2.npz", depth=np.ones((60, 80), np.float32))
    (folder / "cameras.json").write_text(json.dumps({"images": images}))
    return folder / "cameras.json"


def write_posed_photos(folder: Path, shots: list[Shot]) -> None:
    save_photos(shots, folder / "images")
    (folder / "depth").mkdir()
    images = {}
    for k, shot in enumerate(shots):
        millimetres = np.round(shot.depth * 1000).astype(np.uint16)
        Image.fromarray(millimetres).save(folder / f"depth/{k}.png")
        images[f"{k}.png"] = {
            "K": shot.intrinsics.tolist(),
            "cam_to_world": shot.cam_to_world.tolist(),
            "width": shot.depth.shape[1],
            "height": shot.depth.shape[0],
        }
    (folder / "cameras.json").write_text(json.dumps({"pixel_centre": 0.5, "images": images}))
