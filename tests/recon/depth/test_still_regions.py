"""What stands still while a turntable moves has no depth; a room that is walked past has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from synthetic import ROOM, Shot, Sphere, shoot

from pointmap.camera import invert_rigid, pixel_rays, project, transform_points
from pointmap.lens import PINHOLE
from recon.depth.still_regions import without_still_regions
from recon.inputs import Inputs, read_inputs
from recon.options import Options
from recon.scene import Tracks
from recon.stage_results import Alignment

COUNT, WIDTH, HEIGHT = 6, 320, 240
BALLS = (Sphere((0.0, 0.0, 0.0), 0.9), Sphere((0.7, 0.5, -0.4), 0.5))


def alignment_of(shots: list[Shot]) -> Alignment:
    """Return the true cameras, and points that all of them have in their pictures."""
    row, column = np.nonzero(shots[0].depth)
    some = np.random.default_rng(0).permutation(len(row))[:300]
    xy = np.stack([column, row], axis=1)[some] + 0.5
    rays = pixel_rays(xy, shots[0].intrinsics, PINHOLE) * shots[0].depth[row, column][some, None]
    points = transform_points(shots[0].cam_to_world, rays)
    seen = [
        project(transform_points(invert_rigid(shot.cam_to_world), points), shot.intrinsics, PINHOLE)
        for shot in shots
    ]
    return Alignment(
        np.stack([shot.intrinsics for shot in shots]),
        (PINHOLE,) * COUNT,
        tuple(shot.cam_to_world for shot in shots),
        (None,) * COUNT,
        Tracks(
            points,
            np.zeros((300, 3), np.uint8),
            np.tile(np.arange(300), COUNT),
            np.repeat(np.arange(COUNT), 300),
            np.concatenate(seen),
        ),
        (),
        np.zeros(0, bool),
        np.zeros((0, 2), np.int64),
        np.ones(COUNT),
    )


def inputs_of(pictures: list[np.ndarray], folder: Path) -> Inputs:
    for k, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"{k}.png")
    return read_inputs([folder], Options(device="cpu"))


@pytest.mark.parametrize("plain", [False, True])
def test_a_wall_behind_a_turntable_counts_nowhere(tmp_path: Path, plain: bool) -> None:
    shots = shoot(COUNT, width=WIDTH, height=HEIGHT, span_deg=90, surfaces=BALLS, wavelength=0.2)
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 255, (HEIGHT // 4, WIDTH // 4, 3), np.uint8))
    wall = np.asarray(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))
    wall = np.full_like(wall, 250) if plain else wall
    pictures = [np.where((shot.depth > 0)[..., None], shot.pixels, wall) for shot in shots]
    inputs = inputs_of(pictures, tmp_path)
    moving = without_still_regions(inputs, inputs.frames(WIDTH), alignment_of(shots))
    for shot, photo in zip(shots, moving, strict=True):
        assert photo.usable is not None
        thing = shot.depth > 0
        assert photo.usable[thing].mean() > 0.9
        assert photo.usable[~thing].mean() < 0.15


def test_a_room_counts_everywhere(tmp_path: Path) -> None:
    shots = shoot(COUNT, width=WIDTH, height=HEIGHT, span_deg=40, surfaces=ROOM)
    inputs = inputs_of([shot.pixels for shot in shots], tmp_path)
    frames = inputs.frames(WIDTH)
    assert without_still_regions(inputs, frames, alignment_of(shots)) is frames


def test_a_ceiling_of_one_colour_counts(tmp_path: Path) -> None:
    shots = shoot(COUNT, width=WIDTH, height=HEIGHT, span_deg=40, surfaces=ROOM)
    pictures = [shot.pixels.copy() for shot in shots]
    for picture in pictures:
        picture[: HEIGHT // 3] = 200
    inputs = inputs_of(pictures, tmp_path)
    frames = inputs.frames(WIDTH)
    assert without_still_regions(inputs, frames, alignment_of(shots)) is frames
