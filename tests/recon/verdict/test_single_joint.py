"""Two groups of photos that one photo alone joins, so that their relative size is open."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.walk_scenes import Walk, make_walk
from recon.alignment import align
from recon.scene import Tracks
from recon.stage_results import Alignment
from recon.verdict.judge import judge
from recon.verdict.single_joint import joined_by_one

COUNT, JOINT = 16, 9


@pytest.fixture(scope="module")
def walk() -> Walk:
    return make_walk(COUNT, loop=60, seed=1)


@pytest.fixture(scope="module")
def alignment(walk: Walk) -> Alignment:
    return align(walk.photos, walk.evidence)


def without_points_across(alignment: Alignment, joint: int) -> Alignment:
    """Return it with points seen on one side of a photo alone, and the same of its pairs."""
    tracks = alignment.tracks
    before = np.zeros(len(tracks.points), bool)
    before[tracks.point_index[tracks.view_index < joint]] = True
    keep = (tracks.view_index <= joint) | ~before[tracks.point_index]
    edges = [
        (edge, used)
        for edge, used in zip(alignment.edges, alignment.used_edges, strict=True)
        if not edge.matches.i < joint < edge.matches.j
    ]
    return replace(
        alignment,
        tracks=Tracks(
            tracks.points,
            tracks.colours,
            tracks.point_index[keep],
            tracks.view_index[keep],
            tracks.xy[keep],
        ),
        edges=tuple(edge for edge, _ in edges),
        used_edges=np.array([used for _, used in edges], bool),
    )


def test_a_group_that_one_photo_joins_is_in_doubt(walk: Walk, alignment: Alignment) -> None:
    apart = without_points_across(alignment, JOINT)
    found = joined_by_one(apart)
    assert found is not None
    joint, group = found
    assert joint == JOINT and np.flatnonzero(group).tolist() == list(range(JOINT + 1, COUNT))
    verdict = judge(walk.photos, apart)
    assert verdict is not None and verdict.word == "doubtful"
    assert f"{walk.photos[JOINT].name} alone joins " in verdict.reason
    # What is known says how large each part is.
    given = judge(walk.photos, apart, given_poses=True)
    assert given is not None and given.word == "sound"


def test_few_at_the_end_of_a_walk_say_nothing_of_the_others(alignment: Alignment) -> None:
    assert joined_by_one(without_points_across(alignment, COUNT - 2)) is None
    assert joined_by_one(without_points_across(alignment, 1)) is None


def test_points_of_both_groups_tell_how_large_one_is(alignment: Alignment) -> None:
    apart = without_points_across(alignment, JOINT)
    tracks = apart.tracks
    before = np.flatnonzero(tracks.view_index < JOINT)

    def with_points_across(count: int) -> Alignment:
        some = before[np.unique(tracks.point_index[before], return_index=True)[1][:count]]
        more = replace(
            tracks,
            point_index=np.append(tracks.point_index, tracks.point_index[some]),
            view_index=np.append(tracks.view_index, np.full(count, JOINT + 1)),
            xy=np.append(tracks.xy, tracks.xy[some], axis=0),
        )
        return replace(apart, tracks=more)

    # One of a thousand may be seen there by chance.
    assert 1000 <= len(tracks.points) < 2000
    assert joined_by_one(with_points_across(1)) is not None
    assert joined_by_one(with_points_across(2)) is None


def test_pointmaps_tell_how_large_a_group_is(alignment: Alignment) -> None:
    apart = without_points_across(alignment, JOINT)
    tied = replace(apart, pointmap_pairs=np.array([[JOINT - 2, JOINT + 2]]))
    assert joined_by_one(tied) is None


def test_a_walk_is_joined_by_all_of_its_photos(walk: Walk, alignment: Alignment) -> None:
    assert joined_by_one(alignment) is None
    verdict = judge(walk.photos, alignment)
    assert verdict is not None and verdict.word == "sound"
