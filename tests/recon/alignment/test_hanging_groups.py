"""Groups of photos that a single pair joins, rightly or wrongly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.walk_scenes import Walk, make_walk
from pointmap.camera import rigid, rotation_exp
from recon.alignment import align
from recon.alignment.hanging_groups import hanging_group, weak_ties
from recon.stage_results import PairEdge, PairEvidence

COUNT, CUT = 40, 26


@pytest.fixture(scope="module")
def walk() -> Walk:
    return make_walk(COUNT, loop=60, seed=1)


def joined_by_one_pair(walk: Walk) -> PairEvidence:
    """What the walk's photos say where two halves have one pair in common, and that is wrong."""

    def bent(edge: PairEdge) -> PairEdge:
        turn = rigid(rotation_exp(np.array([0.0, 1.0, 0.0])), np.zeros(3))
        few = np.flatnonzero(edge.pose.inliers)[:30]
        return replace(
            edge,
            matches=edge.matches.select(few),
            pose=replace(
                edge.pose,
                cam2_to_cam1=turn @ edge.pose.cam2_to_cam1,
                inliers=np.ones(len(few), bool),
            ),
        )

    first = np.arange(COUNT) < CUT
    apart = walk.evidence.apart(first)
    ends = {CUT - 1, CUT}
    bridge = [e for e in walk.evidence.edges if {e.matches.i, e.matches.j} == ends]
    assert bridge
    return replace(apart, edges=[*apart.edges, *map(bent, bridge)])


def test_photos_that_a_wrong_pair_joins_to_the_others_are_found(walk: Walk) -> None:
    alignment = align(walk.photos, joined_by_one_pair(walk))
    assert all(pose is not None for pose in alignment.cam_to_world)  # nothing contradicts it
    group = hanging_group(alignment)
    assert group is not None and np.flatnonzero(group).tolist() == list(range(CUT, COUNT))
    assert weak_ties(alignment) == {(CUT - 1, CUT)}


def test_a_walk_hangs_together(walk: Walk) -> None:
    alignment = align(walk.photos, walk.evidence)
    assert hanging_group(alignment) is None and weak_ties(alignment) == set()


def test_a_pair_that_many_matches_agree_on_joins_groups(walk: Walk) -> None:
    """As at a street corner, where photos a step apart see much that no third one does."""
    apart = walk.evidence.apart(np.arange(COUNT) < CUT)
    edges = {(e.matches.i, e.matches.j): e for e in walk.evidence.edges}
    bridge = edges[CUT - 1, CUT]
    own = replace(
        bridge.matches,
        index_i=bridge.matches.index_i + 100_000,
        index_j=bridge.matches.index_j + 100_000,
    )
    bridge = replace(bridge, matches=own)
    assert bridge.pose.inliers.sum() > 60
    alignment = align(walk.photos, replace(apart, edges=[*apart.edges, bridge]))
    assert hanging_group(alignment) is None
    # Unless they agree as well on another pose.
    other = replace(bridge, pose=replace(bridge.pose, alternative=np.eye(4)))
    edges_now = [other if edge is bridge else edge for edge in alignment.edges]
    assert hanging_group(replace(alignment, edges=tuple(edges_now))) is not None


def test_trusted_pointmaps_join_groups_too(walk: Walk) -> None:
    alignment = align(walk.photos, joined_by_one_pair(walk))
    tied = replace(alignment, pointmap_pairs=np.array([[0, COUNT - 1]]))
    assert hanging_group(tied) is None
