"""The alignment benchmark: what it measures, and the stored cases where they are at hand."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from benchmarks import alignment
from benchmarks.parity_cases import (
    REFERENCE,
    REFERENCE_KNOWN_DEPTH,
    kept_bit_equal,
    load_stored,
    stored_functions,
    stored_scenes,
)
from benchmarks.pointmap_runs import Truth, run_alignment, score
from benchmarks.pointmap_scenes import (
    EXACT,
    complete_pairs,
    make_room,
    predictions,
    ring_pairs,
)
from benchmarks.two_view_methods import overlap
from pointmap.camera import invert_rigid, pixel_centres, pixel_rays, transform_points


def test_exact_predictions_are_the_scene_in_camera_i() -> None:
    scene = make_room(2, 32, 24)
    (said,) = predictions(scene, [(1, 0)], EXACT)
    rays = pixel_rays(pixel_centres(32, 24), scene.intrinsics)
    other = transform_points(
        invert_rigid(scene.cam_to_world[1]) @ scene.cam_to_world[0],
        rays * scene.depth[0][..., None],
    )
    scale = said.points_i[0, 0, 2] / scene.depth[1, 0, 0]
    np.testing.assert_allclose(said.points_j, scale * other, rtol=1e-4, atol=1e-5)


def test_figures_are_zero_for_exact_predictions_and_not_for_others() -> None:
    scene = make_room(3, 32, 24)
    truth = Truth(scene.cam_to_world, float(scene.intrinsics[0, 0]), scene.depth)
    exact, noisy = (
        score(run_alignment(scene.photos, predictions(scene, complete_pairs(3), e)), truth)
        for e in (EXACT, None)
    )
    assert exact.placed == noisy.placed == 3
    for name in ("rotation_deg", "translation_percent", "focal_percent", "depth_percent"):
        assert getattr(exact, name) < 0.01 < getattr(noisy, name)
    # The unit is arbitrary, so that depth without a scale is wrong.
    assert exact.depth_as_is_percent > 1


def test_pairs_of_a_ring() -> None:
    pairs = ring_pairs(12, 4)
    assert len(pairs) == len(set(pairs)) == 48
    assert np.bincount(np.ravel(pairs)).tolist() == [8] * 12
    assert all(pairs[k + 1] == pairs[k][::-1] and pairs[k][0] < pairs[k][1]
               for k in range(0, 48, 2))  # fmt: skip


def test_wrong_pairs_agree_with_themselves() -> None:
    pairs = ring_pairs(12, 4)
    lies = alignment.wrong_pairs(pairs, 0.25, seed=0)
    assert len(lies) == 12
    for (i, j), pose in lies.items():
        np.testing.assert_allclose(pose @ lies[j, i], np.eye(4), atol=1e-12)


def test_overlap_is_full_with_itself_and_none_behind() -> None:
    scene = make_room(2, 32, 24, span_deg=20)
    assert overlap(scene, 0, 0) == 1 and 0.3 < overlap(scene, 0, 1) < 1


def test_without_fixtures_the_stored_cases_are_skipped(capsys: pytest.CaptureFixture[str]) -> None:
    assert alignment.main(["--only", "stored"]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.skipif("POINTMAP_SHARED" not in os.environ, reason="POINTMAP_SHARED is not set")
def test_stored_cases_are_no_worse_than_the_reference() -> None:
    folder = Path(os.environ["POINTMAP_SHARED"]) / "parity"
    stored = load_stored(folder)
    results = stored_scenes(stored)
    for views in (8, 5):
        run, found = results[f"{views} views"]
        rotation, translation, focal, depth, _ = REFERENCE[views]
        assert found.placed == views and run.predictions == views * (views - 1)
        assert found.rotation_deg <= rotation and found.translation_percent <= translation
        assert found.focal_percent <= focal and found.depth_percent <= depth
    run, found = results["5 known"]
    assert kept_bit_equal(run, stored.truth_of(5))
    assert found.depth_as_is_percent <= REFERENCE_KNOWN_DEPTH
    assert len(stored_functions(folder, stored)) == 4
