"""Cameras that are solved for again from other focal lengths: right ones come out again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from alignment_scenes import (
    FOCAL,
    all_matches,
    arc_scene,
    evidence_of,
    phone_photos,
    pose_errors_deg,
)

from pointmap.camera import (
    Array,
    project,
)
from pointmap.images import Photo
from pointmap.lens import Lens
from recon.alignment.align import align
from recon.alignment.refinement import AlignOptions
from recon.camera_stages import evidence_once, solved_again_once
from recon.stage_results import Alignment, Focals, PairEvidence
from recon.verdict.better_start import from_better_start
from recon.verdict.evidence import SceneEvidence, scene_evidence
from recon.verdict.judge import asked_again, judge, verdict_of
from recon.verdict.probability import probability_wrong
from recon.verdict.solved_again import SolvedAgain, solved_again, solved_again_deg
from recon.work.folder import Work

COUNT = 4
PHOTOS = phone_photos(COUNT)
SCENE = arc_scene(COUNT, 300, noise_px=1.0, span_deg=24, seed=3)


def _solved(focals: Focals | None = None) -> Alignment:
    """Return the cameras that the scene's matches lead to, with ``focals`` if they are given."""
    return align(PHOTOS, evidence_of(PHOTOS, all_matches(SCENE.xy), focals))


def _half() -> Focals:
    groups = np.zeros(COUNT, np.int64)
    return Focals(np.full(COUNT, FOCAL / 2), np.full(COUNT, 1e-3), ("epipolar",) * COUNT, groups)


@pytest.fixture(scope="module")
def right() -> Alignment:
    return _solved()


@pytest.fixture(scope="module")
def stuck() -> Alignment:
    """Return cameras that ended at half the focal length, all of whose matches fit."""
    return _solved(_half())


def test_right_cameras_come_out_again(right: Alignment) -> None:
    again = solved_again_deg(solved_again(PHOTOS, right))
    assert again is not None
    assert again < 1


def test_lenses_are_held_as_they_were_found(right: Alignment) -> None:
    """Photos bent and cut out off their centre, of which both are known, are right."""
    lens, off = Lens.solved(-0.08, 0.02, False), np.array([50.0, -30.0])
    intrinsics = right.intrinsics.copy()
    intrinsics[:, :2, 2] += off

    def bent(k: int, xy: Array) -> Array:
        K = right.intrinsics[k]
        rays = (xy - K[:2, 2]) / K[0, 0]
        return project(np.column_stack([rays, np.ones(len(rays))]), intrinsics[k], lens)

    edges = []
    for edge in right.edges:
        m = edge.matches
        matches = replace(m, xy_i=bent(m.i, m.xy_i), xy_j=bent(m.j, m.xy_j))
        edges.append(replace(edge, matches=matches))
    moved = replace(right, intrinsics=intrinsics, lenses=(lens,) * COUNT, edges=tuple(edges))
    again = solved_again_deg(solved_again(PHOTOS, moved))
    assert again is not None
    assert again < 1


def test_cameras_that_matches_do_not_hold_come_out_elsewhere(stuck: Alignment) -> None:
    wrong_deg = np.median(np.maximum(*pose_errors_deg(stuck, SCENE.cam_to_world)))
    assert wrong_deg > 5
    # By as much as they are wrong.
    again = solved_again_deg(solved_again(PHOTOS, stuck))
    assert again == pytest.approx(wrong_deg, rel=0.2)


def test_it_alone_tells_a_wrong_scene_whose_matches_fit(stuck: Alignment) -> None:
    evidence = scene_evidence(PHOTOS, stuck)
    assert evidence.explained > 0.95
    assert verdict_of(evidence, [""] * COUNT).word == "sound"
    verdict = judge(PHOTOS, stuck)
    assert verdict is not None
    assert verdict.word != "sound"
    assert "solved for again" in verdict.reason
    # Who gives focal lengths or a depth model's maps knows more than matches do.
    for told in ({"given_lenses": True}, {"given_poses": True}, {"by_maps": True}):
        verdict = judge(PHOTOS, stuck, **told)
        assert verdict is not None
        assert verdict.word == "sound"


def test_it_leaves_a_right_scene_alone(right: Alignment) -> None:
    verdict = judge(PHOTOS, right)
    assert verdict is not None
    assert verdict.word == "sound"


