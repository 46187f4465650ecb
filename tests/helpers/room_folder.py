"""The room of :mod:`synthetic` as a saved scene: photos in a folder, true cameras and depth."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from synthetic import Shot, save_photos, shoot

from recon.reconstruction import Reconstruction
from recon.scene import Camera, LoadedMaps, Mesh, PointCloud, Tracks, View

# Small, as features and their matches are what such tests take their time for.
WIDTH, HEIGHT, WAVELENGTH = 240, 180, 0.16


def room_shots(count: int = 6) -> list[Shot]:
    return shoot(count, width=WIDTH, height=HEIGHT, span_deg=40, wavelength=WAVELENGTH)


def true_scene(
    shots: Sequence[Shot],
    photos: Path,
    *,
    unplaced: Collection[int] = (),
    tracks: Tracks | None = None,
    units: str = "scene",
) -> Reconstruction:
    """Write the shots as 0.png, 1.png, ... to ``photos``, and return their scene, depth sure."""
    views = []
    for k, (shot, path) in enumerate(zip(shots, save_photos(shots, photos), strict=True)):
        height, width = shot.depth.shape
        pose = None if k in unplaced else shot.cam_to_world
        camera = Camera(shot.intrinsics, width, height, pose, shot.lens)
        maps = LoadedMaps(shot.pixels, shot.depth, np.full_like(shot.depth, 0.9))
        reason = "its matches contradict the scene" if pose is None else None
        views.append(View(path.name, path, camera, maps, reason))
    return Reconstruction(
        tuple(views), tracks or Tracks.empty(), PointCloud.empty(), Mesh.empty(), units=units
    )
