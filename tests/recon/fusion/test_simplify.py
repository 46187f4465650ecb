from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from recon.fusion import simplify
from recon.fusion.mesh_edges import edge_names, open_edges
from recon.fusion.simplify import simplified
from recon.fusion.vertex_order import merged
from recon.scene import Mesh


def hill(side: int = 60) -> Mesh:
    """Return a bump over a square from 0 to 1, red where x < 0.5 and blue beyond."""
    x, y = np.meshgrid(*2 * [np.linspace(0, 1, side)], indexing="ij")
    number = np.arange(side * side).reshape(side, side)
    corners = [number[:-1, :-1], number[1:, :-1], number[1:, 1:], number[:-1, 1:]]
    a, b, c, d = (corner.ravel() for corner in corners)
    vertices = np.stack([x, y, height(x, y)], -1).reshape(-1, 3).astype(np.float32)
    red = vertices[:, :1] < 0.5
    return Mesh(
        vertices,
        np.concatenate([np.stack([a, b, c], -1), np.stack([a, c, d], -1)]).astype(np.int32),
        np.where(red, [200, 0, 0], [0, 0, 200]).astype(np.uint8),
        np.tile(np.float32([0, 0, 1]), (side * side, 1)),
    )


def height(x: NDArray[np.floating], y: NDArray[np.floating]) -> NDArray[np.floating]:
    return np.asarray(0.3 * np.exp(-20 * ((x - 0.5) ** 2 + (y - 0.5) ** 2)))


def border_length(mesh: Mesh) -> float:
    edges = mesh.vertices[open_edges(mesh.faces)]
    return float(np.linalg.norm(edges[:, 0] - edges[:, 1], axis=1).sum())


@pytest.mark.parametrize("at_once", [10**6, 2000])
def test_the_surface_its_border_and_its_colours_stay(
    monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(simplify, "_AT_ONCE", at_once)
    mesh = hill()
    small = simplified(mesh, 1200)
    assert 1000 < len(small.faces) <= 1200 < len(mesh.faces)
    x, y, z = small.vertices.T
    assert np.abs(z - height(x, y)).max() < 0.01
    # In parts, too, without a crack where two meet.
    assert border_length(small) == pytest.approx(4, rel=1e-3)
    assert edge_names(small.faces.astype(np.int64))[1].max() == 2
    sideways = np.abs(x - 0.5) > 0.1
    expected = np.where(x[:, None] < 0.5, [200, 0, 0], [0, 0, 200])
    assert np.abs(small.colours.astype(int) - expected)[sideways].max() <= 2
    # All of them the same side out.
    assert (small.normals[:, 2] > 0.1).all()


def test_a_border_too_long_to_be_kept_gives_way() -> None:
    mesh = hill()
    assert 4 * 59 == len(open_edges(mesh.faces))
    small = simplified(mesh, 150)
    assert 100 < len(small.faces) <= 150
    assert border_length(small) == pytest.approx(4, rel=0.05)


def test_colours_are_those_of_all_that_a_vertex_stands_for() -> None:
    mesh = hill()
    grain = 255 * np.random.default_rng(0).integers(0, 2, (len(mesh.vertices), 1), np.uint8)
    small = simplified(replace(mesh, colours=np.tile(grain, 3)), 600)
    inside = np.abs(small.vertices[:, :2] - 0.5).max(axis=1) < 0.4
    grey = small.colours[inside].astype(float)
    assert abs(grey.mean() - 127.5) < 15 and grey.std() < 0.7 * 127.5


def test_vertices_at_one_place_become_one() -> None:
    mesh = hill(8)
    rng = np.random.default_rng(0)
    apart = mesh.vertices[mesh.faces].reshape(-1, 3)
    faces = rng.permutation(np.arange(len(apart)).reshape(-1, 3))
    vertices, triangles = merged(apart, faces)
    assert len(vertices) == len(mesh.vertices) and len(triangles) == len(mesh.faces)
    assert len(open_edges(triangles)) == 4 * 7
    lexical = np.lexsort(vertices.T)
    assert (lexical == np.arange(len(vertices))).all()
