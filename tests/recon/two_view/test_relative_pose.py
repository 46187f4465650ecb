from __future__ import annotations

import json
import os
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation, Slerp
from two_views import camera_at, cloud, make_matches, photo

from pointmap.camera import (
    invert_rigid,
    pinhole,
    pixel_centres,
    rigid,
    rotation_exp,
    transform_points,
)
from pointmap.images import ResizedPhoto
from recon.stage_results import PairMatches
from recon.two_view.epipolar import (
    angles_between_deg,
    epipolar_inliers,
    fundamental_from_pose,
    opposite,
    refine_pose,
    sampson_px,
)
from recon.two_view.features import extract_features, match_features
from recon.two_view.pose_from_pointmaps import pnp, procrustes
from recon.two_view.relative_pose import essential, features_contradict, verify_pair

GEOMETRY = Path(__file__).parents[2] / "data" / "geometry" / "pair01.npz"
K = pinhole(600, 640, 480)
CAM_I = camera_at([-0.7, 0.2, -5.0], [1, 6, -2])
CAM_J = camera_at([0.8, -0.3, -4.6], [-3, -9, 4])
TRUTH = invert_rigid(CAM_I) @ CAM_J


def test_essential_recovers_the_pose_among_outliers():
    matches = make_matches(cloud(), CAM_I, CAM_J, K, K, noise_px=0.3, outliers=0.4)
    pose = essential(matches, K, K)
    turned, direction = angles_between_deg(pose.cam2_to_cam1, TRUTH)
    assert turned < 0.1 and direction < 0.3
    assert np.linalg.norm(pose.cam2_to_cam1[:3, 3]) == pytest.approx(1)
    right = np.arange(len(matches)) < 0.6 * len(matches)
    assert pose.inliers[right].mean() > 0.98 and pose.inliers[~right].mean() < 0.1
    assert pose.flags == frozenset() and pose.alternative is None and not pose.metric_scale
    assert 0.5 < pose.score < 0.65


def test_noise_free_matches_give_the_exact_pose():
    matches = make_matches(cloud(), CAM_I, CAM_J, K, K, noise_px=0.0)
    pose = essential(matches, K, K)
    turned, direction = angles_between_deg(pose.cam2_to_cam1, TRUTH)
    assert turned < 1e-4 and direction < 1e-3 and pose.inliers.all()


def test_matches_agree_with_the_pose_that_has_them_before_both_cameras():
    matches = make_matches(cloud(), CAM_I, CAM_J, K, K, noise_px=0.0)
    right, turned_round, error_px = epipolar_inliers(TRUTH, matches, K, K, 1.0)
    assert right.all() and not turned_round.any() and (error_px < 1e-6).all()
    behind, before, _ = epipolar_inliers(opposite(TRUTH), matches, K, K, 1.0)
    assert before.all() and not behind.any()


def test_a_refined_pose_is_where_the_robust_cost_is_least():
    """Levenberg-Marquardt ends where no small turn or move of a unit translation costs less."""
    matches = make_matches(cloud(), CAM_I, CAM_J, K, K, noise_px=0.5, outliers=0.2)
    start = rigid(
        rotation_exp(np.array([0.02, -0.01, 0.03])) @ TRUTH[:3, :3],
        TRUTH[:3, 3] / np.linalg.norm(TRUTH[:3, 3]) + [0.05, -0.03, 0.02],
    )
    before = start.copy()

    def cost(pose):
        error = sampson_px(fundamental_from_pose(pose, K, K), matches.xy_i, matches.xy_j)
        return np.log1p((error / 0.5) ** 2).sum()

    pose, least = refine_pose(start, matches.xy_i, matches.xy_j, K, K, scale_px=0.5, rounds=30)
    assert np.array_equal(start, before)
    assert np.linalg.norm(pose[:3, 3]) == pytest.approx(1)
    assert least == pytest.approx(cost(pose), rel=1e-9) and least < 0.5 * cost(start)
    turned, direction = angles_between_deg(pose, TRUTH)
    assert turned < 0.1 and direction < 0.3
    for axis in np.concatenate([np.eye(3), -np.eye(3)]) * 2e-4:
        for other in (
            rigid(rotation_exp(axis) @ pose[:3, :3], pose[:3, 3]),
            rigid(pose[:3, :3], rotation_exp(axis) @ pose[:3, 3]),
        ):
            assert cost(other) > least - 1e-6 * least


