"""What the pages' 3D view gets of a scene: thinned, packed, and where it is."""

from __future__ import annotations

import base64
import dataclasses
import json
import zlib
from typing import Any

import numpy as np
import pytest
from page_reader import hostile_scene

import viz.pages.scene_page
from recon.reconstruction import Reconstruction
from recon.scene import Mesh, PointCloud, World
from viz.drawing.viewpoint import scene_frame
from viz.pages.packing import packed
from viz.pages.scene_data import scene_data
from viz.pages.thin_mesh import thin_mesh


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Reconstruction:
    return hostile_scene(tmp_path_factory.mktemp("photos"))


def columns(text: str, count: int, widths: list[int]) -> list[np.ndarray]:
    """What viewer/decoding.js makes of packed columns."""
    planes = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8).reshape(-1, count)
    read, start = [], 0
    for width in widths:
        folded = sum(planes[start + k].astype(np.int64) << (8 * k) for k in range(width))
        steps = (folded >> 1) ^ -(folded & 1)
        read.append(np.cumsum(steps) % (1 << (8 * width)))
        start += width
    return read


def solid(part: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Places, colours, confidence and normals of a part of the view's data."""
    read = columns(part["points"], part["count"], [2, 2, 2, 1, 1, 1, 1, 1, 1, 1])
    places = np.array(part["low"]) + np.array(part["span"]) * np.stack(read[:3], axis=1) / 65535
    normals = np.stack(read[7:], axis=1).astype(np.uint8).view(np.int8) / 127
    return places, np.stack(read[3:6], axis=1), read[6] / 255, normals


@pytest.mark.parametrize("width", [1, 2, 4])
def test_columns_come_back_as_they_were(width: int) -> None:
    rng = np.random.default_rng(width)
    values = rng.integers(0, 1 << (8 * width), 50)
    ends = np.array([0, (1 << (8 * width)) - 1, 0, 1])
    text = packed([values, np.resize(ends, 50)], widths=(width, width))
    first, second = columns(text, 50, [width, width])
    np.testing.assert_array_equal(first, values)
    np.testing.assert_array_equal(second, np.resize(ends, 50))


def test_view_data_hold_the_points_where_they_are(scene: Reconstruction) -> None:
    data = scene_data(scene)
    frame = scene_frame(scene)
    places, colours, confidence, normals = solid(data["cloud"])
    # Every eighth point first, then those between.
    order = np.concatenate([np.arange(len(places))[k::8] for k in (0, 4, 2, 6, 1, 5, 3, 7)])
    world = frame.centre + places * [1, -1, -1] * frame.radius @ frame.axes.T
    np.testing.assert_allclose(world, scene.cloud.points[order], atol=2e-4 * frame.radius)
    np.testing.assert_array_equal(colours, scene.cloud.colours[order])
    np.testing.assert_allclose(confidence, scene.cloud.confidence[order], atol=0.003)
    turned = normals * [1, -1, -1] @ frame.axes.T
    np.testing.assert_allclose(turned, scene.cloud.normals[order], atol=0.04)
    camera = data["cameras"][0]
    eye = np.array(camera["eye"]) * [1, -1, -1] * frame.radius
    pose = scene.views[0].camera.cam_to_world
    np.testing.assert_allclose(frame.centre + frame.axes @ eye, pose[:3, 3], atol=1e-3)
    axes = np.array(camera["axes"]) * [1, -1, -1] @ frame.axes.T
    np.testing.assert_allclose(axes, pose[:3, :3].T, atol=1e-4)


def test_boxes_of_an_upright_scenes_page_are_boxes_of_the_scene(scene: Reconstruction) -> None:
    for up, level in (((0.0, 0.0, 1.0), True), ((0.0, 1.0, 0.0), True)):
        world = World("upright", up, 0.5)
        frame = scene_data(dataclasses.replace(scene, world=world))["frame"]
        assert frame["level"] == level
        axes = np.array(frame["axes"])
        np.testing.assert_allclose(axes[1], up)
        np.testing.assert_allclose(np.linalg.det(axes), 1)
        np.testing.assert_allclose(axes[0], [1, 0, 0])


def test_view_data_are_thinned(scene: Reconstruction) -> None:
    data = scene_data(scene, most_points=100, most_vertices=60)
    assert 50 < data["cloud"]["count"] <= 100
    (mesh,) = data["mesh"]
    assert 20 < mesh["count"] <= 60
    faces = columns(mesh["faces"], mesh["triangles"], [4, 4, 4])
    assert np.max(faces) == mesh["count"] - 1


def test_large_meshes_come_in_levels(
    scene: Reconstruction, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("viz.pages.scene_data._COARSE", 60)
    coarse, fine = scene_data(scene)["mesh"]
    assert coarse["count"] <= 60
    assert fine["count"] == len(scene.surface.vertices)
    np.testing.assert_allclose(coarse["span"], fine["span"], rtol=0.3)


def test_thinned_mesh_keeps_shape_and_sides() -> None:
    """A fine ball: thinned, it keeps its radius, and every face still looks outward."""
    across, around = np.meshgrid(
        np.linspace(0.02, np.pi - 0.02, 80), np.linspace(0, 2 * np.pi, 160)
    )
    points = np.stack(
        [np.sin(across) * np.cos(around), np.sin(across) * np.sin(around), np.cos(across)], axis=-1
    ).reshape(-1, 3)
    k = np.arange(len(points)).reshape(across.shape)
    a, b, c, d = (x.ravel() for x in (k[:-1, :-1], k[:-1, 1:], k[1:, 1:], k[1:, :-1]))
    faces = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    faces = faces[:, ::-1] if _outward(points, faces).mean() < 0 else faces
    ball = Mesh(
        points.astype(np.float32),
        np.ascontiguousarray(faces, np.int32),
        np.full(points.shape, 77, np.uint8),
        points.astype(np.float32),
    )
    thin = thin_mesh(ball, 500)
    assert 200 < len(thin.vertices) <= 500
    np.testing.assert_allclose(np.linalg.norm(thin.vertices, axis=1), 1, atol=0.06)
    assert (_outward(thin.vertices, thin.faces) > 0).mean() > 0.98
    assert (thin.colours == 77).all()
    assert len(np.unique(thin.faces, axis=0)) == len(thin.faces)
    assert thin_mesh(ball, len(points)) is ball


def _outward(points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    a, b, c = (points[faces[:, k]] for k in range(3))
    return np.einsum("ij,ij->i", np.cross(b - a, c - a), a + b + c)


def test_a_large_scene_is_thinned_to_a_page_below_15_mb(scene: Reconstruction) -> None:
    """A hundredth of the page's limits, and 2.5 triangles per kept vertex: surfaces have two."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(9_000, 3)).astype(np.float32)
    colours = rng.integers(0, 255, (len(points), 3), np.uint8)
    cloud = PointCloud(points, colours, points, np.ones(len(points), np.float32))
    faces = rng.integers(0, len(points), (5_000, 3)).astype(np.int32)
    tangle = Mesh(points, faces, colours, points)
    data = scene_data(
        dataclasses.replace(scene, cloud=cloud, surface=tangle),
        most_points=viz.pages.scene_page.MOST_POINTS // 100,
        most_vertices=viz.pages.scene_page.MOST_VERTICES // 100,
    )
    assert len(json.dumps(data)) < 15e6 / 100
