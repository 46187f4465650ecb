"""A remedy: cameras of another start are taken where the matches fit them far better."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from alignment_scenes import (
    FOCAL,
    HEIGHT,
    WIDTH,
    all_matches,
    arc_scene,
    evidence_of,
    pose_errors_deg,
)

from pointmap.images import Photo
from recon.alignment.align import align
from recon.alignment.refinement import AlignOptions
from recon.camera_stages import Matched, solved_with_lenses
from recon.options import Options
from recon.progress import Run
from recon.stage_results import Alignment, Focals, NetworkResult, PairEvidence, PhotoPrior
from recon.verdict.better_start import from_better_start
from recon.work.folder import Work
from recon.work.on_demand import Mapped

COUNT = 4
PHOTOS = [Photo(Path(f"{k}.jpg"), f"{k}.jpg", WIDTH, HEIGHT, None, "phone") for k in range(COUNT)]
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


def test_the_run_keeps_them_and_gives_priors_back(
    stuck: PairEvidence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Priors are read on demand, as no kept result can be."""
    nothing = PhotoPrior(np.zeros((1, 1, 3), np.float32), np.zeros((1, 1), np.float32), FOCAL)
    priors = Mapped(lambda _: nothing, range(COUNT))
    evidence, wrong = replace(stuck, priors=priors), align(PHOTOS, stuck)
    monkeypatch.setattr("recon.camera_stages.solved_lenses", lambda *_, **__: wrong)
    unknown = (None,) * COUNT
    for _ in range(2):
        inputs: Any = SimpleNamespace(
            photos=tuple(PHOTOS),
            known=SimpleNamespace(lenses=unknown, cam_to_world=unknown),
            depth_model=None,
            work=Work(tmp_path / "work"),
        )
        matched = Matched(inputs, (), stuck.matches, NetworkResult((), priors, [], {}))
        with Run() as run:
            found = solved_with_lenses(matched, (evidence, wrong), Options(lens="radial"), run)
        assert found[0].priors is priors
        assert _error_deg(found[1]) < 1
        assert any("from another focal length" in warning for warning in run.warnings)
