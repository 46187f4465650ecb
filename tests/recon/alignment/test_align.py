import importlib
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from alignment_scenes import (
    FOCAL,
    HEIGHT,
    WIDTH,
    Scene,
    arc_scene,
    evidence,
    phone_photos,
    pose_errors_deg,
    scene_edges,
    turn,
)

from pointmap.camera import invert_rigid, pinhole, project, rigid, rotation_angle_deg
from pointmap.camera import transform_points as moved
from pointmap.lens import Lens
from recon.alignment import AlignOptions, align
from recon.alignment.align import _pose_graph, _setup, _unmatched
from recon.alignment.first_cameras import PoseGraph, first_cameras
from recon.alignment.refinement import LensModel
from recon.stage_results import (
    Alignment,
    Focals,
    PairEdge,
    PairEvidence,
    PairMatches,
    PhotoFeatures,
    PhotoPrior,
    RelativePose,
)


def run(edges: list[PairEdge], count: int, *, focal: float = FOCAL, **settings) -> Alignment:
    told = {
        name: settings.pop(name)
        for name in ("priors", "focal_log_sigma", "focal_groups")
        if name in settings
    }
    return align(
        phone_photos(count), evidence(phone_photos(count), edges, focal, **told), **settings
    )


def without_key_points(edges: list[PairEdge], method: str, seed: int = 0) -> list[PairEdge]:
    """The edges as pointmaps give them: positions without numbers, any translation scale."""
    rng = np.random.default_rng(seed)
    result = []
    for edge in edges:
        none = np.full(len(edge.matches), -1)
        pose = edge.pose.cam2_to_cam1.copy()
        pose[:3, 3] *= rng.uniform(0.5, 2)
        matches = replace(edge.matches, index_i=none, index_j=none, sigma_px=2.0)
        solved = replace(edge.pose, cam2_to_cam1=pose, method=method, metric_scale=True)
        result.append(replace(edge, matches=matches, pose=solved))
    return result


def test_noise_free_scene_is_recovered_from_a_wrong_focal():
    scene = arc_scene(8, 150)
    found = run(scene_edges(scene)[0], 8, focal=1.2 * FOCAL)
    rotation, direction = pose_errors_deg(found, scene.cam_to_world)
    assert rotation.max() < 0.01 and direction.max() < 0.01
    assert np.allclose(found.intrinsics, pinhole(FOCAL, WIDTH, HEIGHT), rtol=1e-4)


@pytest.mark.parametrize("wrong", [0.2, 0.4])
@pytest.mark.parametrize("neighbours", [None, 4])
def test_wrong_edges_are_survived_and_named(wrong: float, neighbours: int | None):
    scene = arc_scene(12, 200, noise_px=0.5, seed=1)
    settings = {"rotation_noise_deg": 1.0, "neighbours": neighbours, "seed": 5}
    clean = run(scene_edges(scene, **settings)[0], 12)
    edges, good = scene_edges(scene, wrong=wrong, **settings)
    found = run(edges, 12, focal=1.2 * FOCAL)
    assert np.array_equal(found.used_edges, good)
    for mine, reference in zip(
        pose_errors_deg(found, scene.cam_to_world),
        pose_errors_deg(clean, scene.cam_to_world),
        strict=True,
    ):
        assert np.median(mine) < 2 * np.median(reference)
        assert mine.max() < 1.5


def test_tracks_are_consistent_with_the_cameras():
    scene = arc_scene(6, 150, noise_px=0.5)
    found = run(scene_edges(scene)[0], 6)
    tracks = found.tracks
    assert (np.bincount(tracks.point_index, minlength=len(tracks.points)) >= 2).all()
    for k, pose in enumerate(found.cam_to_world):
        rows = tracks.view_index == k
        local = moved(invert_rigid(pose), tracks.points[tracks.point_index[rows]])
        error = np.linalg.norm(project(local, found.intrinsics[k]) - tracks.xy[rows], axis=1)
        assert rows.sum() > 50 and np.median(error) < 1.0 and error.max() < 2.0


