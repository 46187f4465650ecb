"""The second alignment, after photos that few matches held are matched again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_network import tiny_config

from benchmarks.alignment_scale import scored
from benchmarks.walk_scenes import Walk, make_walk
from pointmap.network import DUSt3R
from recon.alignment import AlignOptions, align, align_scene
from recon.alignment.compared_pictures import ComparedPictures
from recon.inputs import Inputs
from recon.inputs.known_cameras import KnownCameras
from recon.stage_results import Alignment, PairEdge
from recon.two_view.magnified_matching import MatchedAgain

LOOSE = 7


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """The walk's photos were never taken."""
    monkeypatch.setattr(align_scene, "compare_pictures", lambda *_: ComparedPictures.none())


def walk_inputs() -> tuple[Walk, Inputs]:
    walk = make_walk(24, loop=60, seed=1)
    known = KnownCameras((None,) * 24, (None,) * 24)
    network = DUSt3R(tiny_config(64))
    return walk, Inputs(tuple(walk.photos), known, None, network, torch.device("cpu"))


def test_a_photo_that_few_matches_held_does_not_start_from_where_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # It may have been wrong, and better matches alone didn't lead out of it: fox-8 with 6 photos.
    walk, inputs = walk_inputs()
    starts: list[Alignment | None] = []

    def recorded(*arguments, start: Alignment | None = None, **settings) -> Alignment:
        starts.append(start)
        return align(*arguments, start=start, **settings)

    def matched_again(photos, features, finer, chosen, edges, focals) -> MatchedAgain:
        assert all(LOOSE in (pair.i, pair.j) for pair in chosen)
        return MatchedAgain(features, list(edges), changed=True)

    monkeypatch.setattr(align_scene, "align", recorded)
    monkeypatch.setattr(align_scene, "match_again", matched_again)
    monkeypatch.setattr(align_scene, "photos_with_few_matches", lambda _: np.array([LOOSE]))
    found = align_scene.align_scene(inputs, walk.features, walk.evidence, AlignOptions())
    first, second = starts
    assert first is None and second is not None
    assert [k for k, pose in enumerate(second.cam_to_world) if pose is None] == [LOOSE]
    assert found.cam_to_world[LOOSE] is not None
    assert scored(walk, found).max_position_m < 0.1


@pytest.mark.parametrize("by_place", [True, False])
def test_pairs_are_added_unless_all_were_chosen(
    monkeypatch: pytest.MonkeyPatch, by_place: bool
) -> None:
    walk, inputs = walk_inputs()
    looked_at: list[int] = []

    def edges_by_place(photos, features, matches, alignment, focals_px) -> list[PairEdge]:
        looked_at.append(len(matches))
        return []

    monkeypatch.setattr(align_scene, "edges_by_place", edges_by_place)
    monkeypatch.setattr(align_scene, "photos_with_few_matches", lambda _: np.zeros(0, np.int64))
    align_scene.align_scene(inputs, walk.features, walk.evidence, AlignOptions(), by_place=by_place)
    assert len(looked_at) == by_place


@pytest.mark.parametrize(("missing", "lines"), [(2, 2), (7, 1)])
def test_many_photos_without_a_place_are_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, missing: int, lines: int
) -> None:
    walk, inputs = walk_inputs()
    edges = [e for e in walk.evidence.edges if max(e.matches.i, e.matches.j) < 24 - missing]
    monkeypatch.setattr(align_scene, "edges_by_place", lambda *_: [])
    monkeypatch.setattr(align_scene, "photos_with_few_matches", lambda _: np.zeros(0, np.int64))
    evidence = replace(walk.evidence, edges=edges)
    found = align_scene.align_scene(inputs, walk.features, evidence, AlignOptions())
    assert sum(pose is None for pose in found.cam_to_world) == missing
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == lines
    names = [photo.name for photo in walk.photos[-missing:]]
    assert [name in " ".join(told) for name in names] == [
        k < 3 or lines > 1 for k in range(missing)
    ]
    assert all("no verified matches with any" in line for line in told)
    assert lines > 1 or told[0].startswith("7 photos could not be placed")


@pytest.mark.parametrize("finer", [True, False])
def test_photos_that_hang_on_one_pair_stay_where_finer_features_hold_them(
    monkeypatch: pytest.MonkeyPatch, finer: bool
) -> None:
    walk, inputs = walk_inputs()
    apart = walk.evidence.apart(np.arange(24) < 12)
    (whole,) = (e for e in walk.evidence.edges if (e.matches.i, e.matches.j) == (11, 12))
    some = np.flatnonzero(whole.pose.inliers)[:30]
    # Of points that no third photo sees, too.
    few = whole.matches.select(some)
    few = replace(few, index_i=few.index_i + 100_000, index_j=few.index_j + 100_000)
    weak = PairEdge(few, replace(whole.pose, inliers=np.ones(30, bool)))
    matched: list[tuple[int, int]] = []

    def matched_again(photos, features, finer_of, chosen, edges, focals) -> MatchedAgain:
        matched.extend((pair.i, pair.j) for pair in chosen)
        if not finer:
            return MatchedAgain(features, list(edges), changed=False)
        better = [whole if edge is weak else edge for edge in edges]
        return MatchedAgain(features, better, changed=True)

    monkeypatch.setattr(align_scene, "edges_by_place", lambda *_: [])
    monkeypatch.setattr(align_scene, "match_again", matched_again)
    monkeypatch.setattr(align_scene, "photos_with_few_matches", lambda _: np.zeros(0, np.int64))
    edges = sorted([*apart.edges, weak], key=lambda e: (e.matches.i, e.matches.j))
    evidence = replace(apart, edges=edges, matches=[edge.matches for edge in edges])
    found = align_scene.align_scene(inputs, walk.features, evidence, AlignOptions())
    assert matched == [(11, 12)]
    # A single pair with few matches doesn't say where they stand.
    assert sum(pose is not None for pose in found.cam_to_world) == (24 if finer else 12)
    if finer:
        assert scored(walk, found).max_position_m < 0.1
