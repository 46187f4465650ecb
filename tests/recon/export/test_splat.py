"""``splat.ply``: Gaussians that lie flat on the surface, as the format has them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from recon.export.splat import write_splat, write_spz
from recon.scene import PointCloud


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
    write_splat(tmp_path / "splat.ply", cloud)
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
    write_splat(tmp_path / "splat.ply", cloud)
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
    write_splat(tmp_path / "splat.ply", few)
    found = read(tmp_path / "splat.ply")
    assert len(found["x"]) == count
    assert all(np.isfinite(column).all() for column in found.values())


def test_spz_holds_the_same_gaussians(tmp_path: Path) -> None:
    gsply = pytest.importorskip("gsply")
    cloud = sheet(np.array([0.6, -0.48, -0.64]))
    for scale in (1.0, 1e4):
        large = PointCloud(scale * cloud.points, cloud.colours, cloud.normals, cloud.confidence)
        write_splat(tmp_path / "splat.ply", large)
        write_spz(tmp_path / "splat.spz", large)
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
