"""Loops of a walk that a weak join keeps open."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from benchmarks.alignment_scale import scored
from benchmarks.walk_scenes import Walk, WalkErrors, make_walk
from pointmap.camera import Mask, rigid, rotation_exp
from recon.alignment import align, closed_loops
from recon.alignment.cameras import Cameras
from recon.alignment.closed_loops import _side_of_joint, _weak_side
from recon.alignment.hanging_groups import hanging_group
from recon.alignment.refinement import Setup, Structure
from recon.stage_results import PairEdge, PairEvidence

COUNT, LOOP, CUT = 76, 60, 31
# Matches of the join, how far its pose is turned (its direction by four times as much), and how
# many key points of the two pairs other photos match, too.
FEW, OFF_DEG, SHARED = 25, 8.0, 4


def walked(seed: int) -> Walk:
    return make_walk(COUNT, loop=LOOP, seed=seed, errors=WalkErrors(wrong_pairs=0.0))


def joined_at_two_places(walk: Walk, *, shared: int = SHARED, returns: int = 1) -> PairEvidence:
    """What the photos say where one side of the loop has few pairs in common with the other: one at
    a weak join, few matches and a pose that is off, and ``returns`` where the walk comes back.
    """
    apart = walk.evidence.apart(np.arange(COUNT) < CUT)
    across = [e for e in walk.evidence.edges if e.matches.i < CUT <= e.matches.j]
    (join,) = (e for e in across if (e.matches.i, e.matches.j) == (CUT - 1, CUT))
    far = [e for e in across if e.matches.j - e.matches.i > LOOP / 2]
    turn = rigid(rotation_exp(np.array([0.0, 1.0, 0.0])), np.zeros(3))
    back = [
        # As if of a plane.
        replace(e, pose=replace(e.pose, alternative=turn @ e.pose.cam2_to_cam1))
        for e in sorted(far, key=lambda e: -len(e.matches))[:returns]
    ]
    edges = [*apart.edges, *(alone(e, shared) for e in (weakened(join), *back))]
    return replace(apart, edges=sorted(edges, key=lambda e: (e.matches.i, e.matches.j)))


def weakened(edge: PairEdge) -> PairEdge:
    """The edge with few matches, near each other, and a pose that is some degrees off."""
    right = np.flatnonzero(edge.pose.inliers)
    middle = edge.matches.xy_i[right].mean(axis=0)
    distance = np.linalg.norm(edge.matches.xy_i[right] - middle, axis=1)
    few = np.zeros(len(edge.matches), bool)
    few[right[np.argsort(distance)[:FEW]]] = True
    pose = edge.pose.cam2_to_cam1
    turn, aside = rotation_exp(np.radians([[0.2 * OFF_DEG, OFF_DEG, 0.0], [0.0, 4 * OFF_DEG, 0.0]]))
    off = rigid(turn @ pose[:3, :3], aside @ pose[:3, 3])
    return PairEdge(
        edge.matches.select(few),
        replace(edge.pose, cam2_to_cam1=off, inliers=np.ones(FEW, bool)),
    )


def alone(edge: PairEdge, shared: int) -> PairEdge:
    """The edge with key points that no other one has, but for so many."""
    index_i, index_j = (
        np.where(np.arange(len(index)) < shared, index, -1)
        for index in (edge.matches.index_i, edge.matches.index_j)
    )
    return replace(edge, matches=replace(edge.matches, index_i=index_i, index_j=index_j))


@pytest.mark.parametrize("seed", [3, 6, 7])
def test_a_loop_closes_over_a_weak_join(seed: int):
    walk = walked(seed)
    alignment = align(walk.photos, joined_at_two_places(walk))
    assert hanging_group(alignment) is None  # though either pair may have another pose
    found = scored(walk, alignment)
    assert found.placed >= COUNT - 3  # Those that stand at corners see next to nothing.
    assert found.max_rotation_deg < 0.5 and found.max_position_m < 0.1
    assert found.gap_m < 0.03


def few_joined_at_two_places(walk: Walk, few: range) -> PairEvidence:
    """What the photos say where a few of them have two pairs in common with the others: a weak join
    before the first and a pair as good as any after the last.
    """
    apart = walk.evidence.apart(np.isin(np.arange(COUNT), few))
    edges = {(e.matches.i, e.matches.j): e for e in walk.evidence.edges}
    join, back = edges[few[0] - 1, few[0]], edges[few[-1], few[-1] + 1]
    edges_now = [*apart.edges, alone(weakened(join), SHARED), alone(back, SHARED)]
    return replace(apart, edges=sorted(edges_now, key=lambda e: (e.matches.i, e.matches.j)))


def test_a_loop_about_few_photos_moves_these_alone(monkeypatch: pytest.MonkeyPatch):
    walk, few = walked(3), range(36, 43)
    moving: list[list[int]] = []
    adjust = closed_loops.adjust

    def adjusted(setup: Setup, structure: Structure, *args: object, **kwargs: object) -> Structure:
        found = adjust(setup, structure, *args, **kwargs)  # type: ignore[arg-type]
        poses = [one.cameras.cam_to_world for one in (structure, found)]
        moving.append(np.flatnonzero((poses[0] != poses[1]).any(axis=(1, 2))).tolist())
        return found

    monkeypatch.setattr(closed_loops, "adjust", adjusted)
    alignment = align(walk.photos, few_joined_at_two_places(walk, few))
    assert moving and all(set(photos) <= set(few) for photos in moving)
    found = scored(walk, alignment)
    assert found.placed >= COUNT - 3
    assert found.max_rotation_deg < 0.5 and found.max_position_m < 0.1


def test_a_loop_whose_size_nothing_tells_stays_open(monkeypatch: pytest.MonkeyPatch):
    # On level ground two pairs agree with a side of any size, if only it is at its place.
    def never(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(closed_loops, "adjust", never)
    walk = walked(3)
    found = scored(walk, align(walk.photos, joined_at_two_places(walk, shared=0)))
    assert found.placed == COUNT and found.max_position_m > 0.2  # open it is


def test_the_weakest_join_between_two_photos_is_found():
    shared = np.zeros((6, 6), np.int32)
    for i, j, points in ((0, 1, 90), (1, 2, 80), (2, 3, 5), (3, 4, 70), (4, 5, 60), (0, 5, 4)):
        shared[i, j] = shared[j, i] = points
    side = _weak_side(sparse.csr_matrix(shared), 1, 4, most=9)
    assert side is not None and np.flatnonzero(side).tolist() == [0, 1, 2]
    assert _weak_side(sparse.csr_matrix(shared), 1, 4, most=8) is None


def test_what_one_photo_joins_to_the_rest_is_found():
    tied = np.zeros((7, 7), bool)
    for i, j in ((0, 1), (1, 2), (0, 2), (2, 3), (2, 4), (3, 4), (4, 5)):
        tied[i, j] = tied[j, i] = True  # 2 joins 0 and 1 to 3, 4 and 5; nothing leads to 6
    graph = sparse.csr_matrix(tied)
    side = _side_of_joint(graph, 0, 3)
    assert side is not None and np.flatnonzero(side).tolist() == [0, 1]
    side = _side_of_joint(graph, 3, 0)
    assert side is not None and np.flatnonzero(side).tolist() == [3, 4, 5]
    assert _side_of_joint(graph, 0, 1) is None
    assert _side_of_joint(graph, 0, 6) is None


def test_a_pair_that_contradicts_no_more_is_left_alone(monkeypatch: pytest.MonkeyPatch):
    # One closed loop may turn the photos of another pair, which then ties nothing to anything.
    walk = walked(3)
    contradicting, closed = closed_loops._contradicting, []

    def at_first(*given: object) -> Mask:
        found = contradicting(*given)
        return np.zeros_like(found) if closed else found

    def closing(setup: object, before: Cameras, ties: object, edge: int, *_: object) -> Cameras:
        closed.append(edge)
        return before

    monkeypatch.setattr(closed_loops, "_contradicting", at_first)
    monkeypatch.setattr(closed_loops, "_closed", closing)
    align(walk.photos, joined_at_two_places(walk, returns=3))
    assert len(closed) == 1


def test_a_loop_that_opens_again_is_left_open(monkeypatch: pytest.MonkeyPatch):
    walk, closed = walked(3), []

    def closing(setup: object, before: Cameras, ties: object, edge: int, *_: object) -> Cameras:
        closed.append(edge)
        return before

    monkeypatch.setattr(closed_loops, "_closed", closing)
    align(walk.photos, joined_at_two_places(walk))
    assert closed and len(closed) == len(set(closed))
