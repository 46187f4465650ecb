import numpy as np
import pytest
from alignment_scenes import HEIGHT, WIDTH, arc_scene, pinhole_cameras, scene_edges

from pointmap.camera import Array, fit_similarity, invert_rigid, transform_points
from recon.alignment.cameras import Cameras
from recon.alignment.tracks import build_match_table
from recon.alignment.translations import (
    directions_from_matches,
    edge_depths,
    predicted_depth_ratios,
    predicted_log_depths,
    shared_depth_ratios,
    synchronise_positions,
    synchronise_scales,
)


def centre_error(found: Array, truth: Array) -> float:
    scale, R, t = fit_similarity(found, truth)
    return float(np.linalg.norm(scale * found @ R.T + t - truth, axis=1).max())


def rotations_only(cam_to_world: Array) -> Cameras:
    turned = cam_to_world.copy()
    turned[:, :3, 3] = 0
    return pinhole_cameras(turned)


def test_directions_from_matches_survive_outliers_and_keeps_the_sign():
    rng = np.random.default_rng(0)
    points = rng.uniform(-1, 1, (300, 3)) + np.array([0, 0, 5])
    truth = np.array([0.8, 0.1, 0.59])
    truth /= np.linalg.norm(truth)
    rays_1 = points / np.linalg.norm(points, axis=1, keepdims=True)
    rays_2 = points - truth
    rays_2 /= np.linalg.norm(rays_2, axis=1, keepdims=True)
    rays_2[:90] = rng.permutation(rays_2[:90])
    signs = np.array([[1.0], [-1.0]])
    start = signs * (truth + np.array([0.3, -0.3, 0.2]))
    start /= np.linalg.norm(start, axis=1, keepdims=True)
    both = (np.stack([rays, rays]) for rays in (rays_1, rays_2))
    found = directions_from_matches(*both, start)
    assert (np.degrees(np.arccos(np.clip(found @ truth * signs[:, 0], -1, 1))) < 0.05).all()


def test_direction_without_parallax_is_the_start():
    rays = np.tile([0.0, 0.0, 1.0], (2, 50, 1))
    start = np.eye(3)[:2]
    assert np.array_equal(directions_from_matches(rays, rays, start), start)


def test_scales_follow_from_shared_depths():
    scene = arc_scene(6, 200)
    edges, _ = scene_edges(scene)
    table = build_match_table(edges)
    pairs = np.array([(e.matches.i, e.matches.j) for e in edges])
    baselines = scene.cam_to_world[pairs[:, 1], :3, 3] - scene.cam_to_world[pairs[:, 0], :3, 3]
    lengths = np.linalg.norm(baselines, axis=1)
    cameras = rotations_only(scene.cam_to_world)
    use = np.ones(len(edges), bool)
    depths = edge_depths(table, cameras, pairs, baselines / lengths[:, None], use)
    terms = shared_depth_ratios(depths)
    log_scales = synchronise_scales(len(edges), *terms)
    assert np.std(log_scales - np.log(lengths)) < 1e-6


def test_predicted_depth_ties_edges_that_share_no_key_point():
    scene = arc_scene(3, 300, span_deg=40.0)
    edges, _ = scene_edges(scene, neighbours=1)
    table = build_match_table(edges)
    # Photo 1 is all that the two edges share.
    pairs = np.array([(0, 1), (1, 2)])
    baselines = scene.cam_to_world[pairs[:, 1], :3, 3] - scene.cam_to_world[pairs[:, 0], :3, 3]
    lengths = np.linalg.norm(baselines, axis=1)
    cameras = rotations_only(scene.cam_to_world)
    depths = edge_depths(table, cameras, pairs, baselines / lengths[:, None], np.ones(2, bool))
    truth = transform_points(invert_rigid(scene.cam_to_world[1]), scene.points)[:, 2]
    keypoint = table.node_keypoint[depths.node]
    log_predicted = np.where(depths.view == 1, np.log(3.7 * truth[keypoint]), np.nan)
    names, ratios, weights = predicted_depth_ratios(depths, log_predicted)
    log_scales = synchronise_scales(2 + 3, names + np.array([0, 2]), ratios, weights)
    assert log_scales[0] - log_scales[1] == pytest.approx(np.log(lengths[0] / lengths[1]), abs=1e-5)
    assert log_scales[0] - log_scales[2 + 1] == pytest.approx(np.log(3.7 * lengths[0]), abs=1e-5)


def test_predicted_depths_are_read_at_the_right_pixel():
    scene = arc_scene(2, 100)
    table = build_match_table(scene_edges(scene)[0])
    pairs = np.array([(0, 1)])
    baseline = scene.cam_to_world[1, :3, 3] - scene.cam_to_world[0, :3, 3]
    direction = (baseline / np.linalg.norm(baseline))[None]
    cameras = rotations_only(scene.cam_to_world)
    depths = edge_depths(table, cameras, pairs, direction, np.ones(1, bool))
    y, x = np.mgrid[:30, :40]
    z = (1 + x + 100 * y).astype(np.float32)
    z[:, 20:] = 0
    sizes = np.tile([WIDTH, HEIGHT], (2, 1))
    found = predicted_log_depths(table, depths, [z, z], sizes)
    xy = table.node_xy[depths.node]
    left = xy[:, 0] < WIDTH / 2
    expected = 1 + np.floor(xy[:, 0] / 16) + 100 * np.floor(xy[:, 1] / 16)
    assert np.allclose(np.exp(found[left]), expected[left], rtol=1e-6)
    assert np.isnan(found[~left]).all() and left.any() and not left.all()


def test_scales_outvote_wrong_ratios():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=30)
    pairs = np.stack(np.triu_indices(30, 1), axis=1)
    ratios = truth[pairs[:, 0]] - truth[pairs[:, 1]]
    wrong = rng.random(len(pairs)) < 0.3
    ratios[wrong] += rng.normal(0, 2, wrong.sum())
    found = synchronise_scales(30, pairs, ratios, np.ones(len(pairs)))
    assert np.ptp(found - truth) < 1e-3


def test_untied_scales_are_finite():
    assert np.isfinite(synchronise_scales(4, np.array([(0, 1)]), np.ones(1), np.ones(1))).all()
    assert np.isfinite(synchronise_scales(4, np.zeros((0, 2), int), np.zeros(0), np.zeros(0))).all()


@pytest.mark.parametrize("wrong", [0.0, 0.2])
def test_positions_outvote_wrong_baselines(wrong: float):
    rng = np.random.default_rng(1)
    centres = rng.uniform(-3, 3, (12, 3))
    pairs = np.stack(np.triu_indices(12, 1), axis=1)
    baselines = centres[pairs[:, 1]] - centres[pairs[:, 0]]
    bad = rng.permutation(len(pairs))[: round(wrong * len(pairs))]
    baselines[bad] = rng.normal(0, 3, (len(bad), 3))
    found = synchronise_positions(12, pairs, baselines, np.ones(len(pairs)))
    assert centre_error(found, centres) < 5e-3


def test_photos_that_only_turned_share_a_place():
    still = synchronise_positions(3, np.array([(0, 1), (1, 2)]), np.zeros((2, 3)), np.ones(2))
    assert np.array_equal(still, np.zeros((3, 3)))
    pairs = np.array([(0, 1), (1, 2)])
    mixed = synchronise_positions(3, pairs, np.array([[2.0, 0, 0], [0, 0, 0]]), np.ones(2))
    assert np.allclose(mixed[1] - mixed[0], [2, 0, 0], atol=1e-6)
    assert np.allclose(mixed[2], mixed[1], atol=1e-6)
