"""Copies that were cut out of other photos are left out; zooms, turns and equal views are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter
from synthetic import Shot, save_photo, shoot

from recon.inputs import read_inputs
from recon.options import Options
from recon.prediction.view_graph import ViewGraphOptions
from recon.two_view.cut_out_copies import without_cut_outs
from recon.two_view.find_features import find_features
from recon.two_view.match_photos import match_photos

WIDTH, HEIGHT = 400, 300


@pytest.fixture(scope="module")
def shots() -> list[Shot]:
    return shoot(3, width=WIDTH, height=HEIGHT, span_deg=15, wavelength=0.12)


def cut(pixels: np.ndarray, box: tuple[int, int, int, int], size: tuple[int, int]) -> Image.Image:
    return Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC, box=box)


def warmer(picture: Image.Image) -> Image.Image:
    """Return a picture as filters make it."""
    pixels = np.asarray(picture) * np.array([1.15, 1.0, 0.8]) + 6
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def left(folder: Path) -> list[str]:
    inputs = read_inputs([folder], Options(device="cpu"))
    features = find_features(inputs)
    matches = match_photos(inputs, features, ViewGraphOptions())
    inputs, features, matches = without_cut_outs(inputs, features, matches)
    assert len(features) == len(inputs.photos)
    assert all(pair.j < len(inputs.photos) for pair in matches)
    return [photo.name for photo in inputs.photos]


def write(folder: Path, shots: list[Shot]) -> None:
    for k, shot in enumerate(shots):
        save_photo(shot, folder / f"IMG_{k}.jpg", quality=93)


def test_edited_copies_are_left_out_by_name(
    shots: list[Shot], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, shots)
    # Enlarged to the original's size, as some editors do, and as small as it was cut.
    corner = cut(shots[0].pixels, (0, 0, 300, 225), (WIDTH, HEIGHT))
    warmer(corner).save(tmp_path / "IMG_E0.jpg", quality=90)
    straightened = Image.fromarray(shots[1].pixels).rotate(3, Image.Resampling.BICUBIC)
    straightened.crop((60, 20, 360, 245)).save(tmp_path / "IMG_1(1).jpg", quality=90)
    assert left(tmp_path) == ["IMG_0.jpg", "IMG_1.jpg", "IMG_2.jpg"]
    assert caplog.messages == [
        "2 photos are left out, as cut out of others: IMG_1(1).jpg of IMG_1.jpg, IMG_E0.jpg of "
        "IMG_0.jpg"
    ]


def test_zooms_and_other_edits_of_the_whole_picture_stay(
    shots: list[Shot], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, shots)
    cut(shots[0].pixels, (40, 30, 360, 270), (WIDTH, HEIGHT)).save(tmp_path / "zoom.jpg")
    warmer(Image.fromarray(shots[1].pixels)).save(tmp_path / "filter.jpg", quality=90)
    Image.fromarray(np.rot90(shots[2].pixels)).save(tmp_path / "turned.jpg", quality=93)
    assert len(left(tmp_path)) == 6
    assert not caplog.messages


def test_a_zoom_beside_the_middle_stays(
    shots: list[Shot], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It shows what is finer than the other's pixels, and has noise of its own."""
    (large,) = shoot(1, width=2 * WIDTH, height=2 * HEIGHT, wavelength=0.06)
    wide = Image.fromarray(large.pixels).resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
    wide.save(tmp_path / "wide.jpg", quality=93)
    noise = np.random.default_rng(0).normal(0, 2, (HEIGHT, WIDTH, 3))
    tele = large.pixels[60 : 60 + HEIGHT, 80 : 80 + WIDTH] + noise
    Image.fromarray(tele.clip(0, 255).astype(np.uint8)).save(tmp_path / "tele.jpg", quality=93)
    assert len(left(tmp_path)) == 2
    assert not caplog.messages


def test_a_flat_ground_from_above_is_not_cut_out_of_itself(tmp_path: Path) -> None:
    """Photos of a drone that only flies along are as alike as copies, but none lies in another."""
    noise = np.random.default_rng(0).normal(size=(HEIGHT + 80, WIDTH + 120))
    ground = gaussian_filter(noise, 1.5)
    ground = (128 + 45 * ground / ground.std()).clip(0, 255).astype(np.uint8)
    for k in range(3):
        part = ground[40 * k : 40 * k + HEIGHT, 60 * k : 60 * k + WIDTH]
        Image.fromarray(part).convert("RGB").save(tmp_path / f"{k}.jpg", quality=93)
    assert len(left(tmp_path)) == 3
