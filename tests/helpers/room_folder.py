"""The room of :mod:`synthetic` as a saved scene: photos in a folder, true cameras and depth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from scene_factory import empty_cloud, empty_mesh
from synthetic import Shot, shoot

from recon.reconstruction import Reconstruction
from recon.scene import Camera, LoadedMaps, Tracks, View

WIDTH, HEIGHT = 400, 300


def room_shots(count: int = 6) -> list[Shot]:
    return shoot(count, width=WIDTH, height=HEIGHT, span_deg=40, wavelength=0.12)


def save_photo(shot: Shot, path: Path, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(shot.pixels).save(path, quality=95, **options)  # type: ignore[arg-type]
    return path


def true_scene(
    shots: Sequence[Shot], photos: Path, *, tracks: Tracks | None = None, units: str = "scene"
) -> Reconstruction:
    """Write the shots as 0.png, 1.png, ... to ``photos``, and return their scene; depth, known to
    be right, is half the photo's size.
    """
    views = []
    for k, shot in enumerate(shots):
        height, width = shot.depth.shape
        maps = LoadedMaps(
            shot.pixels[::2, ::2], shot.depth[::2, ::2], 0 * shot.depth[::2, ::2] + 0.9
        )
        path = save_photo(shot, photos / f"{k}.png")
        camera = Camera(shot.intrinsics, width, height, shot.cam_to_world, shot.k1)
        views.append(View(path.name, path, camera, maps))
    return Reconstruction(
        tuple(views), tracks or Tracks.empty(), empty_cloud(), empty_mesh(), units=units
    )