def test_a_pose_without_matches_or_without_any_that_tell_stays():
    pose, cost = refine_pose(TRUTH, np.zeros((0, 2)), np.zeros((0, 2)), K, K, scale_px=1.0)
    assert cost == 0 and np.abs(pose[:3, :3] - TRUTH[:3, :3]).max() < 1e-12
    same = np.full((20, 2), 100.0)
    pose, cost = refine_pose(TRUTH, same, same + 3, K, K, scale_px=1.0)
    assert np.isfinite(pose).all() and np.isfinite(cost)


def test_a_pose_is_refined_on_what_a_cluster_hands_out_read_only():
    matches = make_matches(cloud(), CAM_I, CAM_J, K, K, noise_px=0.5)
    given = TRUTH.copy(), matches.xy_i.copy(), matches.xy_j.copy(), K.copy(), K.copy()
    expected, _ = refine_pose(*given, scale_px=0.5)
    for array in given:
        array.flags.writeable = False
    np.testing.assert_array_equal(refine_pose(*given, scale_px=0.5)[0], expected)


def test_photos_of_different_size_and_focal_length():
    K_j = pinhole(2200, 1200, 1600)
    matches = make_matches(cloud(2000), CAM_I, CAM_J, K, K_j, noise_px=0.4)
    turned, direction = angles_between_deg(essential(matches, K, K_j).cam2_to_cam1, TRUTH)
    assert turned < 0.15 and direction < 0.5
    wrong = essential(matches, K_j, K)
    assert angles_between_deg(wrong.cam2_to_cam1, TRUTH)[0] > 5


def test_swapping_the_photos_inverts_the_pose():
    forth = make_matches(cloud(), CAM_I, CAM_J, K, K)
    back = replace(forth, xy_i=forth.xy_j, xy_j=forth.xy_i)
    inverse = invert_rigid(essential(back, K, K).cam2_to_cam1)
    turned, direction = angles_between_deg(essential(forth, K, K).cam2_to_cam1, inverse)
    assert turned < 1e-3 and direction < 0.01


def test_same_matches_give_the_same_pose_twice():
    matches = make_matches(cloud(), CAM_I, CAM_J, K, K, outliers=0.5)
    np.testing.assert_array_equal(
        essential(matches, K, K).cam2_to_cam1, essential(matches, K, K).cam2_to_cam1
    )


def test_turning_on_the_spot_is_reported():
    turned = camera_at(CAM_I[:3, 3], [2, 14, 3])
    matches = make_matches(cloud(), CAM_I, turned, K, K)
    pose = essential(matches, K, K)
    assert {"pure_rotation", "no_parallax"} <= pose.flags
    assert angles_between_deg(pose.cam2_to_cam1, invert_rigid(CAM_I) @ turned)[0] < 0.3
    assert pose.score < 0.1


def test_far_scene_has_no_parallax():
    points = 60 * cloud() + [0, 0, 300]
    matches = make_matches(points, CAM_I, CAM_J, K, K, noise_px=0.2)
    pose = essential(matches, K, K)
    assert "no_parallax" in pose.flags and pose.score < 0.3


def test_plane_is_reported_and_the_true_pose_is_among_the_two():
    points = cloud() * [1, 1, 0]
    matches = make_matches(points, CAM_I, CAM_J, K, K, noise_px=0.2)
    pose = essential(matches, K, K)
    assert "planar" in pose.flags
    poses = [p for p in (pose.cam2_to_cam1, pose.alternative) if p is not None]
    assert min(angles_between_deg(p, TRUTH)[0] for p in poses) < 0.5


