"""Matches that keep their pixels while others move are no part of the scene."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from recon.stage_results import PairMatches
from recon.two_view.still_matches import without_still_matches


def pair(i: int, j: int, shift: float, *, attached: int, moving: int, seed: int = 0) -> PairMatches:
    """Return matches of photos shifted by some pixels; the first ``attached`` ones stay."""
    rng = np.random.default_rng(seed)
    xy = rng.uniform(0, 640, (attached + moving, 2))
    noise = rng.normal(0, 0.3, xy.shape)
    far = np.arange(len(xy)) >= attached
    index = np.arange(len(xy))
    return PairMatches(i, j, xy, xy + noise + far[:, None] * [shift, 0], index, index, 0.5)


def test_what_stays_while_others_move_far_is_left_out_of_all_pairs() -> None:
    wide, narrow = pair(0, 1, 80, attached=40, moving=60), pair(1, 2, 3, attached=40, moving=60)
    kept = without_still_matches([wide, narrow])
    # In the second pair only what the first one gave away: there all matches hardly move.
    for before, after in zip((wide, narrow), kept, strict=True):
        assert after.index_i.tolist() == before.index_i[40:].tolist()
        assert (after.i, after.j) == (before.i, before.j)


def test_a_watermark_that_repeats_matches_itself_nowhere() -> None:
    first = pair(0, 1, 80, attached=40, moving=60)
    # One tile of it on another one, between other key points of two more photos.
    index = np.arange(40)
    tiles = PairMatches(
        2, 3, first.xy_i[:40], np.roll(first.xy_i[:40], 3, axis=0), index, index, 0.5
    )
    kept = without_still_matches([first, tiles])
    assert [len(p) for p in kept] == [60, 0]


def test_a_camera_that_hardly_moves_loses_nothing() -> None:
    pairs = [pair(0, 1, 1, attached=50, moving=50), pair(0, 2, 8, attached=50, moving=50)]
    assert [len(p) for p in without_still_matches(pairs)] == [100, 100]


def test_a_few_matches_that_move_give_nothing_away() -> None:
    # Wrong matches move, too: of two photos from one place, everything else stays.
    assert len(without_still_matches([pair(0, 1, 200, attached=90, moving=10)])[0]) == 100


def test_fronts_that_look_alike_keep_what_matches() -> None:
    # Seen from the same place before each: what is around them matches anything.
    alike = pair(0, 1, 0, attached=60, moving=40)
    rng = np.random.default_rng(1)
    wrong = replace(alike, xy_j=np.vstack([alike.xy_j[:60], rng.uniform(0, 640, (40, 2))]))
    assert [len(p) for p in without_still_matches([wrong])] == [100]


def test_pairs_without_matches_stay_so() -> None:
    assert without_still_matches([]) == []
    assert len(without_still_matches([pair(0, 1, 0, attached=0, moving=0)])[0]) == 0