def test_world_is_the_first_photo_with_median_depth_one():
    scene = arc_scene(4, 100, noise_px=0.5)
    found = run(scene_edges(scene)[0], 4)
    assert np.array_equal(found.cam_to_world[0], np.eye(4))
    tracks = found.tracks
    depth = [
        moved(invert_rigid(pose), tracks.points[tracks.point_index[tracks.view_index == k]])[:, 2]
        for k, pose in enumerate(found.cam_to_world)
    ]
    assert np.median(np.concatenate(depth)) == pytest.approx(1.0)


def test_other_places_are_left_out_with_the_reason():
    scene = arc_scene(5, 150)
    edges, _ = scene_edges(scene)
    elsewhere = scene_edges(arc_scene(2, 80, seed=9))[0]
    edges += [replace(e, matches=replace(e.matches, i=5, j=6)) for e in elsewhere]
    found = run(edges, 8)
    assert [pose is not None for pose in found.cam_to_world] == [True] * 5 + [False] * 3
    assert found.reasons[:5] == (None,) * 5
    assert "with others" in found.reasons[5] and "with any" in found.reasons[7]
    assert found.used_edges.tolist() == [True] * 10 + [False]
    assert found.tracks.view_index.max() == 4


def test_a_second_place_is_no_reason_to_place_photos_one_by_one(monkeypatch: pytest.MonkeyPatch):
    edges, _ = scene_edges(arc_scene(5, 150))
    for edge in scene_edges(arc_scene(5, 120, seed=9))[0]:
        i, j = edge.matches.i + 5, edge.matches.j + 5
        edges.append(replace(edge, matches=replace(edge.matches, i=i, j=j)))

    def never(*_: object) -> None:
        raise AssertionError("all that could be placed was")

    monkeypatch.setattr(importlib.import_module("recon.alignment.align"), "_incrementally", never)
    assert [pose is not None for pose in run(edges, 10).cam_to_world] == [True] * 5 + [False] * 5


def test_a_misplaced_photo_is_moved():
    """One photo hangs on edges whose matches are right and whose poses, all alike, are wrong, as
    happens where a pair sees a plane."""
    scene = arc_scene(6, 150, noise_px=0.3)
    edges, _ = scene_edges(scene)
    wrong = rigid(turn(40.0, np.random.default_rng(0)), np.zeros(3))
    for k, edge in enumerate(edges):
        if edge.matches.j == 5:
            pose = replace(edge.pose, cam2_to_cam1=edge.pose.cam2_to_cam1 @ wrong)
            edges[k] = replace(edge, pose=pose)
    rotation, direction = pose_errors_deg(run(edges, 6), scene.cam_to_world)
    assert rotation.max() < 0.5 and direction.max() < 1.0


def test_the_second_pose_of_a_plane_is_taken_where_the_first_is_wrong():
    scene = arc_scene(6, 150, noise_px=0.3)
    edges, _ = scene_edges(scene)
    wrong = rigid(turn(40.0, np.random.default_rng(0)), np.zeros(3))
    for k in range(0, len(edges), 3):
        right = edges[k].pose
        pose = replace(right, cam2_to_cam1=right.cam2_to_cam1 @ wrong)
        edges[k] = replace(edges[k], pose=replace(pose, alternative=right.cam2_to_cam1))
    graph = _pose_graph(6, edges)
    focals = Focals(np.full(6, FOCAL), np.zeros(6), ("given",) * 6, np.zeros(6, np.int64))
    setup = _setup(focals, edges, np.full((6, 2), 283.0), AlignOptions(), LensModel())
    cameras = _unmatched(phone_photos(6), setup).cameras
    start = first_cameras(graph, cameras, setup.table, [], max_edge_error_deg=10.0)
    assert start.used.all()
    found = start.cameras.cam_to_world[:, :3, :3]
    truth = scene.cam_to_world[0, :3, :3].T @ scene.cam_to_world[:, :3, :3]
    assert rotation_angle_deg(found.transpose(0, 2, 1) @ truth).max() < 1e-3


