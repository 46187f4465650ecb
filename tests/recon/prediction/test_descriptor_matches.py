"""Reciprocal matching of local features: against the reference, and on a scene with known truth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from synthetic import Shot, shoot
from two_views import photo, predict

from pointmap.camera import invert_rigid, project, transform_points, unproject
from pointmap.inference import LocalFeatures, PairPrediction
from recon.prediction.descriptor_matches import (
    match_descriptors,
    reciprocal_matches,
    symmetric_matches,
)
from recon.stage_results import PairMatches
from recon.two_view.epipolar import angles_between_deg
from recon.two_view.relative_pose import verify_pair

CPU = torch.device("cpu")
STORED = Path(__file__).parents[2] / "data" / "network" / "reciprocal.npz"


@pytest.fixture(scope="module")
def stored() -> dict[str, NDArray]:
    with np.load(STORED) as file:
        return dict(file)


@pytest.mark.parametrize("step", [8, 2, 1])
def test_matches_are_the_reference_ones(stored: dict[str, NDArray], step: int) -> None:
    found = reciprocal_matches(stored["desc1"], stored["desc2"], step=step, device=CPU)
    for number, side in zip(found, (1, 2), strict=True):
        xy = np.stack([number % 32, number // 32], axis=1)
        np.testing.assert_array_equal(xy, stored[f"sub{step}_xy{side}"])


def test_symmetric_matches_are_the_reference_ones(stored: dict[str, NDArray]) -> None:
    features = [LocalFeatures(stored[f"desc{k}"], stored[f"conf{k}"]) for k in (1, 2)]
    found = symmetric_matches(*features, step=4, device=CPU)
    for number, side in ((found.number_1, 1), (found.number_2, 2)):
        xy = np.stack([number % 32, number // 32], axis=1)
        np.testing.assert_array_equal(xy, stored[f"extract_xy{side}"])
    np.testing.assert_array_equal(found.confidence, stored["extract_conf"])


@pytest.fixture(scope="module")
def shots() -> list[Shot]:
    return shoot(2, width=160, height=120, span_deg=14)


def world_points(shot: Shot) -> NDArray:
    return transform_points(shot.cam_to_world, unproject(shot.depth, shot.intrinsics))


def with_features(
    prediction: PairPrediction, shots: list[Shot], confidence: NDArray | None = None
) -> PairPrediction:
    """Add descriptors that say where in the world a pixel's point is (random Fourier features)."""
    rng = np.random.default_rng(0)
    directions, phases = rng.normal(0, 4, (3, 24)), rng.uniform(0, 2 * np.pi, 24)
    features = []
    for k in (prediction.i, prediction.j):
        waves = np.cos(world_points(shots[k]) @ directions + phases)
        unit = waves / np.linalg.norm(waves, axis=-1, keepdims=True)
        sure = np.ones(unit.shape[:2]) if confidence is None else confidence
        features.append(LocalFeatures(unit.astype(np.float16), sure.astype(np.float32)))
    return replace(prediction, features_i=features[0], features_j=features[1])


def both_ways(shots: list[Shot], confidence: NDArray | None = None) -> list[PairPrediction]:
    return [with_features(predict(shots, i, j), shots, confidence) for i, j in ((0, 1), (1, 0))]


def error_px(matches: PairMatches, shots: list[Shot]) -> NDArray:
    """Return by how many network pixels matches miss the point's true place in photo j."""
    scale = np.array([640 / 160, 480 / 120])
    column, row = (matches.xy_i / scale).astype(int).T
    world = world_points(shots[0])[row, column]
    there = transform_points(invert_rigid(shots[1].cam_to_world), world)
    return np.linalg.norm(project(there, shots[1].intrinsics) - matches.xy_j / scale, axis=1)


def test_descriptor_matches_are_the_same_scene_points(shots: list[Shot]) -> None:
    matches = match_descriptors(*both_ways(shots), [photo(), photo()], device=CPU)
    assert matches is not None and (matches.i, matches.j) == (0, 1) and len(matches) > 300
    assert np.median(error_px(matches, shots)) < 0.75
    assert matches.sigma_px == pytest.approx(0.75 * 4)
    assert (matches.index_i == -1).all()


def test_the_surest_matches_are_kept_and_impossible_ones_never(shots: list[Shot]) -> None:
    confidence = np.ones((120, 160))
    confidence[:, :80], confidence[60:] = 2.0, 0.0
    pair = both_ways(shots, confidence)
    matches = match_descriptors(*pair, [photo(), photo()], device=CPU, limit=60)
    assert matches is not None and len(matches) == 60
    assert (matches.xy_i[:, 0] < 320).all() and (matches.xy_i[:, 1] < 240).all()
    everything = match_descriptors(*pair, [photo(), photo()], device=CPU, limit=10**6)
    assert everything is not None and (everything.xy_j[:, 1] < 240).all()


def test_without_local_features_there_are_no_matches(shots: list[Shot]) -> None:
    pair = predict(shots, 0, 1), predict(shots, 1, 0)
    assert match_descriptors(*pair, [photo(), photo()], device=CPU) is None


def test_descriptor_matches_give_the_pose(shots: list[Shot]) -> None:
    photos = [photo(), photo()]
    local = match_descriptors(*both_ways(shots), photos, device=CPU)
    assert local is not None
    focal = 4 * shots[0].intrinsics[0, 0]
    edge = verify_pair(photos, local, None, [focal, focal])
    assert edge is not None and edge.matches is local
    truth = invert_rigid(shots[0].cam_to_world) @ shots[1].cam_to_world
    rotation, direction = angles_between_deg(edge.pose.cam2_to_cam1, truth)
    assert rotation < 0.5 and direction < 5
