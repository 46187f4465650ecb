"""What stereo has to say of cameras that few photos' matches fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pointmap.camera import pinhole, rigid
from pointmap.images import Photo, ResizedPhoto
from pointmap.lens import PINHOLE
from recon.scene import PhotoVerdict, Tracks, Verdict
from recon.stage_results import Alignment, DenseDepths, DepthMap
from recon.verdict.second_look import _confirmed, judge_again

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


def _placed(count: int, step: float = 0.01, unplaced: int = 0) -> Alignment:
    """Return photos of a wall at a distance of 1, each so far to the left of the one before."""
    poses = [rigid(np.eye(3), np.array([-k * step, 0.0, 0.0])) for k in range(count)]
    every = count + unplaced
    return Alignment(
        np.tile(pinhole(WIDTH, WIDTH, HEIGHT), (every, 1, 1)),
        (PINHOLE,) * every,
        (*poses, *[None] * unplaced),
        (None,) * every,
        Tracks.empty(),
        (),
        np.zeros(0, bool),
        np.zeros((0, 2), np.int64),
        np.full(every, np.nan),
    )


def _sound(count: int) -> Verdict:
    photos = tuple(PhotoVerdict(f"{k}.jpg", "sound", 0.3, 0.5) for k in range(count))
    return Verdict("sound", "all fits", 0.1, 0.3, 0.5, photos)


@pytest.mark.parametrize("count", [2, 3])
def test_few_photos_whose_pixels_disagree_are_doubtful(count: int) -> None:
    sound, placed = _sound(count), _placed(count)
    verdict = judge_again(sound, placed, _dense(count, 0.1))
    assert verdict is not None and verdict.word == "doubtful"
    assert "agree in 10% of what" in verdict.reason
    assert {photo.word for photo in verdict.photos if photo} == {"doubtful"}
    assert judge_again(sound, placed, _dense(count, 0.6)) == sound


def test_only_what_is_textured_and_shared_counts() -> None:
    sound = _sound(2)
    # A plain wall of four fifths, then of the whole picture.
    assert judge_again(sound, _placed(2), _dense(2, 0.9, textured=0.2)) == sound
    assert judge_again(sound, _placed(2), _dense(2, 0.0, textured=0.0)) == sound
    # Half a picture further to the left, the other photo shows the half that is confirmed.
    sideways = _placed(2, step=0.5)
    shares = [_confirmed(k, [1 - k], sideways, _dense(2, 0.5)) for k in (0, 1)]
    assert shares == pytest.approx([1.0, 0.0], abs=0.05)
    # Next to nothing is shared.
    assert judge_again(sound, _placed(2, step=0.999), _dense(2, 0.0)) == sound


def test_only_sound_cameras_of_few_photos_that_moved_are_looked_at_again() -> None:
    apart = _dense(6, 0.0)
    assert judge_again(None, _placed(2), apart) is None
    assert judge_again(_sound(6), _placed(6), apart) == _sound(6)
    one_place = replace(_sound(2), rotation_error_deg=None, direction_error_deg=None)
    assert judge_again(one_place, _placed(2), apart) == one_place
    wrong = replace(_sound(2), word="wrong")
    assert judge_again(wrong, _placed(2), apart) == wrong
    # Of six photos two were placed.
    two = replace(_sound(6), photos=(*_sound(2).photos, *[None] * 4))
    verdict = judge_again(two, _placed(2, unplaced=4), apart)
    assert verdict is not None and verdict.word == "doubtful"
    assert verdict.photos[2:] == (None,) * 4
