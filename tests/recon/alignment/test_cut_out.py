"""Photos that were cut out of larger ones, each elsewhere."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from alignment_scenes import HEIGHT, WIDTH, all_matches, arc_scene, evidence_of, phone_photos

from pointmap.camera import Array, rotation_angle_deg
from recon.alignment import zooms
from recon.alignment.align import align
from recon.alignment.cut_out import as_cut_out, explains
from recon.alignment.principal_points import with_principal_points
from recon.alignment.refinement import AlignOptions
from recon.alignment.solved_lenses import solved_lenses
from recon.alignment.zooms import cameras_by_zoom
from recon.stage_results import Alignment, PairEvidence
from recon.verdict.judge import judge

COUNT, SHARE = 8, 0.75
SIZE = np.array([WIDTH, HEIGHT]) * SHARE
PHOTOS = phone_photos(COUNT, int(SIZE[0]), int(SIZE[1]))


def cut_out(corners: Array) -> tuple[PairEvidence, Array]:
    """Return what matches say of windows at ``corners`` (COUNT, 2), shares of what is left, of
    photos around a thing; and the true poses.
    """
    scene = arc_scene(COUNT, 350, noise_px=0.2, span_deg=70, seed=3)
    xy = scene.xy - (corners * (1 - SHARE) * [WIDTH, HEIGHT])[:, None]
    xy[((xy < 0) | (xy > SIZE)).any(axis=2)] = np.nan
    return evidence_of(PHOTOS, all_matches(xy)), scene.cam_to_world


def turned_wrong_deg(alignment: Alignment, truth: Array) -> float:
    """Return the median error of the photos' relative rotations."""
    poses = [pose for pose in alignment.cam_to_world if pose is not None]
    assert len(poses) == COUNT
    errors = [
        rotation_angle_deg(
            (poses[i][:3, :3].T @ poses[j][:3, :3]).T @ truth[i][:3, :3].T @ truth[j][:3, :3]
        )
        for i, j in combinations(range(COUNT), 2)
    ]
    return float(np.median(errors))


def test_each_gets_a_principal_point_of_its_own() -> None:
    evidence, truth = cut_out(np.random.default_rng(1).random((COUNT, 2)))
    centred = align(PHOTOS, evidence)
    assert turned_wrong_deg(centred, truth) > 3
    found = as_cut_out(PHOTOS, evidence, centred, centred, AlignOptions())
    assert found is not None and turned_wrong_deg(found, truth) < 1
    assert found.cut_out
    verdict = judge(PHOTOS, found)
    assert verdict is not None and verdict.word == "doubtful" and "original" in verdict.reason


def test_of_those_that_were_not_cut_out_the_principal_point_stays() -> None:
    corners = np.full((COUNT, 2), 0.5)
    corners[[2, 5]] = [[0.05, 0.9], [1.0, 0.2]]
    evidence, truth = cut_out(corners)
    centred = align(PHOTOS, evidence)
    found = as_cut_out(PHOTOS, evidence, centred, centred, AlignOptions())
    assert found is not None and turned_wrong_deg(found, truth) < 0.3
    off = np.linalg.norm(found.intrinsics[:, :2, 2] - SIZE / 2, axis=1)
    assert (off > 0).tolist() == [k in (2, 5) for k in range(COUNT)]


def test_where_they_may_be_cut_out_it_is_their_lens_that_is_solved() -> None:
    evidence, truth = cut_out(np.random.default_rng(1).random((COUNT, 2)))
    centred = align(PHOTOS, evidence)
    found = solved_lenses(PHOTOS, evidence, centred, AlignOptions())
    assert turned_wrong_deg(found, truth) < 1
    assert len(np.unique(found.intrinsics[:, :2, 2], axis=0)) == COUNT
    shared = solved_lenses(PHOTOS, evidence, centred, AlignOptions(), cut_out=False)
    assert len(np.unique(shared.intrinsics[:, :2, 2], axis=0)) == 1


def test_whole_photos_have_the_lens_that_they_share() -> None:
    evidence, _ = cut_out(np.full((COUNT, 2), 0.5))
    centred = align(PHOTOS, evidence)
    found = solved_lenses(PHOTOS, evidence, centred, AlignOptions())
    usual = with_principal_points(PHOTOS, centred, evidence.focals)
    assert np.array_equal(found.intrinsics, usual.intrinsics)
    assert found.lenses == usual.lenses


def test_what_does_not_explain_the_matches_is_no_cutting_out() -> None:
    # Half of the pairs of two photos are of turned pictures: no camera fits them all.
    evidence, _ = cut_out(np.random.default_rng(1).random((COUNT, 2)))
    turn = np.array([[0.9, -0.436], [0.436, 0.9]])
    edges = [
        replace(e, matches=replace(e.matches, xy_i=(e.matches.xy_i - SIZE / 2) @ turn + SIZE / 2))
        if e.matches.i in (0, 3) and e.matches.j % 2
        else e
        for e in evidence.edges
    ]
    evidence = replace(evidence, edges=edges)
    centred = align(PHOTOS, evidence)
    assert as_cut_out(PHOTOS, evidence, centred, centred, AlignOptions()) is None


def test_lenses_of_their_own_have_to_explain_more_matches() -> None:
    """A chess board that is matched a square aside fits centres of its own, but no more of it."""
    evidence, _ = cut_out(np.random.default_rng(1).random((COUNT, 2)))
    centred = align(PHOTOS, evidence)
    found = as_cut_out(PHOTOS, evidence, centred, centred, AlignOptions())
    assert found is not None
    assert explains(PHOTOS, found, centred)
    assert not explains(PHOTOS, found, found)


def test_photos_as_they_were_taken_stay_so() -> None:
    evidence, _ = cut_out(np.full((COUNT, 2), 0.5))
    centred = align(PHOTOS, evidence)
    assert as_cut_out(PHOTOS, evidence, centred, centred, AlignOptions()) is None


@pytest.mark.parametrize("corner", [(0.05, 0.95), (0.0, 0.0)])
def test_photos_cut_out_at_the_same_place_are_not_taken_for_zooms(
    corner: tuple[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    evidence, _ = cut_out(np.tile(corner, (COUNT, 1)))
    centred = align(PHOTOS, evidence)
    assert cameras_by_zoom(PHOTOS, evidence, centred, AlignOptions()) is None
    # Beside cameras whose centre stays in the middle zooms explain the matches far better.
    monkeypatch.setattr(zooms, "solved_lenses", lambda photos, evidence, alignment, _: alignment)
    assert cameras_by_zoom(PHOTOS, evidence, centred, AlignOptions()) is not None
