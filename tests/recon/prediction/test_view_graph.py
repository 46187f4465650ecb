"""Which pairs are looked at."""

from __future__ import annotations

import numpy as np
import pytest

from pointmap.errors import InputError
from recon.prediction.photo_graph import component_labels
from recon.prediction.view_graph import (
    ViewGraphOptions,
    build_view_graph,
    further_pairs,
    more_similar_pairs,
    pairs_beyond,
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
    graph = build_view_graph(60, descriptors=descriptors, options=ViewGraphOptions(neighbours=4))
    pairs = set(graph.pairs)
    assert graph.in_order
    assert {(28, 30), (29, 30), (30, 31), (30, 32)} <= pairs
    assert {(43, 45), (44, 45), (45, 46), (45, 47)} <= pairs
    assert sum(45 in pair for pair in pairs) <= 8
    shuffled = descriptors[np.random.default_rng(0).permutation(60)]
    assert not build_view_graph(60, descriptors=shuffled).in_order


def test_pairs_of_a_walk_in_order_reach_far_and_close_loops_but_are_few() -> None:
    turn = 2 * np.pi * np.arange(100) / 80  # a fifth more than once around, densely
    options = ViewGraphOptions(neighbours=8)
    graph = build_view_graph(100, descriptors=np.c_[np.cos(turn), np.sin(turn)], options=options)
    steps = np.array([j - i for i, j in graph.pairs])
    assert {int(s) for s in steps if s <= 16} == {1, 2, 4, 8, 16}
    assert all((steps == step).sum() == 100 - step for step in (4, 8, 16))
    # A round later the same place is seen again.
    assert {(i, i + 80) for i in range(20)} <= set(graph.pairs)
    assert len(graph.pairs) < 5 * 100 + 2 * 100


def test_photos_that_few_pairs_hold_are_tried_with_more_similar_ones() -> None:
    angle = np.random.default_rng(3).permutation(np.linspace(0, 2 * np.pi, 60, endpoint=False))
    descriptors = np.c_[np.cos(angle), np.sin(angle)]
    options = ViewGraphOptions(neighbours=4)
    first = build_view_graph(60, descriptors=descriptors, options=options).pairs
    strengths, likeness = dict.fromkeys(first, 1.0), descriptors @ descriptors.T + 1
    assert more_similar_pairs(likeness, strengths, neighbours=4).pairs == ()
    # What is next to photo 7 in the picture is not what it shows: all but one of its pairs fail.
    own = [pair for pair in first if 7 in pair]
    found = more_similar_pairs(
        likeness, strengths | dict.fromkeys(own[1:], 0.0), neighbours=4
    ).pairs
    lone = [pair for pair in found if 7 in pair]
    assert len(lone) == 12 - len(own) and not set(found) & set(first)
    turns = [abs(np.angle(np.exp(1j * (angle[i] - angle[j])))) for i, j in lone]
    assert max(turns) < 7 * 2 * np.pi / 60  # the next ones in similarity


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


def test_a_walk_that_comes_back_is_looked_at_where_no_matches_lead() -> None:
    # From photo 40 on the first half of a round is gone again, with the gaze to another side: its
    # own neighbours are more alike.
    turn = np.radians(9.0) * np.arange(60)
    side = np.where(np.arange(60) < 40, 0.0, 0.2)
    descriptors = np.c_[np.cos(turn), np.sin(turn), side]
    likeness = np.maximum(descriptors @ descriptors.T, 0)
    strengths = {(i, i + step): 0.9 for step in (1, 2) for i in range(60 - step)}
    found = pairs_beyond(likeness, strengths, per_photo=1).pairs
    assert {(i, i + 40) for i in range(20)} <= set(found)
    # Three steps of two photos are near.
    assert min(j - i for i, j in found) > 6 and len(found) <= 60
    # What failed is no way, and is not tried again.
    failed = strengths | {(5, 45): 0.0, (20, 45): 0.0}
    assert (5, 45) not in (again := pairs_beyond(likeness, failed, per_photo=1).pairs)
    assert set(found) - {(5, 45)} <= set(again)
    # Where matches lead everywhere, nothing is beyond.
    everywhere = {(0, j): 0.5 for j in range(1, 60)}
    assert pairs_beyond(likeness, everywhere, per_photo=2).pairs == ()
    # Nor is what has nothing in common, however few others there are.
    assert all(likeness[pair] > 0 for pair in pairs_beyond(likeness, strengths, per_photo=60).pairs)


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
        assert not component_labels(40, pairs).any()
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
