"""``pointmap export``: files of a saved scene, changed as was asked, read by their readers."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import trimesh
from scene_factory import WALL_Z, make_scene
from scipy.spatial import cKDTree

from recon.export.changed_scene import turned
from recon.export.command import main
from recon.export.load import load_scene
from recon.export.ply import read_cloud_ply, read_mesh_ply
from recon.scene import World

EVERYTHING = (
    "ply", "glb", "obj", "splat", "cameras", "colmap", "nerfstudio", "tum",
    "depth-npz", "depth-png",
)  # fmt: skip


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    return make_scene(folder, write_photos=True).save(folder / "scene")


def test_every_format_is_written_as_the_scene_has_it(
    scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main([str(scene), "--format", *EVERYTHING, "--out", str(out)]) == 0
    written = capsys.readouterr().out.split()
    assert {str(path) for path in out.rglob("*") if path.is_file()} == set(written)
    for name in ("points.ply", "mesh.ply", "cameras.json", "cameras.tum", "scene.glb"):
        assert (out / name).read_bytes() == (scene / name).read_bytes()
    points = [(f / "colmap/sparse/0/points3D.bin").stat().st_size for f in (out, scene)]
    assert points[0] == points[1] > 8
    frame = json.loads((out / "transforms.json").read_text())["frames"][0]
    assert (out / frame["file_path"]).is_file()
    # What is there already stays.
    assert main([str(scene), "--format", "ply", "--out", str(out)]) == 2


def test_what_is_written_by_way_of_a_missing_folder_is_listed(
    scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "none" / ".." / "out"
    assert main([str(scene), "--format", "tum", "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'out/cameras.tum'}\n"


@pytest.mark.parametrize(
    ("gone", "format_"),
    [
        ("mesh.ply", "glb"),
        ("mesh.ply", "splat"),
        ("points.ply", "ply"),
        ("points.ply", "nerfstudio"),
        ("colmap/sparse/0/points3D.bin", "colmap"),
    ],
)
def test_a_format_whose_part_of_the_scene_has_gone_is_not_written_without_it(
    scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], gone: str, format_: str
) -> None:
    shutil.copytree(scene, tmp_path / "scene")
    (tmp_path / "scene" / gone).unlink()
    arguments = [str(tmp_path / "scene"), "--out", str(tmp_path / "out"), "--format"]
    assert main([*arguments, format_]) == 2
    error = capsys.readouterr().err
    assert f"{gone} is missing: reconstruct the scene again" in error.splitlines()[-1]
    assert not (tmp_path / "out").exists()
    # Nothing else is made of it.
    assert main([*arguments, "cameras"]) == 0


def test_only_what_is_asked_for_is_written(scene: Path, tmp_path: Path) -> None:
    assert main([str(scene), "--format", "obj", "--out", str(tmp_path / "o")]) == 0
    assert [path.name for path in (tmp_path / "o").iterdir()] == ["mesh.obj"]


def test_a_box_is_cut_out_and_lengths_are_multiplied(scene: Path, tmp_path: Path) -> None:
    whole, out = load_scene(scene), tmp_path / "out"
    low, high = [-0.5, -2, -2], [0.5, 2, 2]
    box = [str(value) for value in [*low, *high]]
    arguments = ["--format", "ply", "cameras", "colmap", "--crop", *box, "--scale", "10"]
    assert main([str(scene), *arguments, "--out", str(out)]) == 0
    inside = ((whole.cloud.points >= low) & (whole.cloud.points <= high)).all(axis=1)
    assert 0 < inside.sum() < len(inside)
    points = read_cloud_ply(out / "points.ply").points
    np.testing.assert_allclose(points, 10 * whole.cloud.points[inside], rtol=1e-5)
    mesh = read_mesh_ply(out / "mesh.ply")
    assert 0 < len(mesh.faces) < len(whole.surface.faces)
    assert np.abs(mesh.vertices[:, 0]).max() <= 5.0
    assert np.array_equal(np.unique(mesh.faces), np.arange(len(mesh.vertices)))
    cameras = json.loads((out / "cameras.json").read_text())
    assert cameras["units"] == "scene"
    for name, entry in cameras["images"].items():
        pose = whole.cameras[name].cam_to_world
        assert pose is not None
        np.testing.assert_allclose(np.array(entry["cam_to_world"])[:3, 3], 10 * pose[:3, 3])


def test_points_to_train_splats_from_are_spread_over_what_two_photos_see(
    scene: Path, tmp_path: Path
) -> None:
    import pycolmap

    out = tmp_path / "o"
    asked = ["--format", "colmap", "--colmap-points", "150", "--out", str(out)]
    assert main([str(scene), *asked]) == 0
    model = pycolmap.Reconstruction(str(out / "colmap/sparse/0"))
    points = np.array([point.xyz for point in model.points3D.values()])
    assert 75 < len(points) <= 150
    assert min(point.track.length() for point in model.points3D.values()) >= 2
    # On the ball or the wall, where the photos say that they are; tracks have half a pixel's noise.
    on_ball = np.abs(np.linalg.norm(points, axis=1) - 1) < 0.01
    assert (on_ball | (np.abs(points[:, 2] - WALL_Z) < 0.01)).all() and 10 < on_ball.sum()
    assert model.compute_mean_reprojection_error() < 1
    whole, hidden = load_scene(scene), []
    for number, image in model.images.items():
        view = whole.views[number - 1]
        h, w = view.depth.shape
        for keypoint in image.points2D:
            z = (image.cam_from_world() * model.points3D[keypoint.point3D_id].xyz)[2]
            x, y = (keypoint.xy / 10).astype(int).clip(0, [w - 1, h - 1])
            seen = view.depth[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2]
            hidden.append(np.abs(seen / z - 1).min() > 0.03)
    assert np.mean(hidden) < 0.01  # tracks at the ball's very rim
    # Evenly: no two as close as the cloud's are.
    apart = cKDTree(points).query(points, k=2)[0][:, 1]
    dense = cKDTree(whole.cloud.points).query(whole.cloud.points, k=2)[0][:, 1]
    assert np.median(apart) > 1.5 * np.median(dense)
    assert main([str(scene), "--format", "ply", "--colmap-points", "150", "--out", "x"]) == 2
    assert main([str(scene), *asked[:3], "1", "--out", str(tmp_path / "p")]) == 2


def test_the_mesh_is_simplified(scene: Path, tmp_path: Path) -> None:
    arguments = ["--format", "ply", "--decimate", "100", "--out", str(tmp_path / "o")]
    assert main([str(scene), *arguments]) == 0
    mesh = read_mesh_ply(tmp_path / "o/mesh.ply")
    assert 50 < len(mesh.faces) <= 100
    assert np.median(np.linalg.norm(mesh.vertices, axis=1)) == pytest.approx(1, abs=0.1)
    assert np.ptp(mesh.colours) > 50


@pytest.mark.parametrize("up", [(0.0, 0.0, 1.0), (0.0, -1.0, 0.0), (1.0, 0.0, 0.0)])
@pytest.mark.parametrize("axis", ["y", "z"])
def test_turning_changes_the_frame_and_nothing_else(
    up: tuple[float, float, float], axis: str, tmp_path: Path
) -> None:
    from dataclasses import replace

    before = replace(make_scene(tmp_path), world=World("upright", up, 1.0))
    after = turned(before, axis)  # type: ignore[arg-type]
    place = "xyz".index(axis)
    assert after.world.up == tuple(np.eye(3)[place])
    heights = before.cloud.points @ np.array(up, np.float32)
    np.testing.assert_allclose(after.cloud.points[:, place], heights, atol=1e-6)
    np.testing.assert_allclose(after.cloud.normals[:, place], before.cloud.normals @ up, atol=1e-6)
    # Each camera sees each point where it saw it.
    for old, new in zip(before.views, after.views, strict=True):
        assert old.camera.cam_to_world is not None and new.camera.cam_to_world is not None
        seen = [
            (points - pose[:3, 3]) @ pose[:3, :3]
            for points, pose in (
                (before.surface.vertices, old.camera.cam_to_world),
                (after.surface.vertices, new.camera.cam_to_world),
            )
        ]
        np.testing.assert_allclose(seen[1], seen[0], atol=1e-5)
        assert math.isclose(np.linalg.det(new.camera.cam_to_world[:3, :3]), 1)


def test_the_glb_is_y_up_whatever_the_files_beside_it_are(scene: Path, tmp_path: Path) -> None:
    bounds = []
    for up in ("y", "z"):
        out = tmp_path / up
        assert main([str(scene), "--format", "glb", "cameras", "--up", up, "--out", str(out)]) == 0
        bounds.append(trimesh.load(out / "scene.glb").bounds)
    np.testing.assert_allclose(bounds[0], bounds[1], atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--crop", "0", "0", "0", "-1", "1", "1"], "low corner"),
        (["--crop", "50", "50", "50", "51", "51", "51"], "nothing of the scene"),
        (["--scale", "nan"], "--scale must be"),
        (["--scale", "-1"], "--scale must be"),
        (["--decimate", "0"], "--decimate must be"),
    ],
)
def test_what_makes_no_scene_is_one_line(
    scene: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    assert main([str(scene), "--format", "ply", "--out", str(tmp_path / "o"), *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not (tmp_path / "o").exists()


def test_a_folder_that_is_there_is_left_alone(
    scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "o").mkdir()
    assert main([str(scene), "--format", "ply", "--out", str(tmp_path / "o")]) == 2
    # There is no --overwrite, so it isn't proposed.
    assert capsys.readouterr().err.endswith("o exists already: choose another folder\n")
    assert not any((tmp_path / "o").iterdir())


def test_a_folder_that_is_no_scene_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path), "--format", "ply", "--out", str(tmp_path / "o")]) == 2
    assert "cameras.json" in capsys.readouterr().err
