"""Meshes against measured depth and scanned points, with errors that are known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from truth_files import some_cameras

from pointmap.camera import pinhole, rigid, transform_points
from recon.evaluation.command import main
from recon.evaluation.poses import similarity_of_cameras
from recon.export.ply import write_cloud_ply, write_mesh_ply
from recon.scene import Mesh, PointCloud

WIDTH, HEIGHT, DISTANCE = 80, 60, 1.5
# What takes the truth to the frame and unit of the scene that is scored.
TO_SCENE = rigid(
    2.5 * Rotation.from_euler("xyz", [40, -70, 10], degrees=True).as_matrix(), [3, 1, -2]
)


def wall(*, left: float = -3, right: float = 3, depth: float = DISTANCE) -> Mesh:
    """Return a wall z = ``depth`` of two triangles, in the truth's frame."""
    corners = [[left, -3, depth], [right, -3, depth], [right, 3, depth], [left, 3, depth]]
    faces = np.array([[0, 2, 1], [0, 3, 2]], np.int32)
    vertices = np.array(corners, np.float32)
    return Mesh(vertices, faces, np.full((4, 3), 128, np.uint8), np.zeros((4, 3), np.float32))


def scored(folder: Path, mesh: Mesh, capsys: pytest.CaptureFixture[str], *more: str) -> dict:
    """Return what the command says of ``mesh``, given in the truth's frame."""
    truth, scene = folder / "truth", folder / "scene"
    (truth / "depth").mkdir(parents=True, exist_ok=True)
    scene.mkdir(exist_ok=True)
    listed: dict[str, dict] = {"truth": {}, "scene": {}}
    # Two cameras on a line that passes through both: their rotations tell the rest.
    for n, x in enumerate((-0.3, 0.4)):
        pose = rigid(np.eye(3), [x, 0, 0])
        for name, to_frame in (("truth", np.eye(4)), ("scene", TO_SCENE)):
            moved = to_frame @ pose
            moved[:3, :3] /= np.cbrt(np.linalg.det(moved[:3, :3]))
            K = pinhole(70.0, WIDTH, HEIGHT).tolist()
            listed[name][f"{n}.png"] = {
                "K": K, "cam_to_world": moved.tolist(), "width": WIDTH, "height": HEIGHT,
            }  # fmt: skip
        depth = np.full((HEIGHT, WIDTH), DISTANCE)
        depth[:, :8] = 0
        np.savez(truth / "depth" / f"{n}.npz", depth=depth)
    for name, images in listed.items():
        data = {"units": "scene", "pixel_centre": 0.5, "images": images}
        (folder / name / "cameras.json").write_text(json.dumps(data))
    vertices = transform_points(TO_SCENE, mesh.vertices).astype(np.float32)
    write_mesh_ply(scene / "mesh.ply", Mesh(vertices, mesh.faces, mesh.colours, mesh.normals))
    capsys.readouterr()
    code = main(["mesh", str(scene), "--truth", str(truth / "cameras.json"), *more])
    assert code == 0
    return dict(json.loads(capsys.readouterr().out))


@pytest.mark.parametrize("count", [2, 5])
def test_the_similarity_of_cameras_is_recovered(count: int) -> None:
    cameras = some_cameras(count)
    moved = [TO_SCENE @ camera for camera in cameras]
    for pose in moved:
        pose[:3, :3] /= 2.5
    np.testing.assert_allclose(similarity_of_cameras(cameras, moved), TO_SCENE, atol=1e-9)
    back = similarity_of_cameras(moved, cameras)
    np.testing.assert_allclose(back @ TO_SCENE, np.eye(4), atol=1e-9)


def test_a_mesh_in_another_frame_and_unit_is_right(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    depth = scored(tmp_path, wall(), capsys)["depth"]
    assert depth == {"hit": 1.0, "right": 1.0, "right_of_hit": 1.0, "f1": 1.0}


def test_half_a_mesh_is_half_complete(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # What the cameras at -0.3 and 0.4 measured: from column 8 on, of focal length 70.
    edges = np.array([[x + DISTANCE * (u - 40) / 70 for u in (8, 80)] for x in (-0.3, 0.4)])
    share = float(np.mean((edges[:, 1] - 0.05) / np.ptp(edges, axis=1)))
    depth = scored(tmp_path, wall(left=0.05), capsys)["depth"]
    assert depth["hit"] == pytest.approx(share, abs=0.02)
    assert depth["right_of_hit"] == 1.0
    assert depth["f1"] == pytest.approx(2 * share / (1 + share), abs=0.02)


@pytest.mark.parametrize(("off", "right"), [(0.045, 1.0), (0.055, 0.0)])
def test_right_is_within_five_centimetres(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], off: float, right: float
) -> None:
    depth = scored(tmp_path, wall(depth=DISTANCE + off), capsys)["depth"]
    assert depth["hit"] == 1.0
    assert depth["right"] == right


def test_a_scanned_cloud_tells_accuracy_and_completeness(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    points = np.column_stack([rng.uniform(-3, 3, (40_000, 2)), np.full(40_000, DISTANCE)])
    none = np.zeros((len(points), 3), np.float32)
    scan = PointCloud(points.astype(np.float32), none.astype(np.uint8), none, none[:, 0])
    cloud = tmp_path / "scan.ply"
    write_cloud_ply(cloud, scan)
    mesh = wall(left=0.0, depth=DISTANCE + 0.15)
    rows = scored(tmp_path, mesh, capsys, "--cloud", str(cloud), "--tolerances", "0.1", "0.2")
    near, far = rows["cloud"]
    assert (near["accuracy"], near["completeness"], near["f1"]) == (0, 0, 0)
    assert far["accuracy"] == pytest.approx(1.0, abs=0.01)
    # Half of the wall, and the points within 0.13 of its edge.
    assert far["completeness"] == pytest.approx(0.5 + 0.132 / 6, abs=0.03)


def test_nothing_to_score_by_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scored(tmp_path, wall(), capsys)
    truth, scene = str(tmp_path / "truth" / "cameras.json"), str(tmp_path / "scene")
    assert main(["mesh", scene, "--truth", truth, "--depth", str(tmp_path / "none")]) == 2
    assert "--cloud" in capsys.readouterr().err
    assert main(["mesh", scene, "--truth", truth, "--file", "other.ply"]) == 2
    assert "other.ply" in capsys.readouterr().err
