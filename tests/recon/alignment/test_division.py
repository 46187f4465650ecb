"""The division of photos in two that most speaks for."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from recon.alignment.division import best_division


def least_cut(pairs: np.ndarray, weights: np.ndarray, count: int) -> float:
    """The least weight that any division separates, by trying all of them."""
    sides = (np.arange(2 ** (count - 1))[:, None] >> np.arange(count)) & 1
    apart = sides[:, pairs[:, 0]] != sides[:, pairs[:, 1]]
    return float((apart * weights).sum(axis=1).min())


@pytest.mark.parametrize("seed", range(8))
def test_two_groups_that_mostly_contradict_each_other_are_told(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = 10
    group = np.zeros(count, bool)
    group[rng.permutation(count)[:4]] = True
    pairs = np.array([p for p in combinations(range(count), 2) if rng.random() < 0.8])
    between = group[pairs[:, 0]] != group[pairs[:, 1]]
    weights = np.where(between, -1.0, 1.0) * rng.uniform(0.5, 2.0, len(pairs))
    # A few pairs say the opposite.
    weights[rng.permutation(len(pairs))[:3]] *= -0.3

    cost, found = best_division(pairs, weights, count + 1)

    assert cost == pytest.approx(least_cut(pairs, weights, count))
    # The smaller group, without the photo that no pair has.
    np.testing.assert_array_equal(found, [*group, False])


def test_photos_that_belong_together_stay_so() -> None:
    pairs = np.array(list(combinations(range(5), 2)))
    weights = np.ones(len(pairs))
    for contradicting in (0.0, -3.0):
        # What speaks for one place outweighs a pair that contradicts it.
        weights[4] = contradicting
        cost, found = best_division(pairs, weights, 5)
        assert cost == 0 and not found.any()