def test_photos_that_a_plane_ties_to_the_others_by_wrong_poses_are_where_few_matches_say():
    """Three of 20 frames of a kitchen hung on four strong pairs, which saw its floor: the wrong
    ones of their poses agreed with each other and outweighed nine pairs of few matches."""
    scene = arc_scene(8, 150, noise_px=0.3)
    edges, _ = scene_edges(scene)
    astray = rigid(turn(25.0, np.random.default_rng(1)), np.array([0.3, -0.4, 0.5]))
    for k, edge in enumerate(edges):
        i, j = edge.matches.i, edge.matches.j
        if not i < 5 <= j:
            continue
        if j - i <= 2:
            to_i = invert_rigid(scene.cam_to_world[i])
            wrong = to_i @ astray @ scene.cam_to_world[j]
            poses = {"cam2_to_cam1": wrong, "alternative": edge.pose.cam2_to_cam1}
            edges[k] = replace(edge, pose=replace(edge.pose, **poses))
        else:
            few = np.arange(len(edge.matches)) % 8 == 0
            edges[k] = PairEdge(
                edge.matches.select(few), replace(edge.pose, inliers=edge.pose.inliers[few])
            )

    rotation, direction = pose_errors_deg(run(edges, 8), scene.cam_to_world)

    assert rotation.max() < 0.5 and direction.max() < 1.0


def test_photos_one_ahead_of_the_other_are_not_put_in_one_place():
    """Along the line of sight there is little parallax, however long the way."""
    scene = arc_scene(8, 150, noise_px=0.3)
    edges, _ = scene_edges(scene)
    for k, edge in enumerate(edges):
        if edge.matches.j == 7 and edge.matches.i not in (0, 6):
            pose = replace(edge.pose, flags=frozenset({"no_parallax"}))
            edges[k] = replace(edge, pose=pose)
    graph = _pose_graph(8, edges)
    assert (~graph.moves).sum() == 5 and not graph.turns.any()
    focals = Focals(np.full(8, FOCAL), np.zeros(8), ("given",) * 8, np.zeros(8, np.int64))
    setup = _setup(focals, edges, np.full((8, 2), 283.0), AlignOptions(), LensModel())
    cameras = _unmatched(phone_photos(8), setup).cameras

    def last_step(graph: PoseGraph) -> float:
        start = first_cameras(graph, cameras, setup.table, [], max_edge_error_deg=10.0)
        steps = np.linalg.norm(np.diff(start.cameras.cam_to_world[:, :3, 3], axis=0), axis=1)
        return float(steps[-1] / np.median(steps))

    assert last_step(graph) == pytest.approx(1.0, abs=0.2)
    # What a rotation explains has not moved: where most say so, the photo is where they are.
    assert last_step(replace(graph, turns=~graph.moves)) > 1.3


def test_scenes_without_key_points_are_aligned():
    scene = arc_scene(6, 200, noise_px=1.0)
    edges, _ = scene_edges(scene, rotation_noise_deg=2.0)
    found = run(without_key_points(edges, "procrustes"), 6, focal_log_sigma=0.02)
    rotation, direction = pose_errors_deg(found, scene.cam_to_world)
    assert np.median(rotation) < 0.5 and np.median(direction) < 0.5
    assert (np.bincount(found.tracks.point_index) == 2).all()


def test_predicted_depth_sets_the_lengths_of_a_chain_without_key_points():
    """Three photos in a row whose edges share nothing: only predictions tell the step lengths."""
    scene = arc_scene(3, 300, span_deg=50.0)
    poses = scene.cam_to_world.copy()
    poses[2, :3, 3] = poses[1, :3, 3] + 0.3 * (poses[2, :3, 3] - poses[1, :3, 3])
    K = pinhole(FOCAL, WIDTH, HEIGHT)
    xy = np.stack([project(moved(invert_rigid(p), scene.points), K) for p in poses])
    scene = Scene(poses, scene.points, xy)
    priors = []
    for k, scale in enumerate((0.7, 1.9, 1.2)):
        column, row = np.clip((xy[k] / 10).astype(int), 0, [63, 47]).T
        points = np.zeros((48, 64, 3), np.float32)
        points[row, column] = scale * moved(invert_rigid(poses[k]), scene.points)
        priors.append(PhotoPrior(points, (points[..., 2] > 0).astype(np.float32), FOCAL))
    edges = without_key_points(scene_edges(scene, neighbours=1)[0], "pnp")
    found = run(edges, 3, priors=priors, focal_log_sigma=0.01)
    centres = np.stack([pose[:3, 3] for pose in found.cam_to_world])
    steps = np.linalg.norm(np.diff(centres, axis=0), axis=1)
    true_steps = np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1)
    assert steps[1] / steps[0] == pytest.approx(true_steps[1] / true_steps[0], rel=0.03)


