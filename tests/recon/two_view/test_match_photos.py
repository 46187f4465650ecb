"""Which of many photos are matched, on photos whose key points are known."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import cast, overload

import numpy as np
import pytest
import torch

from recon.inputs import Inputs
from recon.prediction.view_graph import ViewGraphOptions
from recon.stage_results import PairMatches, PhotoFeatures
from recon.two_view.match_photos import match_photos
from recon.two_view.photo_descriptors import photo_descriptors
from recon.work.folder import Work

COUNT, SEEN, STEP = 40, 300, 60


def _loop(order: np.ndarray) -> list[PhotoFeatures]:
    """Photos along a loop, each with ``SEEN`` of the scene's points, ``STEP`` further than the one
    before: it shares points with four to either side, in the given order of names.
    """
    rng = np.random.default_rng(0)
    points = rng.normal(size=(COUNT * STEP, 128))
    photos = []
    for place in order:
        mine = points[np.arange(place * STEP, place * STEP + SEEN) % len(points)]
        noisy = mine + 0.2 * rng.normal(size=mine.shape)
        unit = noisy / np.linalg.norm(noisy, axis=1, keepdims=True)
        xy = rng.uniform(0, 600, (SEEN, 2))
        photos.append(PhotoFeatures(xy, unit.astype(np.float32), np.zeros((SEEN, 3), np.uint8)))
    return photos


def _inputs(count: int) -> Inputs:
    return cast(Inputs, SimpleNamespace(photos=[None] * count, work=Work()))


def _overlapping(order: np.ndarray, steps: int) -> set[tuple[int, int]]:
    apart = np.abs(order[:, None] - order)
    near = np.minimum(apart, COUNT - apart) <= steps
    return {(i, j) for i, j in zip(*np.nonzero(near), strict=True) if i < j}


@pytest.fixture(scope="module")
def order() -> np.ndarray:
    return np.random.default_rng(1).permutation(COUNT)


def test_photos_of_one_place_have_similar_descriptors(order: np.ndarray) -> None:
    vectors = photo_descriptors(_loop(order))
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, -1)
    next_to = _overlapping(order, 1)
    for i, row in enumerate(similarity):
        assert {(min(i, int(j)), max(i, int(j))) for j in np.argsort(-row)[:2]} <= next_to
    np.testing.assert_array_equal(vectors, photo_descriptors(_loop(order)))


def test_photos_without_key_points_say_nothing_and_do_not_disturb(order: np.ndarray) -> None:
    none = PhotoFeatures(
        np.zeros((0, 2)), np.zeros((0, 128), np.float32), np.zeros((0, 3), np.uint8)
    )
    vectors = photo_descriptors([none, *_loop(order)[:5], none])
    assert not vectors[[0, 6]].any()
    np.testing.assert_allclose(np.linalg.norm(vectors[1:6], axis=1), 1, rtol=1e-5)
    assert not photo_descriptors([none, none]).any()


class _OneByOne(Sequence[PhotoFeatures]):
    """Key points that are read when asked for: nobody may ask for all of them at once."""

    def __init__(self, features: list[PhotoFeatures]) -> None:
        self._features = features

    def __len__(self) -> int:
        return len(self._features)

    @overload
    def __getitem__(self, number: int) -> PhotoFeatures: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[PhotoFeatures]: ...
    def __getitem__(self, number: int | slice) -> PhotoFeatures | Sequence[PhotoFeatures]:
        assert isinstance(number, int)
        return self._features[number]

    def __iter__(self):  # type: ignore[no-untyped-def]
        raise AssertionError("all photos' key points were asked for")


def test_a_shuffled_loop_is_found_and_closed(order: np.ndarray) -> None:
    options = ViewGraphOptions(neighbours=4)
    matches = match_photos(_inputs(COUNT), _OneByOne(_loop(order)), options)
    pairs = [(m.i, m.j) for m in matches]
    assert pairs == sorted(set(pairs))
    # Two to either side are the nearest; the second round finds those three steps away.
    assert _overlapping(order, 2) <= set(pairs)
    assert len(_overlapping(order, 3) & set(pairs)) > 0.9 * len(_overlapping(order, 3))
    assert len(pairs) < 0.25 * COUNT * (COUNT - 1) / 2


def test_a_loop_in_order_is_matched_far_along_and_closed() -> None:
    options = ViewGraphOptions(neighbours=4)
    matches = match_photos(_inputs(COUNT), _loop(np.arange(COUNT)), options)
    pairs = {(m.i, m.j) for m in matches}
    steps = {(i, i + step) for step in (1, 2, 4, 8) for i in range(COUNT - step)}
    assert steps | {(0, COUNT - 1)} <= pairs
    # None of three, which a second round of a shuffled loop would have.
    assert len(pairs - steps) <= COUNT and (10, 13) not in pairs


def test_matches_are_the_same_on_any_number_of_threads(order: np.ndarray) -> None:
    before = torch.get_num_threads()
    found: list[list[PairMatches]] = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(match_photos(_inputs(COUNT), _loop(order), ViewGraphOptions(neighbours=4)))
    finally:
        torch.set_num_threads(before)
    for one, three in zip(*found, strict=True):
        assert (one.i, one.j) == (three.i, three.j)
        np.testing.assert_array_equal(one.index_i, three.index_i)
        np.testing.assert_array_equal(one.index_j, three.index_j)


def test_progress_reaches_its_total(order: np.ndarray) -> None:
    heard: list[tuple[int, int]] = []
    options = ViewGraphOptions(neighbours=4)
    matches = match_photos(
        _inputs(COUNT), _loop(order), options, advance=lambda *done: heard.append(done)
    )
    assert heard[-1] == (len(matches), len(matches))
    assert [done for done, _ in heard] == list(range(1, len(matches) + 1))
