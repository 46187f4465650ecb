"""A photo that was mirrored is told by its matches, and has none of them."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from pointmap.camera import Array
from pointmap.images import load_photo, open_photos
from recon.inputs import read_inputs
from recon.options import Options
from recon.prediction.view_graph import ViewGraphOptions
from recon.stage_results import PhotoFeatures
from recon.two_view.features import extract_features, match_features
from recon.two_view.find_features import find_features
from recon.two_view.match_photos import match_photos
from recon.two_view.mirrored_photos import mirrored_photos, tell_mirrored_group, without_mirrored

HEIGHT, WIDTH = 200, 260


def wall(seed: int) -> Array:
    """Return a wall's picture (h, w), of which photos show a part."""
    grey = gaussian_filter(np.random.default_rng(seed).normal(size=(HEIGHT, 2 * WIDTH)), 1.5)
    return np.asarray(128 + 45 * grey / grey.std())


def write(folder: Path, count: int, *mirrored: int | None, other: int | None = None) -> list[Path]:
    """Write what ``count`` cameras show that move along a wall; one before ``other`` another."""
    paths = []
    for k in range(count):
        picture = wall(int(k == other))[:, 20 * k : 20 * k + WIDTH]
        pixels = picture[:, ::-1] if k in mirrored else picture
        paths.append(folder / f"{k}.png")
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).convert("RGB").save(paths[-1])
    return paths


def features(paths: list[Path]) -> list[PhotoFeatures]:
    return [extract_features(load_photo(photo, long_side=WIDTH)) for photo in open_photos(paths)[0]]


@pytest.mark.parametrize(
    ("mirrored", "other", "found"), [(2, None, [2]), (None, None, []), (None, 2, [])]
)
def test_the_mirrored_one_is_found_and_no_other(
    tmp_path: Path, mirrored: int | None, other: int | None, found: list[int]
) -> None:
    of = features(write(tmp_path, 6, mirrored, other=other))
    matches = [match_features(of[i], of[j], i, j) for i, j in combinations(range(6), 2)]
    assert mirrored_photos(of, matches).tolist() == found


def test_a_symmetrical_wall_that_stands_still_is_no_mirrored_photo(tmp_path: Path) -> None:
    """Its matches were dropped; mirrored, its features match all the same."""
    half = wall(0)[:, : WIDTH // 2]
    picture = np.concatenate([half, half[:, ::-1]], axis=1).clip(0, 255).astype(np.uint8)
    paths = [tmp_path / f"{k}.png" for k in range(4)]
    for path in paths:
        Image.fromarray(picture).convert("RGB").save(path)
    of = features(paths)
    matches = []
    for i, j in combinations(range(4), 2):
        every = match_features(of[i], of[j], i, j)
        matches.append(every.select(np.arange(len(every)) < (20 if i == 0 else 80)))
    assert mirrored_photos(of, matches).tolist() == []


def test_it_is_left_out_by_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, 6, 3)
    inputs = read_inputs([tmp_path], Options(device="cpu"))
    of = find_features(inputs)
    matches = match_photos(inputs, of, ViewGraphOptions())
    left, features_left, matches_left = without_mirrored(inputs, of, matches)
    assert "3.png is mirrored" in caplog.text
    assert [photo.name for photo in left.photos] == [f"{k}.png" for k in (0, 1, 2, 4, 5)]
    assert len(features_left) == 5
    assert [(m.i, m.j) for m in matches_left] == list(combinations(range(5), 2))
    assert all(len(m) for m in matches_left)


@pytest.mark.parametrize(("mirrored", "told"), [((0, 2, 4), True), ((), False)])
def test_a_group_that_is_mirrored_is_told(
    mirrored: tuple[int, ...], told: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, 6, *mirrored)
    inputs = read_inputs([tmp_path], Options(device="cpu"))
    tell_mirrored_group(inputs, find_features(inputs), [0, 2, 4], [1, 3, 5])
    said = "3 photos, 0.png among them, match the scene when they are mirrored"
    assert [text.startswith(said) for text in caplog.messages] == [True] * told
