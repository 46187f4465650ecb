"""Which frames are chosen, from measurements that are made up."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointmap.video.motion import TrackedFeatures
from pointmap.video.selection import MOST_FRAMES, STEP, Candidate, choose, choose_by_motion

# A long wall with a feature every 0.02 of the picture's width.
WALL = 0.02 * np.arange(3000) - 5


def seen_at(place: float) -> TrackedFeatures:
    """What a camera sees that has moved along the wall by ``place`` widths of its picture."""
    ids = np.flatnonzero((place <= WALL) & (place + 1 > WALL))
    return TrackedFeatures(ids, np.stack([WALL[ids] - place, np.full(len(ids), 0.5)], 1))


def clip(places: np.ndarray, sharpness: np.ndarray | float = 100.0) -> list[Candidate]:
    sharp = np.broadcast_to(sharpness, len(places))
    return [Candidate(0.2 * k, float(sharp[k]), seen_at(place)) for k, place in enumerate(places)]


def test_frames_follow_the_motion_and_not_the_time() -> None:
    places = np.concatenate([np.linspace(0, 1, 100), np.full(50, 1.0), np.linspace(1, 4, 100)])
    chosen = choose_by_motion(clip(places), STEP)
    steps = np.diff(places[chosen])
    assert 0.6 * STEP <= steps.min() and steps.max() < 1.6 * STEP
    assert sum(100 <= k < 149 for k in chosen) <= 1
    slow, fast = sum(k < 100 for k in chosen), sum(k >= 150 for k in chosen)
    assert 2.5 < fast / slow < 3.5


def test_a_still_camera_gives_one_frame_the_sharpest_of_the_first() -> None:
    sharpness = np.full(60, 50.0)
    sharpness[1] = 80
    assert choose([clip(np.full(60, 0.3), sharpness)]) == [[1]]


def test_blurred_frames_are_passed_over_where_a_sharp_one_is_in_reach() -> None:
    places = np.linspace(0, 3, 300)
    rng = np.random.default_rng(1)
    blurred = np.zeros(300, bool)
    for start in rng.integers(5, 290, 12):
        blurred[start : start + 6] = True
    chosen = choose_by_motion(clip(places, np.where(blurred, 10.0, 100.0)), STEP)
    assert not blurred[chosen].any()
    assert np.diff(places[chosen]).max() <= 3 * STEP + 0.02


def test_where_all_is_blurred_the_chain_does_not_break() -> None:
    places = np.linspace(0, 3, 300)
    blurred = (places > 1) & (places < 2)
    chosen = choose_by_motion(clip(places, np.where(blurred, 10.0, 100.0)), STEP)
    assert np.diff(places[chosen]).max() <= 3 * STEP + 0.02


def test_a_camera_that_swings_back_and_forth_shows_nothing_new() -> None:
    swing = 0.15 + 0.15 * np.sin(np.arange(400) / 5)
    assert len(choose_by_motion(clip(swing), STEP)) <= 8


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.002, 0.08))
def test_neighbours_overlap_by_70_percent_while_candidates_allow_it(seed: int, pace: float) -> None:
    rng = np.random.default_rng(seed)
    places = np.cumsum(rng.uniform(0, 2 * pace, 120))
    chosen = choose_by_motion(clip(places, rng.uniform(5, 100, 120)), STEP)
    assert np.diff(places[chosen]).max(initial=0) <= 0.3 + 0.02
    assert all(a < b for a, b in pairwise(chosen))


def test_after_a_cut_a_new_chain_begins() -> None:
    places = np.concatenate([np.linspace(0, 0.5, 50), np.linspace(20, 20.5, 50)])
    chosen = choose_by_motion(clip(places), STEP)
    assert sum(k < 50 for k in chosen) >= 6 and sum(k >= 50 for k in chosen) >= 6


@pytest.mark.parametrize("target", [2, 20, 110])
def test_a_target_is_met_over_all_clips_in_proportion_to_their_motion(target: int) -> None:
    clips = [clip(np.linspace(0, 3, 300)), clip(np.linspace(0, 1, 200))]
    chosen = choose(clips, target)
    assert sum(map(len, chosen)) == target
    if target >= 20:
        assert 2.2 < len(chosen[0]) / len(chosen[1]) < 4
        steps = np.diff(0.01 * np.array(chosen[0]))
        assert steps.max() < 2.6 * np.median(steps)


def test_more_than_there_are_views_is_not_met() -> None:
    still = clip(np.full(200, 0.3))
    assert choose([still], 50) == [[0]]


def test_long_videos_stay_below_the_limit() -> None:
    chosen = choose([clip(np.linspace(0, 15, 300)), clip(np.linspace(0, 10, 200))])
    assert sum(map(len, chosen)) == MOST_FRAMES
