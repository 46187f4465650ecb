"""Metrics against values worked by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scene_factory import make_scene
from scipy.spatial.transform import Rotation
from synthetic import shoot
from truth_files import some_cameras, write_scene, write_truth

from pointmap.camera import rigid, transform_points, unproject
from pointmap.errors import InputError
from pointmap.metrics import auc_at, focal_errors_percent, mean_accuracy_at, recall_at
from recon.evaluation.command import main
from recon.evaluation.poses import centre_error, relative_pose_errors, step_errors
from recon.evaluation.scene import read_truth, score_scene
from recon.evaluation.scene_cloud import TrueView, score_cloud
from recon.export.ply import write_cloud_ply
from recon.save import save_scene
from recon.scene import Camera, PointCloud


def turned(degrees: float, axis: str = "y") -> np.ndarray:
    return Rotation.from_euler(axis, degrees, degrees=True).as_matrix()


def test_a_similarity_of_the_truth_is_no_error() -> None:
    truth = some_cameras(6)
    world = rigid(turned(70, "x"), [3, -1, 2])
    moved = [world @ rigid(c[:3, :3], 4.2 * c[:3, 3]) for c in truth]
    errors = relative_pose_errors(moved, truth)
    assert errors.pairs.tolist() == [[i, j] for i in range(6) for j in range(i + 1, 6)]
    assert errors.pose_deg.max() < 1e-6
    assert centre_error(moved, truth) == pytest.approx(0, abs=1e-9)


def test_relative_errors_worked_by_hand() -> None:
    truth = [rigid(np.eye(3), c) for c in ([0, 0, 0], [1, 0, 0], [0, 0, 2])]
    # Photo 1 is turned by 10 degrees in place: directions in photo 0's frame stay right, those seen
    # from photo 1 turn with it. Photo 2 moves so that it is seen from photo 0 at 45 degrees.
    estimated = [truth[0], rigid(turned(10), [1, 0, 0]), rigid(np.eye(3), [2, 0, 2])]
    errors = relative_pose_errors(estimated, truth)
    assert errors.rotation_deg == pytest.approx([10, 0, 10], abs=1e-9)
    # Pair (1, 2): true direction (-1, 0, 2); estimated (1, 0, 2) turned by -10 degrees about y.
    between = 2 * np.degrees(np.arctan2(1, 2)) - 10
    assert errors.translation_deg == pytest.approx([0, 45, between], abs=1e-9)
    assert errors.pose_deg == pytest.approx([10, 45, between], abs=1e-9)


def test_a_transposed_or_inverted_pose_is_an_error() -> None:
    truth = some_cameras(5)
    inverted = relative_pose_errors([np.linalg.inv(c) for c in truth], truth)
    assert np.median(inverted.rotation_deg) > 20
    mirrored = [rigid(c[:3, :3], -c[:3, 3]) for c in truth]
    assert relative_pose_errors(mirrored, truth).translation_deg == pytest.approx(180)


def test_unregistered_photos_cost_180_degrees() -> None:
    truth = some_cameras(4)
    errors = relative_pose_errors([truth[0], None, truth[2], truth[3]], truth)
    assert errors.pose_deg == pytest.approx([180, 0, 0, 180, 180, 0], abs=1e-5)
    assert auc_at(errors.pose_deg, 30) == pytest.approx(50, abs=1e-4)
    nothing = relative_pose_errors([None] * 4, truth)
    assert auc_at(nothing.pose_deg, 30) == recall_at(nothing.rotation_deg, 180) == 0
    assert centre_error([None] * 4, truth) is None
    lonely = relative_pose_errors([truth[0]], truth[:1])
    assert lonely.pose_deg.size == 0 and auc_at(lonely.pose_deg, 5) == 0
    assert recall_at(lonely.rotation_deg, 5) == 0


def test_cameras_at_one_place() -> None:
    here = [rigid(turned(a), [1, 2, 3]) for a in (0, 20)] + [rigid(np.eye(3), [1, 2, 9])]
    apart = [rigid(turned(a), [a, 0, 0]) for a in (0, 20)] + [rigid(np.eye(3), [0, 0, 7])]
    # The truth has no direction between photos 0 and 1: nothing to get wrong.
    assert relative_pose_errors(apart, here).translation_deg[0] == 0
    # The estimate has none where the truth has one: not answered.
    errors = relative_pose_errors(here, apart)
    assert errors.translation_deg[0] == 180 and errors.rotation_deg[0] == pytest.approx(0, abs=1e-6)
    same = [here[0]] * 3
    assert relative_pose_errors(same, same).pose_deg.max() < 1e-6
    # All at one place against corners at distances 2, 1, 1 from their mean.
    corners = [rigid(np.eye(3), c) for c in ([2, 0, 0], [-1, 0, 0], [-1, 0, 0])]
    assert centre_error(same, corners) == pytest.approx(np.sqrt((4 + 1 + 1) / 3))


def test_auc_worked_by_hand() -> None:
    # Through (0, 0) and (2.5, 1), then level to 5: (1.25 + 2.5) / 5.
    assert auc_at([2.5], 5) == pytest.approx(75)
    # (0, 0), (1, 1/4), (3, 2/4), level to 4; errors at or beyond the threshold do not enter.
    assert auc_at([3, 1, 4, 180], 4) == pytest.approx(100 * (0.125 + 0.75 + 0.5) / 4)
    assert auc_at([0, 0], 5) == 100
    assert auc_at([5, 6], 5) == 0
    assert auc_at([], 5) == 0
    assert recall_at([1, 3, 5, 180], 5) == 50


def test_mean_accuracy_counts_whole_degrees() -> None:
    # Shares below 1, 2, 3, 4 degrees: 0, 1/4, 2/4, 2/4; an error of exactly 3 is not below 3.
    assert mean_accuracy_at([1.5, 2.9, 4, 180], 4) == pytest.approx(100 * 1.25 / 4)
    assert mean_accuracy_at([3.0], 4) == 25 and mean_accuracy_at([], 30) == 0
    cameras = some_cameras(4)
    flipped = [rigid(c[:3, :3], -c[:3, 3]) for c in cameras]
    errors = relative_pose_errors(flipped, cameras)
    assert errors.unsigned_translation_deg == pytest.approx(0, abs=1e-5)


def test_step_errors_worked_by_hand() -> None:
    truth = [rigid(np.eye(3), [k, 0, 0]) for k in range(4)]
    # Twice as large, in another frame, and photo 2 turned by 6 degrees in place: steps 1-2 and 2-3
    # turn by 6 degrees; seen from photo 2 the step to photo 3 points 6 degrees aside.
    world = rigid(turned(50, "z"), [4, 5, 6])
    estimated = [world @ rigid(np.eye(3), [2 * k, 0, 0]) for k in range(4)]
    estimated[2] = estimated[2] @ rigid(turned(6), [0, 0, 0])
    error = step_errors(estimated, truth)
    assert error is not None
    assert error.rotation_deg == pytest.approx(np.sqrt(72 / 3))
    assert error.translation == pytest.approx(2 * np.sin(np.radians(3)) / np.sqrt(3))
    double = step_errors(estimated, truth, step=2)
    assert double is not None and double.rotation_deg == pytest.approx(np.sqrt(36 / 2))
    assert step_errors([*estimated[:2], None, None], truth) is None
    gap = step_errors([estimated[0], None, estimated[1], None, estimated[3]], truth + truth[:1])
    assert gap is None


def test_focal_and_centre_errors_worked_by_hand() -> None:
    assert focal_errors_percent([110, 95], [100, 100]) == pytest.approx([10, 5])
    square = [rigid(np.eye(3), c) for c in ([1, 1, 0], [1, -1, 0], [-1, 1, 0], [-1, -1, 0])]
    # Points at +-1 that alternate out of the plane by h: the best fit is flat with scale
    # sum(s.t) / sum(s.s) = 8 / (8 + 4 h^2).
    h = 0.5
    bent = [rigid(np.eye(3), [*c[:2, 3], h * c[0, 3] * c[1, 3]]) for c in square]
    scale = 8 / (8 + 4 * h**2)
    rms = np.sqrt(2 * (1 - scale) ** 2 + (scale * h) ** 2)
    assert centre_error(bent, square) == pytest.approx(rms)
    assert centre_error([bent[0], bent[1], None, None], square) is None


def test_a_saved_scene_is_scored(tmp_path: Path) -> None:
    cameras = some_cameras(4)
    write_scene(tmp_path / "scene", found=[cameras[0], cameras[1], None], focal=110.0)
    truth = read_truth(write_truth(tmp_path / "truth", cameras))
    assert truth.cameras["0.jpg"].intrinsics[:2, 2].tolist() == [80, 60]
    scores = score_scene(tmp_path / "scene", truth)
    assert (scores.photos, scores.registered) == (4, 2)
    assert scores.poses is not None
    assert scores.poses.auc[30] == pytest.approx(100 / 6)  # one pair of six
    assert scores.poses.maa30 == pytest.approx(100 / 6) and scores.poses.step is None
    assert scores.poses.median_rotation_deg == 180
    assert scores.poses.focal_error_percent == pytest.approx(10)  # 220 against 200
    assert scores.poses.centre_error is None
    # Photo 0: 20 of its 120 known columns are at 1.25 m, the rest at 1 m; photo 2 is not placed.
    each = scores.depth_each_scale
    assert each is not None and each.abs_rel == pytest.approx(1 / 6 * 0.2)
    assert each.transforms[0] is not None and each.transforms[0].scale == 0.5
    assert each.transforms[1] is None
    assert each.coverage == pytest.approx(120 * 120 / (120 * 120 + 60 * 80))


def test_the_command_prints_scores_or_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cameras = some_cameras(4)
    write_scene(tmp_path / "scene", found=cameras[:3], focal=100.0)
    truth = str(write_truth(tmp_path / "truth", cameras))
    assert main(["scene", str(tmp_path / "scene"), "--truth", truth]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["poses"]["auc"]["5"] == pytest.approx(50)
    assert scores["depth_one_scale"]["coverage"] == pytest.approx(1)
    bare = ["--depth", str(tmp_path / "none")]
    assert main(["scene", str(tmp_path / "scene"), "--truth", truth, *bare]) == 0
    assert json.loads(capsys.readouterr().out)["depth_one_scale"] is None
    assert main(["scene", str(tmp_path / "gone"), "--truth", truth]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    for wrong in ("gone.json", "truth"):
        assert main(["scene", str(tmp_path / "scene"), "--truth", str(tmp_path / wrong)]) == 2
        assert f"{wrong} is no file: give the cameras.json" in capsys.readouterr().err


def test_a_scene_of_ours_can_be_the_truth(tmp_path: Path) -> None:
    """It has a coloured picture of each depth map beside it."""
    scene = tmp_path / "scene"
    save_scene(make_scene(tmp_path), scene)
    assert len(list((scene / "depth").glob("*.png"))) > 1
    scores = score_scene(scene, read_truth(scene / "cameras.json"))
    assert scores.depth_one_scale is not None and scores.depth_one_scale.abs_rel == 0


def test_scenes_without_truth_still_count_photos(tmp_path: Path) -> None:
    write_scene(tmp_path / "scene", found=[np.eye(4), None], focal=100.0)
    images = {f"{n}.jpg": {"K": None, "cam_to_world": None} for n in range(2)}
    (tmp_path / "cameras.json").write_text(json.dumps({"images": images}))
    scores = score_scene(tmp_path / "scene", read_truth(tmp_path / "cameras.json"))
    assert (scores.photos, scores.registered) == (2, 1)
    assert scores.poses is scores.depth_one_scale is scores.depth_each_scale is None


def test_missing_or_foreign_files_are_input_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cameras\.json is missing"):
        read_truth(tmp_path / "cameras.json")
    for text in ("no json", "[]", '{"images": {"a.jpg": {"K": [1]}}}'):
        (tmp_path / "cameras.json").write_text(text)
        with pytest.raises(InputError, match=r"cannot be read|no JSON object|not a cameras\.json"):
            read_truth(tmp_path / "cameras.json")


def test_the_cloud_is_scored_after_registration(tmp_path: Path) -> None:
    # A saved scene in another frame and at half the size; a fifth of its points far off.
    shots = shoot(3, width=64, height=48)
    rng = np.random.default_rng(0)
    parts, views = [], []
    for shot in shots:
        camera = Camera(shot.intrinsics, 64, 48, shot.cam_to_world)
        pose = rigid(turned(40), [0, 0, 0]) @ shot.cam_to_world
        moved = rigid(pose[:3, :3], pose[:3, 3] / 2)
        found = Camera(shot.intrinsics, 64, 48, moved)
        depth = shot.depth.astype(np.float64)
        views.append(TrueView(camera, depth, found, depth / 2))
        parts.append(transform_points(moved, unproject(depth / 2, shot.intrinsics)[depth > 0]))
    points = np.concatenate(parts)
    far = rng.random(len(points)) < 0.2
    points[far] += 0.5
    cloud = PointCloud(
        points.astype(np.float32),
        np.zeros((len(points), 3), np.uint8),
        np.tile(np.float32([0, 0, 1]), (len(points), 1)),
        np.ones(len(points), np.float32),
    )
    write_cloud_ply(tmp_path / "points.ply", cloud)
    scores = score_cloud(tmp_path / "points.ply", views)
    assert scores is not None
    assert scores.accuracy_median < 0.02 and scores.completeness_median < 0.02
    assert 0.75 < scores.precision < 0.95 and scores.recall > 0.95
    assert scores.accuracy > 0.02
    assert score_cloud(tmp_path / "none.ply", views) is None
    assert score_cloud(tmp_path / "points.ply", []) is None