def test_plane_with_little_beside_it_is_no_trap():
    # Nine in ten matches on a plane: most samples give the plane's wrong twin.
    points = cloud(800) * [1, 1, 0]
    points[::10] = cloud(80, seed=1)
    worst = 0.0
    for seed in range(5):
        matches = make_matches(points, CAM_I, CAM_J, K, K, noise_px=0.3, seed=seed)
        worst = max(worst, angles_between_deg(essential(matches, K, K).cam2_to_cam1, TRUTH)[0])
    assert worst < 0.5


@pytest.mark.parametrize("count, right", [(30, 17), (50, 20), (80, 26), (200, 60)])
def test_the_least_share_that_counts_is_found(count: int, right: int):
    found = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        matches = make_matches(cloud(), CAM_I, CAM_J, K, K, noise_px=0.3, seed=seed)
        some = matches.select(np.arange(len(matches)) < count)
        wrong = rng.uniform([0, 0], [640, 480], (count - right, 2))
        xy_j = np.concatenate([some.xy_j[:right], wrong])
        edge = verify_pair([photo()] * 2, replace(some, xy_j=xy_j), None, [600, 600])
        found.append(edge is not None and angles_between_deg(edge.pose.cam2_to_cam1, TRUTH)[0] < 2)
    assert sum(found) >= 5


def test_random_matches_give_few_inliers():
    rng = np.random.default_rng(0)
    for _ in range(5):
        xy = rng.uniform([0, 0], [640, 480], (2, 40, 2))
        matches = PairMatches(0, 1, xy[0], xy[1], np.arange(40), np.arange(40), 0.5)
        assert verify_pair([photo()] * 2, matches, None, [600, 600]) is None


@pytest.mark.parametrize("count", [0, 1, 4, 5, 7])
def test_too_few_matches_are_an_outcome(count):
    matches = make_matches(cloud(), CAM_I, CAM_J, K, K)
    few = matches.select(np.arange(len(matches)) < count)
    pose = essential(few, K, K)
    assert pose is None or ("few_matches" in pose.flags and np.isfinite(pose.cam2_to_cam1).all())
    assert verify_pair([photo()] * 2, few, None, [600, 600]) is None


def _two_frames(count: int = 800, noise: float = 0.01, seed: int = 0):
    """Return the same points in frames 1 and 2, the second 3 times larger, errors along depth."""
    rng = np.random.default_rng(seed)
    frames = [transform_points(invert_rigid(c), cloud(count)) for c in (CAM_I, CAM_J)]
    first, second = (p * np.exp(noise * rng.normal(size=(count, 1))) for p in frames)
    return first, 3 * second


def test_procrustes_registers_the_frames_among_outliers():
    first, second = _two_frames()
    rng = np.random.default_rng(1)
    wrong = rng.random(len(first)) < 0.4
    second[wrong] *= rng.uniform(0.4, 2.0, (wrong.sum(), 1))
    pose = procrustes(first, second)
    turned, direction = angles_between_deg(pose.cam2_to_cam1, TRUTH)
    assert turned < 0.3 and direction < 0.6 and pose.metric_scale
    length = np.linalg.norm(pose.cam2_to_cam1[:3, 3]) / np.linalg.norm(TRUTH[:3, 3])
    assert length == pytest.approx(1, rel=0.01)
    assert pose.inliers[~wrong].mean() > 0.95 and pose.inliers[wrong].mean() < 0.2


