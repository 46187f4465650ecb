"""A remedy: cameras of another start are taken where the matches fit them far better."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from alignment_scenes import (
    FOCAL,
    all_matches,
    arc_scene,
    evidence_of,
    phone_photos,
    pose_errors_deg,
)

from recon.alignment.align import align
from recon.alignment.refinement import AlignOptions
from recon.camera_stages import solved_with_lenses
from recon.inputs import Inputs
from recon.inputs.known_cameras import KnownCameras
from recon.options import Options
from recon.progress import Run
from recon.stage_results import Alignment, Focals, NetworkResult, PairEvidence, PhotoPrior
from recon.two_view.gather_evidence import Matched
from recon.verdict.better_start import from_better_start
from recon.work.folder import Work
from recon.work.on_demand import Mapped

COUNT = 4
PHOTOS = phone_photos(COUNT)
SCENE = arc_scene(COUNT, 300, noise_px=0.3, span_deg=24, seed=3)


def _error_deg(alignment: Alignment) -> float:
    return float(np.median(np.maximum(*pose_errors_deg(alignment, SCENE.cam_to_world))))


@pytest.fixture(scope="module")
def stuck() -> PairEvidence:
    """Return what leads to cameras of half the focal length."""
    groups = np.zeros(COUNT, np.int64)
    half = Focals(np.full(COUNT, FOCAL / 2), np.full(COUNT, 1e-3), ("epipolar",) * COUNT, groups)
    return evidence_of(PHOTOS, all_matches(SCENE.xy), half)


def test_cameras_of_a_wrong_focal_length_become_right(
    stuck: PairEvidence, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = align(PHOTOS, stuck)
    found = from_better_start(PHOTOS, stuck, wrong, AlignOptions())
    assert found is not None
    evidence, alignment = found
    assert _error_deg(wrong) > 5
    assert _error_deg(alignment) < 1
    # As many focal lengths as before: one.
    assert len(np.unique(alignment.intrinsics[:, 0, 0])) == 1
    assert evidence.focals.groups.tolist() == stuck.focals.groups.tolist()
    assert "from another focal length" in caplog.text


def test_cameras_of_another_start_are_kept_without_the_networks_depth(
    stuck: PairEvidence, tmp_path: Path
) -> None:
    """Which is read when it is asked for, and cannot be kept with them."""
    evidence = replace(stuck, priors=Mapped(_unseen, [photo.name for photo in PHOTOS]))
    none: tuple[None, ...] = (None,) * COUNT
    found = evidence, align(PHOTOS, evidence)
    for _ in range(2):
        work = Work(tmp_path / "work")
        inputs = Inputs(
            tuple(PHOTOS),
            KnownCameras(none, none),
            None,
            None,  # type: ignore[arg-type]
            torch.device("cpu"),
            work,
        )
        with work.held():
            matched = Matched(inputs, [], evidence.matches, NetworkResult((), [], [], {}))
            told, alignment = solved_with_lenses(matched, found, Options(lens="radial"), Run())
        assert _error_deg(alignment) < 1
        assert told.priors is evidence.priors


def _unseen(name: str) -> PhotoPrior:
    none = np.zeros((1, 1), np.float32)
    return PhotoPrior(np.zeros((1, 1, 3), np.float32), none, FOCAL)


def test_right_cameras_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where something speaks against them."""
    monkeypatch.setattr("recon.verdict.better_start._in_doubt", lambda *_: True)
    evidence = evidence_of(PHOTOS, all_matches(SCENE.xy))
    assert from_better_start(PHOTOS, evidence, align(PHOTOS, evidence), AlignOptions()) is None


def test_what_is_known_of_focal_lengths_is_not_put_in_doubt(stuck: PairEvidence) -> None:
    wrong = align(PHOTOS, stuck)
    told = [replace(photo, exif_focal_px=FOCAL / 2) for photo in PHOTOS]
    assert from_better_start(told, stuck, wrong, AlignOptions()) is None
    given = replace(stuck, focals=replace(stuck.focals, sources=("given",) * COUNT))
    assert from_better_start(PHOTOS, given, wrong, AlignOptions()) is None
