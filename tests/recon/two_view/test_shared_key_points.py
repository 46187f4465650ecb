"""Which photos have key points in common, of photos whose key points are known."""

from __future__ import annotations

import numpy as np
import pytest

from recon.stage_results import PhotoFeatures
from recon.two_view.photo_descriptors import photo_descriptors
from recon.two_view.shared_key_points import key_point_likeness

COUNT, OWN, BRICKS = 30, 300, 150
# Photos of two passages of one street corner: of either, so many key points are the other's.
CORNER, SHARED = ((4, 22), (5, 23)), 24


def photo(points: np.ndarray, rng: np.random.Generator) -> PhotoFeatures:
    """The key points of a photo of ``points``, as RootSIFT has them: not negative, a little off."""
    noisy = np.abs(points + 0.15 * rng.normal(size=points.shape))
    unit = np.sqrt(noisy / np.maximum(noisy.sum(axis=1, keepdims=True), 1e-9))
    none = np.zeros((len(points), 3), np.uint8)
    return PhotoFeatures(np.zeros((len(points), 2)), unit.astype(np.float32), none)


def seen_points() -> list[np.ndarray]:
    """Which points photos of a walk show: half of them are the next photo's, too, and of two pairs
    of far photos a few are the same.
    """
    seen = [np.arange(OWN) + k * OWN // 2 for k in range(COUNT)]
    for first, second in CORNER:
        seen[second][:SHARED] = seen[first][OWN - SHARED :]
    return seen


@pytest.fixture(scope="module")
def walk() -> list[PhotoFeatures]:
    """A walk; all photos show bricks, too."""
    rng = np.random.default_rng(4)
    scene = rng.gamma(0.4, size=((COUNT + 1) * OWN // 2, 128))
    bricks = rng.gamma(0.4, size=(10, 128))
    return [
        photo(np.concatenate([scene[mine], bricks[rng.integers(10, size=BRICKS)]]), rng)
        for mine in seen_points()
    ]


def test_a_few_key_points_in_common_tell_where_a_walk_crosses_itself(
    walk: list[PhotoFeatures],
) -> None:
    likeness = key_point_likeness(walk)
    np.testing.assert_array_equal(likeness, likeness.T)
    assert not likeness.diagonal().any()
    number = np.arange(COUNT)
    apart = np.abs(number[:, None] - number)
    shared = np.array([[np.isin(a, b).sum() for b in seen_points()] for a in seen_points()])
    crossing, elsewhere = (apart > 1) & (shared > 0), (apart > 1) & (shared == 0)
    assert {CORNER[0], CORNER[1]} <= {*zip(*np.nonzero(crossing), strict=True)}
    # The next photos come first; of the others, those of the same corner, by far.
    assert likeness[apart == 1].min() > likeness[crossing].max()
    assert likeness[crossing].min() > 2 * likeness[elsewhere].max()
    # What photos show as a whole doesn't tell.
    vectors = photo_descriptors(walk)
    whole = vectors @ vectors.T
    assert whole[crossing].min() < whole[elsewhere].max()


def test_likeness_is_the_same_again_whatever_else_is_there(walk: list[PhotoFeatures]) -> None:
    np.testing.assert_array_equal(key_point_likeness(walk), key_point_likeness(walk))
    none = photo(np.zeros((0, 128)), np.random.default_rng(0))
    likeness = key_point_likeness([none, *walk[:6], none])
    assert not likeness[[0, -1]].any() and (likeness[1, 2], likeness[2, 1]) > (0, 0)
    assert key_point_likeness([none, none]).tolist() == [[0, 0], [0, 0]]
    assert key_point_likeness([]).shape == (0, 0)
    few = [photo(np.eye(128)[:3], np.random.default_rng(k)) for k in (0, 1)]
    assert key_point_likeness([*few, none]).shape == (3, 3)
