"""Lenses that do more than one radial coefficient says, found where the photos show them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from alignment_scenes import (
    FOCAL,
    HEIGHT,
    WIDTH,
    Scene,
    all_matches,
    arc_scene,
    evidence_of,
    phone_photos,
    pose_errors_deg,
)

from pointmap.camera import Array, invert_rigid, pinhole, project, transform_points
from pointmap.lens import Lens
from recon.alignment.align import align
from recon.alignment.fisheyes import as_fisheyes
from recon.alignment.lens_choice import with_chosen_lenses
from recon.alignment.refinement import AlignOptions, LensModel
from recon.inputs import Inputs
from recon.inputs.known_cameras import KnownCameras
from recon.stage_results import NetworkResult, PairMatches, PhotoFeatures
from recon.two_view.focal_lengths import FocalOptions
from recon.two_view.gather_evidence import Matched
from recon.work.packing import pack

COUNT = 5
PHOTOS = phone_photos(COUNT)
NONE: tuple[None, ...] = (None,) * COUNT


def shown(K: Array, lens: Lens, extent: float = 1.6) -> Scene:
    """Return an arc of photos as a lens shows it, with a little noise."""
    scene = arc_scene(COUNT, 400, span_deg=50, seed=1, extent=extent, visible=1.0)
    xy = np.stack(
        [
            project(transform_points(invert_rigid(pose), scene.points), K, lens)
            for pose in scene.cam_to_world
        ]
    )
    rng = np.random.default_rng(0)
    xy += rng.normal(0, 0.3, xy.shape)
    inside = ((xy >= 0) & (xy < [WIDTH, HEIGHT])).all(axis=2) & (rng.random(xy.shape[:2]) < 0.7)
    return replace(scene, xy=np.where(inside[..., None], xy, np.nan))


def test_a_crop_off_the_centre_gets_its_principal_point() -> None:
    K = pinhole(FOCAL, WIDTH, HEIGHT)
    K[:2, 2] += [85.0, 60.0]
    scene = shown(K, Lens())
    evidence = evidence_of(PHOTOS, all_matches(scene.xy))
    before = align(PHOTOS, evidence)
    found = with_chosen_lenses(PHOTOS, evidence, before, AlignOptions())
    assert np.allclose(found.intrinsics, K, atol=8.0)
    rotation, direction = pose_errors_deg(found, scene.cam_to_world)
    assert np.median(np.maximum(*pose_errors_deg(before, scene.cam_to_world))) > 3
    assert np.median(rotation) < 0.4 and np.median(direction) < 0.8


def test_a_second_coefficient_is_found_where_there_is_one() -> None:
    scene = shown(pinhole(FOCAL, WIDTH, HEIGHT), Lens("RADIAL", (-0.35, 0.45)))
    evidence = evidence_of(PHOTOS, all_matches(scene.xy))
    found = with_chosen_lenses(PHOTOS, evidence, align(PHOTOS, evidence), AlignOptions())
    assert {lens.model for lens in found.lenses} == {"RADIAL"}
    assert np.allclose(found.lenses[0].k1_k2, (-0.35, 0.45), atol=0.08)
    assert np.median(np.maximum(*pose_errors_deg(found, scene.cam_to_world))) < 0.5


def test_what_two_coefficients_and_a_centre_explain_is_no_fisheye() -> None:
    K = pinhole(300.0, WIDTH, HEIGHT)
    K[0, 2] -= 60
    matches = all_matches(shown(K, Lens("RADIAL", (-0.3, 0.07)), extent=2.0).xy)
    evidence = evidence_of(PHOTOS, matches)
    given = (evidence, align(PHOTOS, evidence)), FocalOptions(), AlignOptions()
    none = PhotoFeatures(np.zeros((0, 2)), np.zeros((0, 128)), np.zeros((0, 3), np.uint8))
    matched = material(matches, [none] * len(PHOTOS))
    with matched.inputs.work.held():
        assert as_fisheyes(matched, *given) is None


def test_a_lens_of_one_coefficient_stays_one_to_the_last_bit() -> None:
    matches = all_matches(shown(pinhole(FOCAL, WIDTH, HEIGHT), Lens.radial(-0.1)).xy)
    evidence = evidence_of(PHOTOS, matches)
    alignment = align(PHOTOS, evidence)
    assert with_chosen_lenses(PHOTOS, evidence, alignment, AlignOptions()) is alignment
    assert all(alignment.lenses)
    assert not any(align(PHOTOS, evidence, lens=LensModel(k1=False)).lenses)
    given = (evidence, alignment), FocalOptions(), AlignOptions()
    assert as_fisheyes(material(evidence.matches, []), *given) is None


def material(matches: list[PairMatches], features: list[PhotoFeatures]) -> Matched:
    inputs = Inputs(tuple(PHOTOS), KnownCameras(NONE, NONE), None, None, torch.device("cpu"))  # type: ignore[arg-type]
    return Matched(inputs, features, matches, NetworkResult((), [], [], {}))


@pytest.mark.parametrize(
    ("exif", "shift_px"), [(False, (0.0, 0.0)), (True, (0.0, 0.0)), (False, (70.0, -40.0))]
)
def test_a_fisheye_is_found_by_its_matches(
    exif: bool, shift_px: tuple[float, float], caplog: pytest.LogCaptureFixture
) -> None:
    """120 degrees of view along the long side, where pinholes place every photo wrongly; also of
    photos that were cut out of larger ones, all at one place.
    """
    K, lens = pinhole(305.0, WIDTH, HEIGHT), Lens.solved(0.0, 0.0, True)
    K[:2, 2] += shift_px
    scene = shown(K, lens, extent=2.6)
    matches = all_matches(scene.xy)
    evidence = evidence_of(PHOTOS, matches)
    if exif:
        told = replace(evidence.focals, sources=("exif",) * len(PHOTOS))
        evidence = replace(evidence, focals=told)
    before = align(PHOTOS, evidence)
    features = [
        PhotoFeatures(
            np.nan_to_num(xy),
            np.zeros((len(xy), 128), np.float32),
            np.zeros((len(xy), 3), np.uint8),
        )
        for xy in scene.xy
    ]
    matched = material(matches, features)
    with matched.inputs.work.held():
        found = as_fisheyes(matched, (evidence, before), FocalOptions(), AlignOptions())
    assert found is not None and "fisheye" in caplog.text
    assert pack(found)
    solved = found[1]
    assert {one.model for one in solved.lenses} == {"OPENCV_FISHEYE"}
    assert np.allclose(solved.intrinsics[:, 0, 0], 305.0, rtol=0.01)
    assert np.abs(solved.intrinsics[:, :2, 2] - K[:2, 2]).max() < 4
    assert np.median(np.maximum(*pose_errors_deg(solved, scene.cam_to_world))) < 0.3
    assert np.array_equal(found[0].edges[0].matches.xy_i, matches[0].xy_i)
