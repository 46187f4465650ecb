"""A walk that comes back to where it began is closed, though no likeness of photos told of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.walk_scenes import Walk, make_walk
from recon.alignment import align, pairs_by_place
from recon.alignment.pairs_by_place import edges_by_place, pairs_of_contradicted
from recon.prediction.view_graph import Pair
from recon.stage_results import Alignment, PairEdge, PairMatches

COUNT, LOOP = 76, 60


@pytest.fixture(scope="module")
def walk() -> Walk:
    return make_walk(COUNT, loop=LOOP, seed=1)


@pytest.fixture(scope="module")
def closing(walk: Walk) -> dict[Pair, PairEdge]:
    """The edges between photos of the first round and of the second."""
    edges = {(e.matches.i, e.matches.j): e for e in walk.evidence.edges}
    return {(i, j): edge for (i, j), edge in edges.items() if j - i > LOOP / 2}


@pytest.fixture(scope="module")
def open_walk(walk: Walk, closing: dict[Pair, PairEdge]) -> Alignment:
    """The cameras without them."""
    kept = [e for e in walk.evidence.edges if (e.matches.i, e.matches.j) not in closing]
    return align(walk.photos, replace(walk.evidence, edges=kept))


def looked_at(alignment: Alignment) -> set[Pair]:
    return {(e.matches.i, e.matches.j) for e in alignment.edges}


def test_photos_of_two_rounds_are_paired(walk: Walk, open_walk: Alignment) -> None:
    known = looked_at(open_walk)
    pairs = pairs_by_place.pairs_by_place(walk.photos, open_walk, known, per_photo=3)
    assert not set(pairs) & known and all(i < j for i, j in pairs)
    centres = walk.cam_to_world[:, :3, 3]
    second_round = [pair for pair in pairs if pair[1] >= LOOP]
    # Each photo of the second round but those at its end, with some that were taken near by.
    assert {j for _, j in second_round} >= set(range(LOOP + 1, COUNT - 2))
    assert max(np.linalg.norm(centres[i] - centres[j]) for i, j in second_round) < 12
    every = {(i, j) for j in range(COUNT) for i in range(j)}
    assert pairs_by_place.pairs_by_place(walk.photos, open_walk, every, per_photo=3) == []


def test_what_contradicts_the_cameras_is_news(
    walk: Walk,
    closing: dict[Pair, PairEdge],
    open_walk: Alignment,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def matched(first: int, second: int, i: int, j: int) -> PairMatches:
        assert (first, second) == (i, j)
        edge = closing.get((i, j))
        none = np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(0, np.int64), np.zeros(0, np.int64)
        return PairMatches(i, j, *none, sigma_px=0.5) if edge is None else edge.matches

    monkeypatch.setattr(pairs_by_place, "match_features", matched)
    focals = open_walk.intrinsics[:, 0, 0]
    matches = [edge.matches for edge in open_walk.edges]
    drifted = list(open_walk.cam_to_world)
    placed = [(k, pose) for k, pose in enumerate(drifted) if pose is not None]
    middle = placed[len(placed) // 2][1][:3, 3]
    for k, pose in placed[len(placed) // 2 :]:  # larger by a tenth from the middle on
        drifted[k] = pose.copy()
        drifted[k][:3, 3] += 0.1 * (pose[:3, 3] - middle)
    numbers = list(range(COUNT))
    astray = replace(open_walk, cam_to_world=tuple(drifted))
    found = edges_by_place(walk.photos, numbers, matches, astray, focals)
    assert len(found) >= 5
    assert {(e.matches.i, e.matches.j) for e in found} <= closing.keys()
    # Cameras that the pairs agree with stay as they are.
    closed = align(walk.photos, walk.evidence)
    assert edges_by_place(walk.photos, numbers, matches, closed, focals) == []


def test_of_cut_out_photos_the_whole_picture_counts(walk: Walk, open_walk: Alignment) -> None:
    """What is right of a principal point near the left rim is looked for there."""
    K = open_walk.intrinsics.copy()
    cut = K[0, 0, 2] - 10
    K[:, 0, 2] -= cut
    photos = [replace(photo, width=int(photo.width - cut)) for photo in walk.photos]
    cut_out = replace(open_walk, intrinsics=K)
    pairs = pairs_by_place.pairs_by_place(photos, cut_out, looked_at(open_walk), per_photo=3)
    assert len({j for _, j in pairs if j >= LOOP}) >= 10


def test_a_photo_that_its_pairs_contradict_is_matched_with_all_others(
    walk: Walk, open_walk: Alignment
) -> None:
    """It may stand where a label put it that is printed twice, beside those that see it there."""
    odd, known = 30, looked_at(open_walk)
    poses = list(open_walk.cam_to_world)
    mine, other = poses[odd], poses[odd + 20]
    assert mine is not None and other is not None
    assert pairs_of_contradicted(walk.photos, open_walk, known) == []
    poses[odd] = other
    misplaced = replace(open_walk, cam_to_world=tuple(poses))
    pairs = pairs_of_contradicted(walk.photos, misplaced, known)
    assert {k for pair in pairs if odd in pair for k in pair} >= {0, odd, COUNT - 1}
    assert len([pair for pair in pairs if odd in pair]) == COUNT - 1 - sum(
        odd in pair for pair in known
    )
    # Of many photos that are contradicted the scene is at fault, or what moves.
    nowhere = tuple(other for _ in poses)
    named = [
        k
        for pair in pairs_of_contradicted(
            walk.photos, replace(open_walk, cam_to_world=nowhere), known
        )
        for k in pair
    ]
    assert sum(n > COUNT / 2 for n in np.bincount(named)) <= 8