def test_procrustes_does_not_care_for_scales_and_heeds_weights():
    first, second = _two_frames(noise=0.0)
    pose = procrustes(first, 1e3 * second)
    np.testing.assert_allclose(pose.cam2_to_cam1, TRUTH, atol=1e-9)
    pose = procrustes(20 * first, second)
    np.testing.assert_allclose(pose.cam2_to_cam1[:3, 3], 20 * TRUTH[:3, 3], atol=1e-8)
    weights = np.ones(len(first))
    weights[: len(first) * 2 // 3] = 1e-6
    second[: len(first) * 2 // 3] *= [1.5, 0.5, 1.0]
    pose = procrustes(first, second, weights)
    assert angles_between_deg(pose.cam2_to_cam1, TRUTH)[0] < 0.01


@pytest.mark.parametrize("case", ["line", "one place", "few", "not finite", "no weight"])
def test_procrustes_refuses_degenerate_points(case):
    first, second = _two_frames()
    weights = np.ones(len(first))
    if case == "line":
        along = np.linspace(1, 3, len(first))[:, None]
        first, second = along * [0.1, 0.2, 1.0], along * [0.3, 0.2, 1.0]
    elif case == "one place":
        first, second = np.ones_like(first), np.ones_like(second)
    elif case == "few":
        first, second, weights = first[:5], second[:5], weights[:5]
    elif case == "not finite":
        first[:] = np.nan
    else:
        weights[:] = 0
    assert procrustes(first, second, weights) is None


def test_pnp_recovers_the_pose_among_outliers():
    rng = np.random.default_rng(0)
    matches = make_matches(cloud(), CAM_I, CAM_J, K, K, noise_px=0.5, outliers=0.4)
    # Points of the same seeds as the matches': those both photos see.
    seen = _seen_points(matches)
    noisy = 7 * seen * np.exp(rng.normal(0, 0.005, (len(seen), 1)))
    pose = pnp(noisy, matches.xy_j, K)
    turned, direction = angles_between_deg(pose.cam2_to_cam1, TRUTH)
    assert turned < 0.3 and direction < 1.5 and pose.metric_scale
    length = np.linalg.norm(pose.cam2_to_cam1[:3, 3]) / np.linalg.norm(TRUTH[:3, 3])
    assert length == pytest.approx(7, rel=0.02)
    assert 0.5 < pose.inliers.mean() < 0.65


def _seen_points(matches: PairMatches) -> np.ndarray:
    """Return in camera i's frame the points of ``cloud()`` that gave ``matches``."""
    camera = transform_points(invert_rigid(CAM_I), cloud())
    xy = camera[:, :2] / camera[:, 2:] * 600 + [320, 240]
    nearest = np.linalg.norm(xy[None] - matches.xy_i[:, None], axis=2).argmin(1)
    return camera[nearest]


def test_pnp_without_enough_points_or_sense_is_none():
    rng = np.random.default_rng(0)
    assert pnp(np.zeros((0, 3)), np.zeros((0, 2)), K) is None
    assert pnp(np.zeros((50, 3)), rng.uniform(0, 480, (50, 2)), K) is None
    assert pnp(np.full((50, 3), np.nan), rng.uniform(0, 480, (50, 2)), K) is None


def test_pnp_and_procrustes_agree_on_the_stored_pair_and_with_the_reference():
    data = np.load(GEOMETRY)
    confidence = 1 + data["conf_j_q"].ravel() / 16
    pixels = pixel_centres(96, 72).reshape(-1, 2) - 0.5  # the reference's integer grid
    points = data["points_j"].reshape(-1, 3).astype(np.float64)
    sure = confidence > 3
    by_pnp = pnp(points[sure], pixels[sure], pinhole(float(data["truth_focal"]), 96, 72))
    turned, _ = angles_between_deg(by_pnp.cam2_to_cam1, data["pnp_known"].astype(np.float64))
    assert turned < 1.0
    both_i = [data[k].reshape(-1, 3).astype(np.float64) for k in ("points_i", "back_points_i")]
    both_j = [points, data["back_points_j"].reshape(-1, 3).astype(np.float64)]
    first = np.concatenate([both_i[0], both_j[0]])
    second = np.concatenate([both_i[1], both_j[1]])
    by_registration = procrustes(first, second)
    assert angles_between_deg(by_registration.cam2_to_cam1, by_pnp.cam2_to_cam1)[0] < 1.0
    truth = invert_rigid(data["truth_poses"][0]) @ data["truth_poses"][1]
    turned, direction = angles_between_deg(by_registration.cam2_to_cam1, truth)
    # The stored pair is made with 0.5 degrees per axis of pose error, and a focal error.
    assert turned < 0.8 and direction < 3


def test_pointmaps_choose_between_the_two_poses_of_a_plane():
    matches = make_matches(cloud() * [0.3, 0.3, 0], CAM_I, CAM_J, K, K, noise_px=0.5)
    photos = [photo(), photo()]
    pose = verify_pair(photos, matches, None, [600, 600]).pose
    assert pose.alternative is not None
    for hint in (pose.cam2_to_cam1, pose.alternative):
        chosen = verify_pair(photos, matches, hint, [600, 600]).pose
        np.testing.assert_array_equal(chosen.cam2_to_cam1, hint)


def test_the_direction_of_travel_counts_in_that_choice():
    matches = make_matches(cloud() * [0.3, 0.3, 0], CAM_I, CAM_J, K, K, noise_px=0.5)
    photos = [photo(), photo()]
    pose = verify_pair(photos, matches, None, [600, 600]).pose
    for first, second in [
        (pose.cam2_to_cam1, pose.alternative),
        (pose.alternative, pose.cam2_to_cam1),
    ]:
        # Turned a little more as the second, but moved as the first.
        between = Slerp([0, 1], Rotation.from_matrix([first[:3, :3], second[:3, :3]]))
        hint = first.copy()
        hint[:3, :3] = between(0.55).as_matrix()
        rotation, direction = angles_between_deg(first, second)
        assert direction > rotation
        chosen = verify_pair(photos, matches, hint, [600, 600]).pose
        np.testing.assert_array_equal(chosen.cam2_to_cam1, first)


def test_features_contradict_pointmaps_when_next_to_none_agrees():
    photos = [photo(), photo()]
    matches = make_matches(cloud(), CAM_I, CAM_J, K, K)
    assert not features_contradict(photos, matches, TRUTH, [600, 600])
    rng = np.random.default_rng(0)
    xy = rng.uniform([0, 0], [640, 480], (2, 30, 2))
    random = PairMatches(0, 1, xy[0], xy[1], np.arange(30), np.arange(30), 0.5)
    assert features_contradict(photos, random, TRUTH, [600, 600])
    assert not features_contradict(
        photos, random.select(np.arange(30) < 11), TRUTH, [600, 600]
    )  # too few to tell


def _real(scene: str, names: slice):
    """Return photos, features, K (true, +0.5 convention) and cam_to_world of a real scene."""
    import cv2

    folder = Path(os.environ["POINTMAP_SHARED"]) / "data" / scene
    cameras = json.loads((folder / "cameras.json").read_text())["images"]
    found = []
    for name in sorted(cameras)[names]:
        pixels = cv2.imread(str(folder / "images" / name))[..., ::-1]
        size = photo(pixels.shape[1], pixels.shape[0])
        K_true = np.array(cameras[name]["K"])
        K_true[:2, 2] += 0.5
        features = extract_features(ResizedPhoto(size, np.ascontiguousarray(pixels)))
        found.append((size, features, K_true, np.array(cameras[name]["cam_to_world"])))
    return found


@pytest.mark.skipif("POINTMAP_SHARED" not in os.environ, reason="POINTMAP_SHARED is not set")
def test_real_neighbours_are_posed_and_other_places_are_not():
    fountain = _real("fountain-P11", slice(3, 6))
    for (_, f_i, K_i, T_i), (_, f_j, K_j, T_j) in pairwise(fountain):
        pose = essential(match_features(f_i, f_j, 0, 1), K_i, K_j)
        turned, direction = angles_between_deg(pose.cam2_to_cam1, invert_rigid(T_i) @ T_j)
        assert turned < 0.2 and direction < 0.3 and pose.inliers.mean() > 0.9
    for other in _real("fox-8", slice(0, 3)) + _real("7scenes-A", slice(0, 3)):
        photos = [fountain[0][0], other[0]]
        matches = match_features(fountain[0][1], other[1], 0, 1)
        assert verify_pair(photos, matches, None, [575, 500]) is None