def test_photos_that_only_turned_stand_in_one_place():
    rng = np.random.default_rng(3)
    poses = [rigid(turn(10.0 * k, np.random.default_rng(3)), np.zeros(3)) for k in range(3)]
    points = rng.uniform(-2, 2, (300, 3)) + np.array([0, 0, 6])
    K = pinhole(FOCAL, WIDTH, HEIGHT)
    xy = np.stack([project(moved(invert_rigid(pose), points), K) for pose in poses])
    flags = frozenset({"pure_rotation", "no_parallax"})
    edges = []
    for i, j in ((0, 1), (0, 2), (1, 2)):
        seen = np.flatnonzero(np.isfinite(xy[[i, j]]).all(axis=(0, 2)))
        relative = invert_rigid(poses[i]) @ poses[j]
        relative[:3, 3] = [1, 0, 0]
        pose = RelativePose(relative, "essential", np.ones(len(seen), bool), 0.1, flags)
        edges.append(PairEdge(PairMatches(i, j, xy[i][seen], xy[j][seen], seen, seen, 0.7), pose))
    found = run(edges, 3)
    for pose, truth in zip(found.cam_to_world, poses, strict=True):
        assert rotation_angle_deg(pose[:3, :3].T @ poses[0][:3, :3].T @ truth[:3, :3]) < 0.1
        assert np.array_equal(pose[:3, 3], np.zeros(3))
    assert found.used_edges.all()


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_photos(count: int):
    scene = arc_scene(count, 150, noise_px=0.5, span_deg=30.0)
    edges = scene_edges(scene)[0] if count > 1 else []
    found = run(edges, count, focal=1.02 * FOCAL, focal_log_sigma=0.05)
    assert len(found.cam_to_world) == len(found.reasons) == len(found.intrinsics) == count
    assert found.reasons == (None,) * count
    if count > 1:
        rotation, direction = pose_errors_deg(found, scene.cam_to_world)
        assert rotation.max() < 1 and direction.max() < 1
        assert len(found.tracks.points) > 80
    else:
        assert np.array_equal(found.cam_to_world[0], np.eye(4))
        assert np.allclose(found.intrinsics[0], pinhole(1.02 * FOCAL, WIDTH, HEIGHT))


def test_photos_without_any_match():
    found = run([], 3)
    assert [pose is not None for pose in found.cam_to_world] == [True, False, False]
    assert all("not connected" in reason for reason in found.reasons[1:])


def test_known_focals_are_bit_equal_and_the_others_follow():
    scene = arc_scene(6, 150, noise_px=0.5)
    focals = np.where(np.arange(6) < 3, FOCAL + 0.123, 1.15 * FOCAL)
    sigma = np.where(np.arange(6) < 3, 0.0, 0.3)
    edges, _ = scene_edges(scene)
    found = align(phone_photos(6), evidence(phone_photos(6), edges, focals, focal_log_sigma=sigma))
    assert np.array_equal(found.intrinsics[:3, 0, 0], focals[:3])
    assert np.allclose(found.intrinsics[3:, 0, 0], FOCAL, rtol=5e-3)
    assert len(set(found.intrinsics[3:, 0, 0])) == 1


def test_focals_are_shared_by_camera_or_by_the_groups_given():
    scene = arc_scene(6, 150, noise_px=0.5)
    edges, _ = scene_edges(scene)
    assert len(set(run(edges, 6).intrinsics[:, 0, 0])) == 1
    alone = run(edges, 6, focal_groups=np.arange(6)).intrinsics[:, 0, 0]
    assert len(set(alone)) == 6 and np.allclose(alone, FOCAL, rtol=0.02)


