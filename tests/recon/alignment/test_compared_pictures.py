"""Pictures from nearly one spot find each other's blocks, or miss what only one of them shows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter, map_coordinates

from pointmap.camera import Array, pinhole, rigid, rotation_exp
from pointmap.images import Photo, open_photos
from pointmap.lens import PINHOLE
from recon.alignment.compared_pictures import compare_pictures
from recon.scene import Tracks
from recon.stage_results import Alignment

WIDTH, HEIGHT, FOCAL, DEPTH = 320, 240, 280.0, 5.0
# Of a camera a hand's breadth to the side, tilted and turned about its axis.
SIDE = rigid(rotation_exp(np.array([[0.02, -0.01, 0.1]]))[0], np.array([0.1, 0.02, 0.0]))


def _wall(seed: int) -> Array:
    """Return a wall's picture, one pixel of it 1 / FOCAL of its distance, twice a photo's size."""
    grey = gaussian_filter(np.random.default_rng(seed).normal(size=(2 * HEIGHT, 2 * WIDTH)), 1.0)
    return np.asarray(128 + 40 * grey / grey.std())


def _photo(path: Path, wall: Array, pose: Array) -> Photo:
    """Write what a camera shows of the wall in front of it."""
    row, column = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    rays = np.stack([(column - WIDTH / 2) / FOCAL, (row - HEIGHT / 2) / FOCAL, np.ones_like(row)])
    rays = np.einsum("ab,bhw->ahw", pose[:3, :3], rays)
    x, y = pose[:2, 3, None, None] + rays[:2] / rays[2] * DEPTH
    at = [y * FOCAL / DEPTH + HEIGHT - 0.5, x * FOCAL / DEPTH + WIDTH - 0.5]
    grey = map_coordinates(wall, at, order=1).clip(0, 255)
    Image.fromarray(grey.astype(np.uint8)).convert("RGB").save(path)
    return open_photos([path])[0][0]


def _alignment(*others: Array) -> Alignment:
    """Return one camera and others that see the same points of the wall."""
    count = 1 + len(others)
    rng = np.random.default_rng(0)
    points = np.column_stack([rng.uniform(-2, 2, (60, 2)), np.full(60, DEPTH)])
    index = np.arange(60)
    tracks = Tracks(
        points,
        np.zeros((60, 3), np.uint8),
        np.tile(index, count),
        np.repeat(np.arange(count), 60),
        np.zeros((60 * count, 2)),
    )
    return Alignment(
        np.tile(pinhole(FOCAL, WIDTH, HEIGHT), (count, 1, 1)),
        (PINHOLE,) * count,
        (np.eye(4), *others),
        (None,) * count,
        tracks,
        (),
        np.zeros(0, bool),
        np.zeros((0, 2), np.int64),
        np.ones(count),
    )


@pytest.mark.parametrize("second", [np.eye(4), SIDE], ids=["one spot", "a step aside"])
def test_what_only_one_picture_shows_is_missing(tmp_path: Path, second: Array) -> None:
    wall, other = _wall(0), _wall(1)
    other[:, :WIDTH] = wall[:, :WIDTH]
    first = _photo(tmp_path / "a.png", wall, np.eye(4))
    same = _photo(tmp_path / "b.png", wall, second)
    alike = _photo(tmp_path / "c.png", other, second)

    of_one = compare_pictures([first, same], _alignment(second))
    of_two = compare_pictures([first, alike], _alignment(second))

    assert of_one.pairs.tolist() == of_two.pairs.tolist() == [[0, 1]]
    assert of_one.missing[0] == 0 and of_one.there[0] > 50
    share = of_two.missing[0] / (of_two.missing[0] + of_two.there[0])
    assert 0.35 < share < 0.65


def test_photos_that_stand_apart_or_share_no_points_are_not_compared(tmp_path: Path) -> None:
    photos = [_photo(tmp_path / f"{k}.png", _wall(k), np.eye(4)) for k in range(2)]
    apart = _alignment(rigid(np.eye(3), np.array([2.0, 0.0, 0.0])))
    alone = replace(_alignment(np.eye(4)), tracks=Tracks.empty())

    assert len(compare_pictures(photos, apart).pairs) == 0
    assert len(compare_pictures(photos, alone).pairs) == 0


def test_masked_parts_say_nothing(tmp_path: Path) -> None:
    wall, other = _wall(0), _wall(1)
    other[:, :WIDTH] = wall[:, :WIDTH]
    photos = [_photo(tmp_path / f"{k}.png", w, np.eye(4)) for k, w in enumerate((wall, other))]
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[:, : WIDTH // 2] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    masked = [replace(photo, mask=tmp_path / "mask.png") for photo in photos]

    compared = compare_pictures(masked, _alignment(np.eye(4)))

    assert compared.missing[0] <= 2 < compared.there[0]


def test_what_no_other_picture_shows_has_moved_and_is_not_missing(tmp_path: Path) -> None:
    wall, photos = _wall(0), []
    for k in range(3):
        crowd = _wall(k + 1)
        crowd[:, :WIDTH] = wall[:, :WIDTH]
        photos.append(_photo(tmp_path / f"{k}.png", crowd, np.eye(4)))

    compared = compare_pictures(photos, _alignment(np.eye(4), np.eye(4)))

    assert len(compared.pairs) == 3
    assert compared.missing.max() <= 3 < compared.there.min()