def test_a_scene_in_which_nothing_is_open_is_not_solved_again(right: Alignment) -> None:
    def elsewhere(photos: Sequence[Photo], alignment: Alignment) -> list[SolvedAgain]:
        return [SolvedAgain(alignment, apart_deg=7.0, left=1.0)]

    evidence = replace(scene_evidence(PHOTOS, right), error_deg=0.9, shift_deg=0.5, left=0.95)
    for clear in (replace(evidence, error_deg=0.1), replace(evidence, strain=2.0)):
        assert asked_again(clear, PHOTOS, right, elsewhere) == clear
    asked = asked_again(evidence, PHOTOS, right, elsewhere)
    assert asked == replace(evidence, again_deg=7.0)


def test_what_comes_out_again_is_less_likely_wrong(right: Alignment) -> None:
    evidence = scene_evidence(PHOTOS, right)
    loose = replace(evidence, error_deg=2.3, shift_deg=1.0, left=0.95)

    def probability(again_deg: float) -> float:
        told: SceneEvidence = replace(loose, again_deg=again_deg)
        return probability_wrong(told)

    rising = [probability(deg) for deg in (0.15, 0.5, 2.0, 10.0, 60.0)]
    assert rising == sorted(rising)
    assert rising[0] < 0.5 < rising[-1]


def test_where_photos_stand_close_together_another_direction_is_less_of_a_sign(
    right: Alignment,
) -> None:
    evidence = replace(
        scene_evidence(PHOTOS, right), error_deg=2.3, shift_deg=1.0, left=0.95, again_deg=6.0
    )
    centres = np.array([pose[:3, 3] for pose in right.cam_to_world if pose is not None])
    distance = np.median(np.linalg.norm(right.tracks.points - np.median(centres, axis=0), axis=1))
    apart = [np.linalg.norm(a - b) for a, b in combinations(centres, 2)]
    assert evidence.parallax_deg == pytest.approx(np.degrees(np.median(apart) / distance))
    likely = [probability_wrong(replace(evidence, parallax_deg=deg)) for deg in (1.0, 4.0, 40.0)]
    assert likely == sorted(likely)
    assert likely[0] < 0.5 < likely[2]


def test_focal_lengths_that_exif_tells_are_not_put_in_doubt(stuck: Alignment) -> None:
    told = [replace(photo, exif_focal_px=500.0) for photo in PHOTOS]
    assert solved_again_deg(solved_again(told, stuck)) is None
    pair = replace(stuck, cam_to_world=(*stuck.cam_to_world[:2], *[None] * (COUNT - 2)))
    assert solved_again_deg(solved_again(PHOTOS, pair)) is None


def test_remedy_and_verdict_look_at_a_doubtful_scene_and_solve_it_once(
    stuck: Alignment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, looked = [], []

    def told(photos: Sequence[Photo], alignment: Alignment) -> SceneEvidence:
        looked.append(alignment)
        return scene_evidence(photos, alignment)

    def counted(photos: Sequence[Photo], alignment: Alignment) -> list[SolvedAgain]:
        calls.append(alignment)
        return solved_again(photos, alignment)

    monkeypatch.setattr("recon.camera_stages.scene_evidence", told)
    monkeypatch.setattr("recon.camera_stages.solved_again", counted)
    plain = judge(PHOTOS, stuck)
    assert plain is not None
    assert plain.word != "sound"
    # The second run reads what the first one kept.
    for _ in range(2):
        work = Work(tmp_path / "work")
        tell, again = partial(evidence_once, work), partial(solved_again_once, work)
        evidence = PairEvidence([], list(stuck.edges), _half(), [], [])
        # No better ones, so that these are judged.
        monkeypatch.setattr("recon.verdict.better_start._BETTER", 0.0)
        options = AlignOptions()
        found = from_better_start(PHOTOS, evidence, stuck, options, tell=tell, again=again)
        assert found is None
        assert len(calls) == len(looked) == 1
        assert judge(PHOTOS, stuck, tell=tell, again=again) == plain
        assert len(calls) == len(looked) == 1
    # Of other cameras, and of other photos, it is something else.
    other = replace(stuck, intrinsics=1.01 * stuck.intrinsics)
    assert tell(PHOTOS, other).error_deg == scene_evidence(PHOTOS, other).error_deg
    stated = [replace(photo, exif_focal_px=500.0) for photo in PHOTOS]
    assert tell(stated, stuck).focal_spread == 0.0
    assert len(looked) == 3
