"""Which pairs are looked at."""

from __future__ import annotations

import numpy as np
import pytest

from pointmap.errors import InputError
from recon.prediction.view_graph import (
    ViewGraphOptions,
    build_view_graph,
    connected_components,
    further_pairs,
)


def ring_descriptors(count: int, seed: int = 0) -> np.ndarray:
    """Photos on a ring, in shuffled order: descriptors (count, 3) with a large common part."""
    angle = np.random.default_rng(seed).permutation(count) * 2 * np.pi / count
    return np.c_[np.cos(angle), np.sin(angle), np.full(count, 50.0)]


def test_few_photos_are_paired_completely() -> None:
    assert build_view_graph(0).pairs == build_view_graph(1).pairs == ()
    assert build_view_graph(3).pairs == ((0, 1), (0, 2), (1, 2))
    assert len(build_view_graph(20, descriptors=ring_descriptors(20)).pairs) == 190


def test_many_photos_are_paired_by_similarity() -> None:
    count, neighbours = 60, 6
    descriptors = ring_descriptors(count)
    options = ViewGraphOptions(neighbours=neighbours)
    pairs = set(build_view_graph(count, descriptors=descriptors, options=options).pairs)
    angle = np.arctan2(descriptors[:, 1], descriptors[:, 0])
    place = np.rint(angle / (2 * np.pi / count)).astype(int) % count
    at = {int(p): i for i, p in enumerate(place)}
    for p in range(count):
        for step in (1, 2, 3):  # three to either side are the six nearest
            i, j = at[p], at[(p + step) % count]
            assert (min(i, j), max(i, j)) in pairs
    # The order is shuffled: pairs of photos next to each other in it would be wasted.
    assert len(pairs) <= count * 3 + count // 4
    assert pairs == set(build_view_graph(count, descriptors=descriptors, options=options).pairs)


def test_an_order_of_shooting_is_noticed_and_followed_where_descriptors_fail() -> None:
    angle = np.linspace(0, np.pi, 60)
    angle[30] += 2  # blurred: looks like others far away
    descriptors = np.c_[np.cos(angle), np.sin(angle)]
    descriptors[45] = np.nan  # shows nothing at all
    options = ViewGraphOptions(neighbours=4)
    pairs = set(build_view_graph(60, descriptors=descriptors, options=options).pairs)
    assert {(28, 30), (29, 30), (30, 31), (30, 32)} <= pairs
    assert {(43, 45), (44, 45), (45, 46), (45, 47)} <= pairs
    assert sum(45 in pair for pair in pairs) <= 4


def test_second_pairs_follow_strong_ways_of_two_steps() -> None:
    chain = {(i, i + 1): 1.0 for i in range(11)}
    assert further_pairs(12, chain, per_photo=2).pairs == tuple((i, i + 2) for i in range(10))
    # One pair closes the loop, and those next to it follow; a pair that failed leads nowhere.
    found = further_pairs(12, chain | {(0, 11): 0.9, (3, 8): 0.0}, per_photo=4).pairs
    assert set(found) - {(i, i + 2) for i in range(10)} == {(0, 10), (1, 11)}
    assert further_pairs(12, {}, per_photo=2).pairs == ()
    # The best of many only.
    star = {(0, j): 0.5 + j / 100 for j in range(1, 12)}
    assert (10, 11) in (best := further_pairs(12, star, per_photo=1).pairs) and len(best) == 10


def test_similar_clusters_are_tied_together_where_they_are_most_alike() -> None:
    degrees = np.concatenate([np.arange(20) + start for start in (0, 60, 180, 240)])
    order = np.random.default_rng(1).permutation(80)
    angle = np.radians(degrees[order])
    descriptors = np.c_[np.cos(angle), np.sin(angle)]  # opposite arcs: the mean is zero
    pairs = build_view_graph(80, descriptors=descriptors, options=ViewGraphOptions(neighbours=3))
    for ends in ((19, 60), (199, 240)):
        i, j = sorted(int(np.flatnonzero(degrees[order] == end)[0]) for end in ends)
        assert j - i > 2, "neighbours in order would be paired without the tree"
        assert (i, j) in pairs.pairs


def test_unusable_descriptors_leave_a_connected_graph() -> None:
    descriptors = ring_descriptors(40)
    descriptors[5] = np.nan
    for case in (descriptors, np.ones((40, 8)), np.full((40, 8), np.nan)):
        pairs = build_view_graph(40, descriptors=case).pairs
        assert len(connected_components(40, pairs)) == 1
        assert all(0 <= i < j < 40 for i, j in pairs)


def test_without_descriptors_order_stands_in_for_similarity() -> None:
    pairs = build_view_graph(30, options=ViewGraphOptions(neighbours=4)).pairs
    assert {j - i for i, j in pairs} == {1, 2}


def test_window_star_and_explicit_pairs() -> None:
    window = ViewGraphOptions(strategy="window", neighbours=2)
    assert build_view_graph(4, options=window).pairs == ((0, 1), (0, 2), (1, 2), (1, 3), (2, 3))
    star = ViewGraphOptions(strategy="star", centre=1)
    assert build_view_graph(4, options=star).pairs == ((0, 1), (1, 2), (1, 3))
    assert build_view_graph(1, options=ViewGraphOptions(strategy="star")).pairs == ()
    assert build_view_graph(5, pairs=[(3, 1), (1, 3), (0, 4)]).pairs == ((0, 4), (1, 3))
    assert build_view_graph(5, pairs=[]).pairs == ()
    for bad in [(0, 5), (-1, 2), (2, 2)]:
        with pytest.raises(InputError, match="pair"):
            build_view_graph(5, pairs=[bad])
    with pytest.raises(InputError, match="no photo 4"):
        build_view_graph(4, options=ViewGraphOptions(strategy="star", centre=4))
    with pytest.raises(InputError, match="neighbours"):
        build_view_graph(40, options=ViewGraphOptions(neighbours=0))


def test_connected_components() -> None:
    pairs = [(5, 6), (1, 2), (2, 4), (6, 5), (4, 1)]
    assert connected_components(8, pairs) == [[1, 2, 4], [5, 6], [0], [3], [7]]
    assert connected_components(0, []) == []
