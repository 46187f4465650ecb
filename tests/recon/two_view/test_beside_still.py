"""Where what stands still has taken nearly all key points, others are looked for beside it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter
from synthetic import Shot, Sphere, shoot

from recon.inputs import Inputs, read_inputs
from recon.options import Options
from recon.prediction.view_graph import ViewGraphOptions
from recon.two_view.beside_still import still_parts, without_margin
from recon.two_view.find_features import find_features
from recon.two_view.match_photos import match_photos

WIDTH, HEIGHT = 320, 240
OBJECT = (Sphere((0.0, 0.2, 0.0), 0.8), Sphere((0.5, 0.6, -0.4), 0.4))


@pytest.fixture(scope="module")
def shots() -> list[Shot]:
    return shoot(5, width=WIDTH, height=HEIGHT, span_deg=50, surfaces=OBJECT, wavelength=0.2)


def wall(seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(HEIGHT, WIDTH, 3))
    smooth = gaussian_filter(noise, (1.2, 1.2, 0))
    return (128 + 50 * smooth / smooth.std()).clip(0, 255).astype(np.uint8)


def written(folder: Path, pictures: list[np.ndarray]) -> Inputs:
    for k, pixels in enumerate(pictures):
        Image.fromarray(pixels).save(folder / f"{k}.png")
    return read_inputs([folder], Options(device="cpu"))


def test_the_thing_that_turns_gets_the_key_points(shots: list[Shot], tmp_path: Path) -> None:
    behind = wall(0)
    pictures = [np.where(shot.depth[..., None] > 0, shot.pixels, behind) for shot in shots]
    inputs = written(tmp_path, pictures)
    features = find_features(inputs, limit=2000)
    matches = match_photos(inputs, features, ViewGraphOptions())
    still = still_parts(inputs, features, matches)
    assert still is not None
    inputs = replace(inputs, still=tuple(still))
    for k, shot in enumerate(shots):
        usable = inputs.load(k, long_side=WIDTH).usable
        assert usable is not None
        there = shot.depth > 0
        assert (usable & ~there).sum() < 0.2 * (~there).sum()
        assert (usable & there).sum() > 0.7 * there.sum()
        tight = replace(inputs, still=without_margin(still)).load(k, long_side=WIDTH).usable
        assert tight is not None and (tight & there).sum() > 0.9 * there.sum()
    # Frames of it are others than those of the photos as they are.
    assert not set(inputs.photo_keys) & set(replace(inputs, still=None).photo_keys)
    found = find_features(inputs, limit=2000)
    again = match_photos(inputs, found, ViewGraphOptions(), again=True)
    assert sum(map(len, again)) > 1.5 * sum(map(len, matches))
    for k, shot in enumerate(shots):
        before, now = (
            (shot.depth[tuple(of[k].xy.astype(int).T[::-1])] > 0).mean() for of in (features, found)
        )
        assert now > max(0.5, 2 * before)
    part = inputs.of_photos([1, 3])
    assert part.still is not None and part.photo_keys == inputs.photo_keys[1:4:2]


def test_a_camera_that_moves_or_stands_before_everything_has_no_such_part(
    shots: list[Shot], tmp_path: Path
) -> None:
    rng = np.random.default_rng(1)
    moving = shoot(3, width=WIDTH, height=HEIGHT, span_deg=15)
    standing = [
        (wall(2) + rng.normal(0, 3, (HEIGHT, WIDTH, 3))).clip(0, 255).astype(np.uint8)
        for _ in range(3)
    ]
    for name, pictures in (("moving", [s.pixels for s in moving]), ("standing", standing)):
        (tmp_path / name).mkdir()
        inputs = written(tmp_path / name, pictures)
        features = find_features(inputs, limit=2000)
        matches = match_photos(inputs, features, ViewGraphOptions())
        assert still_parts(inputs, features, matches) is None


def test_somebody_who_passes_a_camera_that_stands_still_is_no_scene(tmp_path: Path) -> None:
    behind, figure = wall(3), wall(4)[:, :70]
    pictures = []
    for k in range(5):
        pixels = behind.copy()
        pixels[60:, 5 + 58 * k : 75 + 58 * k] = figure[60:]
        pictures.append(pixels)
    inputs = written(tmp_path, pictures)
    features = find_features(inputs)
    matches = match_photos(inputs, features, ViewGraphOptions())
    # What stands still is left out all the same.
    assert sum(map(len, matches)) < 0.5 * len(features[0].xy) * 10
    assert still_parts(inputs, features, matches) is None
