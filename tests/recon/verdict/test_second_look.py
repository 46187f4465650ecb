"""What stereo has to say of cameras that few photos' matches fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pointmap.images import Photo, ResizedPhoto
from recon.scene import PhotoVerdict, Verdict
from recon.stage_results import DenseDepths, DepthMap
from recon.verdict.second_look import judge_again

HEIGHT, WIDTH = 30, 40


def _dense(count: int, confirmed: float, textured: float = 1.0) -> DenseDepths:
    """Return depth of photos with texture in a part of the rows, confirmed in a share of these."""
    rng = np.random.default_rng(0)
    photo = Photo(Path("a.jpg"), "a.jpg", WIDTH, HEIGHT, None, "phone")
    pixels = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
    rows = int(textured * HEIGHT)
    pixels[:rows] = 255 * rng.integers(0, 2, (rows, WIDTH, 1))
    confidence = np.full((HEIGHT, WIDTH), 0.2, np.float32)
    confidence[:rows, : int(confirmed * WIDTH)] = 0.9
    depth = DepthMap(np.ones((HEIGHT, WIDTH), np.float32), confidence)
    return DenseDepths([ResizedPhoto(photo, pixels)] * count, [], [depth] * count)


def _sound(count: int) -> Verdict:
    photos = tuple(PhotoVerdict(f"{k}.jpg", "sound", 0.3, 0.5) for k in range(count))
    return Verdict("sound", "all fits", 0.1, 0.3, 0.5, photos)


@pytest.mark.parametrize("count", [2, 3])
def test_few_photos_whose_pixels_disagree_are_doubtful(count: int) -> None:
    sound = _sound(count)
    verdict = judge_again(sound, _dense(count, 0.05))
    assert verdict is not None and verdict.word == "doubtful"
    assert "5% of their depth" in verdict.reason
    assert {photo.word for photo in verdict.photos if photo} == {"doubtful"}
    assert judge_again(sound, _dense(count, 0.5)) == sound


def test_plain_walls_count_neither_for_nor_against() -> None:
    """Depth of a fifth of the picture is confirmed, all that has texture; then nothing has."""
    sound = _sound(2)
    assert judge_again(sound, _dense(2, 0.9, textured=0.2)) == sound
    assert judge_again(sound, _dense(2, 0.0, textured=0.0)) == sound


def test_only_sound_cameras_of_few_photos_that_moved_are_looked_at_again() -> None:
    apart = _dense(6, 0.0)
    assert judge_again(None, apart) is None
    assert judge_again(_sound(6), apart) == _sound(6)
    one_place = replace(_sound(2), rotation_error_deg=None, direction_error_deg=None)
    assert judge_again(one_place, apart) == one_place
    wrong = replace(_sound(2), word="wrong")
    assert judge_again(wrong, apart) == wrong
    # Of six photos two were placed.
    two = replace(_sound(6), photos=(*_sound(2).photos, *[None] * 4))
    verdict = judge_again(two, apart)
    assert verdict is not None and verdict.word == "doubtful"
    assert verdict.photos[2:] == (None,) * 4
