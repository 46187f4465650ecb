"""Parts of scenes that the verdict is judged on."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from benchmarks.verdict_photos import hung
from benchmarks.verdict_scenes import Matched, some_photos
from pointmap.images import Photo
from recon.stage_results import PairMatches

COUNT = 10


@pytest.fixture(scope="module")
def walk() -> Matched:
    """Return photos in a row: neighbours share 90 matches, photos farther apart fewer or none."""
    photos = tuple(Photo(Path(f"{k}.jpg"), f"{k}.jpg", 640, 480, None, "") for k in range(COUNT))
    matches = []
    for i, j in combinations(range(COUNT), 2):
        number = np.arange(max(0, 120 - 30 * (j - i)))
        xy = np.zeros((len(number), 2))
        matches.append(PairMatches(i, j, xy, xy, number, number, 0.5))
    return Matched("walk", photos, tuple(matches), (np.eye(4),) * COUNT)


@pytest.mark.parametrize("count", [2, 5, 8, COUNT, COUNT + 3])
def test_no_photo_is_chosen_twice(walk: Matched, count: int) -> None:
    for seed in range(20):
        chosen = some_photos(walk, count, np.random.default_rng(seed))
        assert chosen == sorted(set(chosen))
        assert len(chosen) == min(count, COUNT)


def test_photos_hang_together(walk: Matched) -> None:
    for seed in range(20):
        chosen = some_photos(walk, 3, np.random.default_rng(seed))
        assert np.diff(chosen).max() <= 3


@pytest.mark.parametrize(("partners", "left"), [(1, [60]), (2, [60, 50])])
def test_a_photo_that_hangs_keeps_its_strongest_partners(partners: int, left: list[int]) -> None:
    scene = _three()
    kept = hung(scene, 2, partners)
    assert [len(m) for m in kept.matches if 2 in (m.i, m.j)] == left
    assert len([m for m in kept.matches if 2 not in (m.i, m.j)]) == 1


def test_of_a_photo_whose_distance_is_open_no_third_photo_shows_features() -> None:
    (pair,) = [m for m in hung(_three(), 2, 0).matches if 2 in (m.i, m.j)]
    assert len(pair) < 30 and (pair.index_i >= 40).mean() > 0.5


def _three() -> Matched:
    """Return three photos: 0 and 1 share features 0 to 39, 0 and 2 those from 0 to 59."""

    def match(i: int, j: int, count: int) -> PairMatches:
        number, xy = np.arange(count), np.zeros((count, 2))
        return PairMatches(i, j, xy, xy, number, number, 0.5)

    photos = tuple(Photo(Path(f"{k}.jpg"), f"{k}.jpg", 640, 480, None, "") for k in range(3))
    matches = (match(0, 1, 40), match(0, 2, 60), match(1, 2, 50))
    return Matched("three", photos, matches, (np.eye(4),) * 3)
