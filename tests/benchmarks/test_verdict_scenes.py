"""Parts of scenes that the verdict is judged on."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

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
