"""The sample photos through the command with the bundled weights; files read by their readers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from recon.cli import main
from recon.evaluation.scene import read_truth, score_scene

PHOTOS = Path(__file__).resolve().parents[2] / "examples" / "courtyard"


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo at reduced depth resolution, which changes no camera."""
    out = tmp_path_factory.mktemp("demo") / "scene"
    assert main([str(PHOTOS / "images"), "--out", str(out), "--depth-size", "256"]) == 0
    return out


def test_all_photos_are_placed_where_they_were_taken(scene: Path) -> None:
    scores = score_scene(scene, read_truth(PHOTOS / "cameras.json"))
    cameras = json.loads((scene / "cameras.json").read_text())["images"]
    assert len(cameras) >= 8 and all(camera["registered"] for camera in cameras.values())
    assert scores.poses.auc[30] >= 90
    assert scores.poses.focal_error_percent < 3


def test_cameras_json_and_transforms_json_keep_their_contract(scene: Path) -> None:
    cameras = json.loads((scene / "cameras.json").read_text())
    assert cameras["units"] == "scene"
    for camera in cameras["images"].values():
        assert {"K", "cam_to_world", "width", "height", "registered", "reason"} <= set(camera)
        assert np.shape(camera["K"]) == (3, 3) and np.shape(camera["cam_to_world"]) == (4, 4)
        rotation = np.array(camera["cam_to_world"])[:3, :3]
        assert np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-9)
        assert np.linalg.det(rotation) > 0
    transforms = json.loads((scene / "transforms.json").read_text())
    assert len(transforms["frames"]) == len(cameras["images"])
    for frame in transforms["frames"]:
        assert (scene / frame["file_path"]).resolve().exists()
        assert np.shape(frame["transform_matrix"]) == (4, 4)


def test_geometry_opens_in_open3d_trimesh_and_pycolmap(scene: Path) -> None:
    import open3d as o3d
    import pycolmap
    import trimesh

    cloud = o3d.io.read_point_cloud(str(scene / "points.ply"))
    mesh = o3d.io.read_triangle_mesh(str(scene / "mesh.ply"))
    assert len(cloud.points) > 10_000 and cloud.has_colors() and cloud.has_normals()
    assert len(mesh.triangles) > 10_000 and mesh.has_vertex_colors()
    for name, kind in (("points.ply", trimesh.PointCloud), ("mesh.ply", trimesh.Trimesh)):
        assert isinstance(trimesh.load(scene / name), kind)
    glb = trimesh.load(scene / "scene.glb")
    assert any(len(part.faces) > 10_000 for part in glb.geometry.values())
    model = pycolmap.Reconstruction(str(scene / "colmap" / "sparse" / "0"))
    assert model.num_reg_images() == len(list((PHOTOS / "images").iterdir()))
    model.update_point_3d_errors()
    assert model.compute_mean_reprojection_error() < 1.0


def test_depth_maps_are_the_scene(scene: Path) -> None:
    """A point of one photo's depth map, seen from the next photo, has that photo's depth there."""
    cameras = json.loads((scene / "cameras.json").read_text())["images"]
    names = sorted(cameras)
    maps = {name: np.load(scene / cameras[name]["depth"]) for name in names[4:6]}
    first, second = (maps[name] for name in names[4:6])
    height, width = first["depth"].shape
    assert max(height, width) == 256
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    sure = first["confidence"] > 0.5
    rays = np.stack([x, y, np.ones_like(x)], -1)[sure] @ np.linalg.inv(first["K"]).T
    poses = [np.array(cameras[name]["cam_to_world"]) for name in names[4:6]]
    points = rays * first["depth"][sure][:, None]
    points = np.c_[points, np.ones(len(points))] @ (np.linalg.inv(poses[1]) @ poses[0]).T
    pixels = points[:, :3] @ second["K"].T
    column, row = np.floor(pixels[:, :2] / pixels[:, 2:]).astype(int).T
    inside = (column >= 0) & (row >= 0) & (column < width) & (row < height)
    depth = second["depth"][row[inside], column[inside]]
    seen = (depth > 0) & (second["confidence"][row[inside], column[inside]] > 0.5)
    relative = np.abs(points[inside, 2][seen] / depth[seen] - 1)
    assert seen.sum() > 5000
    assert np.median(relative) < 0.01
