"""Bars of one colour around a picture, and what only looks like them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pointmap.images import load_photo, open_photos
from pointmap.plain_frames import inside_bars

HEIGHT, WIDTH = 120, 160


def _textured(height: int = HEIGHT, width: int = WIDTH) -> NDArray[np.uint8]:
    coarse = np.random.default_rng(0).integers(60, 256, (height // 8, width // 8, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def _inside(top: int, bottom: int, left: int, right: int) -> NDArray[np.bool_]:
    usable = np.zeros((HEIGHT, WIDTH), bool)
    usable[top : HEIGHT - bottom, left : WIDTH - right] = True
    return usable


def _in_bars(
    level: int, top: int, bottom: int, left: int, right: int
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    inside = _inside(top, bottom, left, right)
    picture = _textured(HEIGHT - top - bottom, WIDTH - left - right)
    pixels = np.full((HEIGHT, WIDTH, 3), level, np.uint8)
    pixels[inside] = picture.reshape(-1, 3)
    return pixels, inside


def _picture(pixels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return where a picture with bars around it is found to be."""
    found = inside_bars(pixels)
    assert found is not None
    top, bottom, left, right = found
    return _inside(top, HEIGHT - bottom, left, WIDTH - right)


@pytest.mark.parametrize(
    ("level", "bars"),
    [
        (0, (16, 16, 0, 0)),
        (0, (0, 0, 40, 40)),
        (128, (0, 0, 24, 48)),
        (255, (8, 32, 8, 8)),
    ],
)
@pytest.mark.parametrize("quality", [None, 85])
def test_bars_are_found_to_the_pixel_beside_their_edge(
    level: int, bars: tuple[int, int, int, int], quality: int | None, tmp_path: Path
) -> None:
    pixels, inside = _in_bars(level, *bars)
    if quality is not None:
        Image.fromarray(pixels).save(tmp_path / "a.jpg", quality=quality)
        pixels = np.asarray(Image.open(tmp_path / "a.jpg"))
    found = _picture(pixels)
    assert not (found & ~inside).any()
    # A rim of two pixels may go with them.
    rim = [side + 3 * (side > 0) for side in bars]
    assert found[_inside(*rim)].all()


def test_a_white_frame_beside_a_white_sky_is_found_all_around() -> None:
    pixels, inside = _in_bars(255, 8, 32, 8, 8)
    pixels[8:20, 20:140] = 255
    found = _picture(pixels)
    assert not (found & ~inside).any()
    assert found[11:85, 11:149].all()


def test_writing_in_a_frame_is_no_part_of_the_picture() -> None:
    pixels, inside = _in_bars(240, 8, 32, 8, 8)
    rng = np.random.default_rng(1)
    for row in (98, 106):
        pixels[row : row + 5, 40:120][rng.random((5, 80)) < 0.3] = 30
    found = _picture(pixels)
    assert not (found & ~inside).any()
    assert found[11:85, 11:149].all()


def test_a_whole_picture_and_one_of_one_colour_have_none() -> None:
    assert inside_bars(_textured()) is None
    assert inside_bars(np.zeros((HEIGHT, WIDTH, 3), np.uint8)) is None


@pytest.mark.parametrize("shape", ["disc", "leaning box", "carton"])
def test_an_object_on_white_is_in_no_bars(shape: str) -> None:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    if shape == "disc":
        inside = (x - 80) ** 2 + (y - 60) ** 2 < 45**2
    elif shape == "carton":
        # Seen along an edge: its sides are upright, its top and its foot lead away.
        inside = (np.abs(x - 70) < 30) & (np.abs(y - 60) < 45 - 0.4 * np.abs(x - 70))
    else:
        turned_x, turned_y = x - 80 + 0.12 * (y - 60), y - 60 - 0.12 * (x - 80)
        inside = (np.abs(turned_x) < 55) & (np.abs(turned_y) < 35)
    assert inside_bars(np.where(inside[..., None], _textured() // 2, 255).astype(np.uint8)) is None


def test_bars_of_a_picture_that_is_dark_at_its_other_ends_are_found() -> None:
    pixels, inside = _in_bars(0, 16, 16, 0, 0)
    pixels[16:104, :4] = pixels[16:104, -8:] = 0
    found = _picture(pixels)
    assert not (found & ~inside).any()
    assert found[19:101, 6:150].all()


def test_a_clear_sky_over_ground_is_no_bar() -> None:
    pixels = _textured().copy()
    pixels[:40] = 250
    assert inside_bars(pixels) is None
    # Nor is one with snow below that fades.
    pixels[80:] = 250
    fade = np.linspace(0, 1, 20)[:, None, None]
    pixels[60:80] = (1 - fade) * pixels[60:80] + fade * 250
    pixels[40:60] = (fade * pixels[40:60] + (1 - fade) * 250).astype(np.uint8)
    assert inside_bars(pixels) is None


def test_a_loaded_photo_has_no_bars(tmp_path: Path) -> None:
    pixels, inside = _in_bars(0, 0, 0, 40, 40)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    ((photo,), _) = open_photos([tmp_path / "a.png"])
    loaded = load_photo(photo, long_side=WIDTH)
    assert loaded.picture is not None and loaded.usable is not None
    assert not (loaded.usable & ~inside).any()
    # Nothing black is left whose edge could be a feature.
    assert loaded.pixels.min() > 30
    Image.fromarray(_textured()).save(tmp_path / "b.png")
    ((whole,), _) = open_photos([tmp_path / "b.png"])
    assert load_photo(whole, long_side=WIDTH).picture is None
