"""``splat.ply``: Gaussians that lie flat on the surface, as the format has them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from scene_factory import colours_at
from scipy.spatial.transform import Rotation

from recon.export.ply import write_mesh_ply
from recon.export.splat import write_splat, write_spz
from recon.scene import Mesh, PointCloud


def sheet(normal: np.ndarray, spacing: float = 0.1) -> PointCloud:
    """A square grid of 400 points on a plane."""
    first = np.cross(normal, [0.3, 0.5, 0.8])
    first /= np.linalg.norm(first)
    second = np.cross(normal, first)
    u, v = spacing * np.stack(np.meshgrid(np.arange(20), np.arange(20))).reshape(2, -1)
    points = u[:, None] * first + v[:, None] * second
    colours = np.tile(np.array([[255, 128, 0]], np.uint8), (400, 1))
    normals = np.tile(normal, (400, 1)).astype(np.float32)
    return PointCloud(
        points.astype(np.float32), colours, normals, np.linspace(0, 1, 400, dtype="f4")
    )


def read(path: Path) -> dict[str, np.ndarray]:
    head, body = path.read_bytes().split(b"end_header\n", 1)
    names = [line.split()[-1].decode() for line in head.splitlines() if b"property float" in line]
    table = np.frombuffer(body, "<f4").reshape(-1, len(names))
    return dict(zip(names, table.T, strict=True))


@pytest.mark.parametrize("normal", [(0, 0, 1), (0, 0, -1), (1, 0, 0), (0.6, -0.48, -0.64)])
def test_gaussians_lie_in_the_surface_as_wide_as_its_points_are_apart(
    normal: tuple[float, float, float], tmp_path: Path
) -> None:
    cloud = sheet(np.array(normal, float))
    write_splat(tmp_path / "splat.ply", cloud, Mesh.empty())
    found = read(tmp_path / "splat.ply")
    w, x, y, z = (found[f"rot_{k}"] for k in range(4))
    axes = Rotation.from_quat(np.stack([x, y, z, w], -1)).as_matrix()
    np.testing.assert_allclose(axes[:, :, 2], cloud.normals, atol=1e-6)
    scales = np.exp([found[f"scale_{k}"] for k in range(3)])
    np.testing.assert_array_equal(scales[0], scales[1])
    assert np.median(scales[0]) == pytest.approx(0.06, rel=0.01)
    np.testing.assert_allclose(scales[2], 0.1 * scales[0], rtol=1e-5)


def test_colour_and_opacity_come_back(tmp_path: Path) -> None:
    cloud = sheet(np.array([0.0, 0, 1]))
    write_splat(tmp_path / "splat.ply", cloud, Mesh.empty())
    found = read(tmp_path / "splat.ply")
    rgb = 0.5 + 0.28209479177387814 * np.stack([found[f"f_dc_{k}"] for k in range(3)], -1)
    np.testing.assert_allclose(rgb, cloud.colours / 255, atol=1e-6)
    opacity = 1 / (1 + np.exp(-found["opacity"]))
    assert opacity[0] == pytest.approx(0.6) and opacity[-1] == pytest.approx(0.99)
    assert (np.diff(opacity) >= 0).all()


@pytest.mark.parametrize("count", [0, 1, 3])
def test_few_points_and_those_that_are_nowhere(count: int, tmp_path: Path) -> None:
    cloud = sheet(np.array([0.0, 0, 1]))
    points = cloud.points[: count + 1].copy()
    points[-1] = np.nan
    few = PointCloud(
        points, *(a[: count + 1] for a in (cloud.colours, cloud.normals, cloud.confidence))
    )
    write_splat(tmp_path / "splat.ply", few, Mesh.empty())
    found = read(tmp_path / "splat.ply")
    assert len(found["x"]) == count
    assert all(np.isfinite(column).all() for column in found.values())


def test_a_surface_shows_its_colours_without_gaps(tmp_path: Path) -> None:
    """A square of coarse triangles, stretched two to one: drawn as splats are, it looks as drawn as
    a mesh, from aside as well.
    """
    from benchmarks.splats import GREY, draw_mesh, draw_splats, read_splat

    u, v = np.meshgrid(np.arange(0, 41), np.arange(0, 81))
    points = np.stack([u * 0.1 - 2, v * 0.05 - 2, 0.2 * np.sin(u / 8)], -1).reshape(-1, 3)
    k = np.arange(points.shape[0]).reshape(u.shape)
    a, b, c, d = (x.ravel() for x in (k[:-1, :-1], k[:-1, 1:], k[1:, 1:], k[1:, :-1]))
    faces = np.concatenate([np.stack([a, c, b], 1), np.stack([a, d, c], 1)]).astype(np.int32)
    normals = np.tile(np.array([0, 0, -1], np.float32), (len(points), 1))
    mesh = Mesh(points.astype(np.float32), faces, colours_at(points), normals)
    write_splat(tmp_path / "splat.ply", PointCloud.empty(), mesh)
    splats = read_splat(tmp_path / "splat.ply")
    write_mesh_ply(tmp_path / "mesh.ply", mesh)
    K = np.array([[150.0, 0, 60], [0, 150, 60], [0, 0, 1]])
    for angle in (0, 40):
        world_to_cam = np.eye(4)
        world_to_cam[:3, :3] = Rotation.from_euler("y", angle, degrees=True).as_matrix()
        world_to_cam[:3, 3] = [0, 0, 7]
        true, there = draw_mesh(tmp_path, K, world_to_cam, (120, 120))
        drawn = draw_splats(splats, K, world_to_cam, (120, 120))
        assert 0.3 < there.mean() < 0.9
        inner = cv2.erode(there.astype(np.uint8), np.ones((5, 5))) > 0
        assert np.abs(drawn - true)[inner].mean() < 6
        outer = cv2.dilate(there.astype(np.uint8), np.ones((13, 13))) == 0
        assert np.abs(drawn - GREY)[outer].max() < 3


def test_spz_holds_the_same_gaussians(tmp_path: Path) -> None:
    gsply = pytest.importorskip("gsply")
    cloud = sheet(np.array([0.6, -0.48, -0.64]))
    for scale in (1.0, 1e4):
        large = PointCloud(scale * cloud.points, cloud.colours, cloud.normals, cloud.confidence)
        write_splat(tmp_path / "splat.ply", large, Mesh.empty())
        write_spz(tmp_path / "splat.spz", large, Mesh.empty())
        found, true = gsply.read_spz(tmp_path / "splat.spz"), read(tmp_path / "splat.ply")
        np.testing.assert_allclose(found.means, large.points, atol=2e-6 * scale)
        colours = np.stack([true[f"f_dc_{k}"] for k in range(3)], -1)
        np.testing.assert_allclose(np.asarray(found.sh0).reshape(-1, 3), colours, atol=0.03)
        turned, meant = (
            Rotation.from_quat(np.roll(quats, -1, axis=1)).as_matrix()[:, :, 2]
            for quats in (found.quats, np.stack([true[f"rot_{k}"] for k in range(4)], -1))
        )
        np.testing.assert_allclose(turned, meant, atol=0.01)
    assert (tmp_path / "splat.spz").stat().st_size < (tmp_path / "splat.ply").stat().st_size / 4
