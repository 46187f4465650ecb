"""Weak edges between places that hang together without them."""

from __future__ import annotations

import numpy as np

from recon.alignment.bridges import without_lone_bridges
from recon.stage_results import PairEdge, PairMatches, RelativePose

NONE = np.zeros(0, np.int64)
POSE = RelativePose(np.eye(4), "essential", np.zeros(0, bool), 1.0)


def edges(*pairs: tuple[int, int]) -> list[PairEdge]:
    empty = np.zeros((0, 2))
    return [PairEdge(PairMatches(i, j, empty, empty, NONE, NONE, 0.5), POSE) for i, j in pairs]


def pairs(found: list[PairEdge]) -> list[tuple[int, int]]:
    return [(edge.matches.i, edge.matches.j) for edge in found]


# Photos 0 to 3 and 4 to 7 are places; 8 to 10 belong together, 11 to none.
VERIFIED = [(0, 1), (1, 2), (2, 3), (4, 5), (5, 6), (6, 7), (8, 9), (9, 10)]


def kept(*new: tuple[int, int]) -> set[tuple[int, int]]:
    before = edges(*VERIFIED)
    found = without_lone_bridges(before, [*before, *edges(*new)], 12)
    assert pairs(found)[: len(before)] == VERIFIED
    return set(pairs(found)) - set(VERIFIED)


def test_one_or_two_weak_edges_join_no_places() -> None:
    assert kept((0, 4)) == set()
    assert kept((0, 4), (2, 6)) == set()
    assert kept((0, 4), (2, 6), (1, 5)) == {(0, 4), (2, 6), (1, 5)}


def test_few_photos_are_joined_by_one() -> None:
    assert kept((0, 11), (6, 8), (2, 10)) == {(0, 11), (6, 8), (2, 10)}


def test_within_a_place_every_edge_counts() -> None:
    assert kept((0, 2), (4, 6), (0, 4)) == {(0, 2), (4, 6)}
