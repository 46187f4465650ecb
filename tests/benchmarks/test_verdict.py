"""Which scenes the verdict is judged on."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from benchmarks import verdict
from benchmarks.verdict_fit import Judged
from benchmarks.verdict_scenes import Matched
from pointmap.images import Photo
from recon.stage_results import PairMatches
from recon.verdict.evidence import SceneEvidence

COUNT = 12


def test_of_look_alikes_parts_of_five_photos_and_more_are_judged_as_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    photos = tuple(Photo(Path(f"{k}.jpg"), f"{k}.jpg", 640, 480, None, "") for k in range(COUNT))
    number, xy = np.arange(90), np.zeros((90, 2))
    matches = tuple(
        PairMatches(i, j, xy, xy, number, number, 0.5) for i, j in combinations(range(COUNT), 2)
    )
    scene = Matched("fronts", photos, matches, (np.eye(4),) * COUNT)

    def one(part: Matched, kind: str, solved: Matched) -> Iterator[tuple[str, int, bool]]:
        yield kind, len(part.photos), solved is part

    monkeypatch.setattr(verdict, "solved", lambda part, _: part)
    monkeypatch.setattr(verdict, "_one", one)
    found = list(verdict.judged_alike(scene, 6))
    assert found == [(verdict.ALIKE, size, True) for size in (5, 8, 6)]


def test_right_scenes_of_which_a_photo_stands_elsewhere_are_told_by_themselves() -> None:
    def judged(error_deg: float, photo_deg: float) -> Judged:
        photos = np.array([[0.5, 1.0], [0.5, photo_deg]])
        return Judged("place", "as it is", cast(SceneEvidence, None), error_deg, photos, 4)

    scenes = [judged(1.0, 2.0), judged(1.0, 60.0), judged(30.0, 60.0)]
    table = verdict.rates_table(scenes, [False, True, True]).splitlines()
    clear, whole = ([cell.strip() for cell in row.split("|")[2:-1]] for row in table[-2:])
    assert clear == ["1", "100.0%", "2", "50.0%"]
    assert whole == ["1", "100.0%", "1", "0.0%"]
