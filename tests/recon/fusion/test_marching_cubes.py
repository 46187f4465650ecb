"""The surface that marching cubes draws in sparse blocks."""

from __future__ import annotations

import numpy as np
import open3d as o3d
import pytest
import torch

from recon.fusion.cube_cases import triangles_of_cases
from recon.fusion.mesh_edges import open_edges
from recon.fusion.tsdf import BLOCK, Volume, extract


def volume(
    distance: np.ndarray, weight: np.ndarray | None = None, *, first: tuple[int, int, int]
) -> Volume:
    """Signed distances (X, Y, Z) of whole blocks, of which ``first`` is the lowest one."""
    blocks, rows, weights = [], [], []
    weight = np.ones(distance.shape) if weight is None else weight
    shape = np.array(distance.shape) // BLOCK
    # In no order: nothing may depend on it.
    for block in np.random.default_rng(0).permutation(list(np.ndindex(*shape))):
        part = tuple(slice(BLOCK * k, BLOCK * (k + 1)) for k in block)
        blocks.append(block + first)
        rows.append(distance[part].ravel(order="F"))
        weights.append(weight[part].ravel(order="F"))
    return Volume(
        0.25,
        torch.from_numpy(np.array(blocks, np.int32)),
        torch.from_numpy(np.array(rows, np.float32)),
        torch.from_numpy(np.array(weights, np.float32)),
    )


def arrays(mesh: o3d.geometry.TriangleMesh) -> tuple[np.ndarray, np.ndarray]:
    return np.asarray(mesh.vertices), np.asarray(mesh.triangles)


def test_a_ball_is_closed_round_and_the_right_way_out() -> None:
    places = np.stack(np.mgrid[-8:16, -16:8, 0:16], -1) - [3.3, -4.2, 7.6]
    mesh = extract(volume(np.linalg.norm(places, axis=-1) - 5, first=(-1, -2, 0)))
    vertices, triangles = arrays(mesh)
    radius = np.linalg.norm(vertices / 0.25 - [3.3, -4.2, 7.6], axis=1)
    assert np.abs(radius - 5).max() < 0.05
    assert not len(open_edges(triangles))
    # Its volume counts by the side that is out: where the distance is positive.
    assert mesh.get_volume() == pytest.approx(4 / 3 * np.pi * (5 * 0.25) ** 3, rel=0.03)
    assert np.all(np.bincount(triangles.ravel(), minlength=len(vertices)) > 0)


def test_no_case_leaves_a_gap_to_its_neighbours() -> None:
    # Noise has every case, also those of which corners take turns around a face.
    distance = np.random.default_rng(1).uniform(-1, 1, (24, 24, 24))
    # So that the surface ends nowhere.
    distance[[0, -1]] = distance[:, [0, -1]] = distance[:, :, [0, -1]] = 1.0
    vertices, triangles = arrays(extract(volume(distance, first=(5, 0, -3))))
    assert len(triangles) > 20_000
    edges = triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    forth, back = (
        np.unique(some[:, 0] * len(vertices) + some[:, 1], return_counts=True)
        for some in (edges.astype(np.int64), edges[:, ::-1].astype(np.int64))
    )
    # Each edge is gone along as often one way as the other.
    for one, other in zip(forth, back, strict=True):
        np.testing.assert_array_equal(one, other)
    assert len({tuple(v) for v in vertices.tolist()}) == len(vertices)


def test_nothing_is_drawn_where_a_corner_was_not_measured() -> None:
    x = np.mgrid[0:16, 0:16, 0:16][0]
    weight = np.ones((16, 16, 16))
    weight[:, 9, 4] = 0
    vertices, triangles = arrays(extract(volume(x - 7.5, weight, first=(0, 0, 0))))
    corners = (vertices / 0.25)[triangles]
    assert np.allclose(corners[..., 0], 7.5)
    near = (corners[..., 1:] >= [8, 3]).all(-1) & (corners[..., 1:] <= [10, 5]).all(-1)
    assert not near.all(axis=1).any()
    assert len(triangles) == 2 * (15 * 15 - 4)


def test_an_empty_volume_has_no_surface() -> None:
    for mesh in (
        extract(volume(np.ones((8, 8, 8)), first=(0, 0, 0))),
        extract(volume(np.ones((8, 8, 8)), np.zeros((8, 8, 8)), first=(0, 0, 0))),
    ):
        assert not len(mesh.vertices) and not len(mesh.triangles)


def test_simple_cases_have_the_fewest_triangles() -> None:
    table, starts = triangles_of_cases()
    counts = np.diff(starts) // 3
    assert counts[0] == counts[255] == 0
    assert counts[[1, 2, 4, 8, 16, 32, 64, 128]].tolist() == [1] * 8
    # One corner off, a flat half, and two corners at the ends of a diagonal.
    assert counts[[254, 0b00001111, 0b10000001]].tolist() == [1, 2, 2]
    assert table.min() == 0 and table.max() == 11