@pytest.mark.parametrize("known", [(0, 1, 2, 3, 4, 5), (1, 4), (2,)])
def test_known_poses_are_bit_equal_and_set_the_world(known: tuple[int, ...]):
    scene = arc_scene(6, 150, noise_px=0.3)
    given = [pose if k in known else None for k, pose in enumerate(scene.cam_to_world)]
    found = run(scene_edges(scene)[0], 6, focal=1.1 * FOCAL, known_cam_to_world=given)
    for k in known:
        assert np.array_equal(found.cam_to_world[k], scene.cam_to_world[k])
    rotation, direction = pose_errors_deg(found, scene.cam_to_world)
    assert rotation.max() < 0.2 and direction.max() < 0.7
    if len(known) > 1:
        centres = np.stack([pose[:3, 3] for pose in found.cam_to_world])
        assert np.abs(centres - scene.cam_to_world[:, :3, 3]).max() < 0.03


def test_colours_are_those_of_the_key_points():
    scene = arc_scene(4, 60)
    colours = np.random.default_rng(0).integers(0, 255, (60, 3)).astype(np.uint8)
    none = np.zeros((60, 128), np.float32)
    features = [PhotoFeatures(np.nan_to_num(scene.xy[k]), none, colours) for k in range(4)]
    tracks = run(scene_edges(scene)[0], 4, features=features).tracks
    first = np.searchsorted(tracks.point_index, np.arange(len(tracks.points)))
    where = tracks.xy[first]
    points = [np.nanargmin(np.linalg.norm(scene.xy[v] - xy, axis=1)) for v, xy in
              zip(tracks.view_index[first], where, strict=True)]  # fmt: skip
    assert np.array_equal(tracks.colours, colours[points])
    assert not run(scene_edges(scene)[0], 4).tracks.colours.any()


def test_the_order_of_the_photos_does_not_matter():
    scene = arc_scene(6, 150, noise_px=0.5)
    order = np.array([3, 0, 5, 1, 4, 2])
    edges, _ = scene_edges(scene, wrong=0.2, rotation_noise_deg=1.0)
    renamed = []
    for edge in edges:
        m, pose = edge.matches, edge.pose
        i, j = (int(np.flatnonzero(order == k)[0]) for k in (m.i, m.j))
        if i > j:
            m = PairMatches(j, i, m.xy_j, m.xy_i, m.index_j, m.index_i, m.sigma_px)
            pose = replace(pose, cam2_to_cam1=invert_rigid(pose.cam2_to_cam1))
        else:
            m = replace(m, i=i, j=j)
        renamed.append(PairEdge(m, pose))
    first = run(edges, 6)
    second = run(renamed, 6)
    assert np.array_equal(first.used_edges, second.used_edges)
    reordered = np.stack([second.cam_to_world[np.flatnonzero(order == k)[0]] for k in range(6)])
    rotation, direction = pose_errors_deg(first, reordered)
    assert rotation.max() < 0.01 and direction.max() < 0.02


def test_the_same_input_gives_the_same_bits():
    scene = arc_scene(8, 100, noise_px=0.5)
    edges, _ = scene_edges(scene, wrong=0.3, neighbours=3)
    first, second = run(edges, 8), run(edges, 8)
    assert np.array_equal(first.intrinsics, second.intrinsics)
    for a, b in zip(first.cam_to_world, second.cam_to_world, strict=True):
        assert (a is None) == (b is None) and (a is None or np.array_equal(a, b))


@pytest.mark.skipif("POINTMAP_SHARED" not in os.environ, reason="POINTMAP_SHARED is not set")
def test_real_photos_with_repetitive_wallpaper():
    """fox-8: wrong edges whose matches agree among themselves. COLMAP reaches AUC@5 of 87."""
    from itertools import combinations

    from pointmap.images import load_photo, open_photos
    from pointmap.photo_files import find_photos
    from recon.two_view.features import extract_features, match_features
    from recon.two_view.focal_lengths import solve_focals
    from recon.two_view.relative_pose import essential

    folder = Path(os.environ["POINTMAP_SHARED"]) / "data" / "fox-8"
    taken = open_photos(find_photos([folder / "images"]))[0]
    features = [extract_features(load_photo(photo, long_side=640)) for photo in taken]
    matches = [match_features(features[i], features[j], i, j) for i, j in combinations(range(8), 2)]
    focals = solve_focals(taken, matches)
    edges = []
    for pair in matches:
        K = [
            pinhole(focals.focals_px[k], taken[k].width, taken[k].height) for k in (pair.i, pair.j)
        ]
        pose = essential(pair, *K)
        if pose is not None and pose.inliers.sum() >= 15:
            edges.append(PairEdge(pair, pose))
    found = align(taken, PairEvidence(matches, edges, focals, [], []))
    truth = json.loads((folder / "cameras.json").read_text())["images"]
    poses = np.array([truth[photo.path.name]["cam_to_world"] for photo in taken])
    worst = np.maximum(*pose_errors_deg(found, poses))
    assert np.median(worst) < 1.5 and worst.max() < 6
    true_focal = truth[taken[0].path.name]["K"][0][0]
    assert found.intrinsics[0, 0, 0] == pytest.approx(true_focal, rel=0.02)


@pytest.mark.parametrize("k1", [-0.08, 0.1])
def test_the_lens_is_found_and_points_meet_the_pixels_through_it(k1: float):
    scene = arc_scene(8, 400, noise_px=0.3, k1=k1, extent=2.0)
    found = run(scene_edges(scene)[0], 8, focal=1.05 * FOCAL)
    assert np.allclose([lens.k1_k2[0] for lens in found.lenses], k1, rtol=0.1)
    assert len(set(found.lenses)) == 1
    assert np.allclose(found.intrinsics[:, 0, 0], FOCAL, rtol=3e-3)
    rotation, direction = pose_errors_deg(found, scene.cam_to_world)
    assert rotation.max() < 0.1 and direction.max() < 0.4
    tracks = found.tracks
    for k, pose in enumerate(found.cam_to_world):
        rows = tracks.view_index == k
        points = moved(invert_rigid(pose), tracks.points[tracks.point_index[rows]])
        error = np.linalg.norm(
            project(points, found.intrinsics[k], Lens.radial(k1)) - tracks.xy[rows], axis=1
        )
        assert np.median(error) < 0.6
    # Points far from the centre are in use: a pinhole would have lost them.
    assert len(tracks.xy) > 0.85 * np.isfinite(scene.xy[..., 0]).sum()


@pytest.mark.parametrize("count", [2, 8])
def test_a_pinhole_stays_one_to_the_last_bit(count: int):
    scene = arc_scene(count, 300, noise_px=0.5)
    assert not any(run(scene_edges(scene)[0], count).lenses)


def test_a_camera_whose_focal_is_known_is_a_pinhole():
    scene = arc_scene(6, 300, noise_px=0.3, k1=-0.08, extent=2.0)
    found = run(scene_edges(scene)[0], 6, focal_log_sigma=np.where(np.arange(6) < 3, 0.0, 0.3))
    assert not any(found.lenses[:3]) and all(found.lenses[3:])


def test_photos_join_a_large_scene_several_at_a_time(monkeypatch: pytest.MonkeyPatch):
    """Three of twenty photos are missing: an eighth of the 17 placed ones is two at a time."""
    from recon.alignment import incremental
    from recon.alignment.cameras import Cameras
    from recon.alignment.refinement import Structure, refine

    scene = arc_scene(20, 80, noise_px=0.3)
    edges, _ = scene_edges(scene, neighbours=6)
    focals = np.full(20, FOCAL)
    known = Focals(focals, np.zeros(20), ("given",) * 20, np.zeros(20, np.int64))
    setup = _setup(known, edges, np.ones((20, 2)), AlignOptions(), LensModel())
    unplaced = _unmatched(phone_photos(20), setup).cameras
    cameras: Cameras = replace(
        unplaced, cam_to_world=scene.cam_to_world, registered=np.arange(20) < 17
    )
    rounds = []
    place = incremental._with_photos

    def counted(setup, structure: Structure, placed) -> Structure:
        rounds.append(len(placed))
        return place(setup, structure, placed)

    monkeypatch.setattr(incremental, "_with_photos", counted)
    grown = incremental.grow(setup, refine(setup, cameras), np.arange(17, 20))
    assert grown.cameras.registered.all() and rounds == [2, 1]
    error = rotation_angle_deg(
        grown.cameras.cam_to_world[:, :3, :3].transpose(0, 2, 1) @ scene.cam_to_world[:, :3, :3]
    )
    assert (error[17:] < 0.2).all()
