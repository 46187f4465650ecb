import numpy as np
import open3d as o3d
import pytest
import trimesh
from fused_room import distance_to_room
from synthetic import Shot, Sphere, look_at, render, view_of

from recon.fusion import FusionOptions, fuse_mesh
from recon.fusion import watertight as watertight_module
from recon.fusion.watertight import closed_surface, solid
from recon.scene import Mesh

VOXEL, VOLUME = 0.1, 4 / 3 * np.pi
SQUARE = (-1, -1), (1, -1), (1, 1), (-1, 1)


def as_solid(mesh: Mesh) -> trimesh.Trimesh:
    return trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)


def around_a_ball(elevations: tuple[float, ...]) -> list[Shot]:
    """Photos of a ball of radius 1, five around at each elevation (radians)."""
    K = np.array([[110.0, 0, 48], [0, 110, 48], [0, 0, 1]])
    places = [
        4 * np.array([np.cos(e) * np.sin(a), -np.sin(e), -np.cos(e) * np.cos(a)])
        for e in elevations
        for a in np.arange(5) * 2 * np.pi / 5
    ]
    ball = [Sphere((0.0, 0.0, 0.0), 1.0)]
    return [render(K, look_at(p, np.zeros(3)), 96, 96, surfaces=ball) for p in places]


def test_a_ball_seen_from_around_becomes_a_solid_of_its_volume() -> None:
    # Nobody saw its underside.
    views = [view_of(shot) for shot in around_a_ball((0.0, 0.9))]
    options = FusionOptions(voxel_size=VOXEL, watertight=True)
    solid = as_solid(fuse_mesh(views, options=options))
    assert solid.is_watertight and solid.is_winding_consistent
    assert solid.volume == pytest.approx(VOLUME, rel=0.03)
    small = as_solid(fuse_mesh(views, options=FusionOptions(**vars(options) | {"decimate": 800})))
    assert small.is_watertight and small.volume == pytest.approx(VOLUME, rel=0.05)


def test_a_room_becomes_a_solid_around_what_was_seen(shots: list[Shot]) -> None:
    views = [view_of(shot) for shot in shots[2:5]]
    options = FusionOptions(voxel_size=VOXEL)
    seen = fuse_mesh(views, options=options)
    mesh = fuse_mesh(views, options=FusionOptions(voxel_size=VOXEL, watertight=True))
    solid = as_solid(mesh)
    assert solid.is_watertight and solid.is_winding_consistent
    # What was seen is still there, and what is behind it is filled.
    gap = np.abs(trimesh.proximity.ProximityQuery(solid).vertex(seen.vertices[::9])[0])
    assert np.quantile(gap, 0.95) < 2 * VOXEL
    box = np.prod(np.ptp(seen.vertices, axis=0))
    assert 0.3 * box < solid.volume < box
    assert (distance_to_room(mesh.vertices[::9].astype(float)) < VOXEL).mean() > 0.4


def test_a_border_that_the_box_leaves_open_gets_a_lid(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(points: np.ndarray, _: o3d.geometry.TriangleMesh) -> np.ndarray:
        return np.zeros(len(points), bool)

    monkeypatch.setattr(watertight_module, "_behind", nothing)
    x, y = np.meshgrid(np.linspace(-1, 1, 30), np.linspace(-1, 1, 30))
    rows, columns = np.mgrid[:29, :29]
    corner = (30 * rows + columns).ravel()
    faces = np.stack([corner, corner + 1, corner + 31, corner, corner + 31, corner + 30], -1)
    sheet = o3d.geometry.TriangleMesh(
        o3d.utility.Vector3dVector(np.stack([x, y, 0.2 * np.cos(3 * x)], -1).reshape(-1, 3)),
        o3d.utility.Vector3iVector(faces.reshape(-1, 3).astype(np.int32)),
    )
    closed = closed_surface(sheet, 0.05)
    solid = trimesh.Trimesh(np.asarray(closed.vertices), np.asarray(closed.triangles))
    assert solid.is_watertight and solid.is_winding_consistent


def test_sheets_that_touch_are_taken_apart() -> None:
    # Seven cubes in a ring that meets itself along an edge, which so has four triangles.
    cells = {(0, 1), (0, 0), (1, 0), (2, 0), (2, 1), (2, 2), (1, 2)}
    sides = np.concatenate([np.eye(3, dtype=int), -np.eye(3, dtype=int)])
    corners = []
    for x, y in cells:
        for side in sides:
            if side[2] or (x + side[0], y + side[1]) not in cells:
                u = np.roll(np.abs(side), 1)
                v = np.cross(side, u)
                middle = np.array([x, y, 0]) + 0.5 + 0.5 * side
                corners += [middle + 0.5 * (p * u + q * v) for p, q in SQUARE]
    places, number = np.unique(np.array(corners), axis=0, return_inverse=True)
    quads = number.reshape(-1, 4)
    ring = o3d.geometry.TriangleMesh(
        o3d.utility.Vector3dVector(places),
        o3d.utility.Vector3iVector(quads[:, [0, 1, 2, 0, 2, 3]].reshape(-1, 3).astype(np.int32)),
    )
    assert len(ring.get_non_manifold_edges(allow_boundary_edges=False)) == 1
    made = solid(ring, 0.1)
    # As a reader of the file sees it, which takes vertices in one place for one.
    read = trimesh.Trimesh(np.asarray(made.vertices, np.float32), np.asarray(made.triangles))
    assert read.is_watertight and read.is_winding_consistent and read.body_count == 1
    assert read.volume == pytest.approx(7, rel=1e-3)
    assert np.abs(read.bounds - [[0, 0, 0], [3, 3, 1]]).max() < 0.01


def test_two_edges_between_the_same_vertices_become_two() -> None:
    # A ring (torus of 4 x 8) whose hole is pinched to a slit: two of the four vertices about it are
    # moved into the others, which so have two edges between them, one from either side.
    s, t = np.mgrid[:4, :8]
    around, tube = s * np.pi / 2, t * np.pi / 4
    reach = 2 + np.cos(tube)
    places = np.stack([reach * np.cos(around), reach * np.sin(around), np.sin(tube)], -1)
    name = np.arange(32).reshape(4, 8)
    name[1, 4], name[3, 4] = name[0, 4], name[2, 4]
    a, b = name, np.roll(name, -1, axis=0)
    c, d = np.roll(b, -1, axis=1), np.roll(a, -1, axis=1)
    faces = np.concatenate([np.stack([a, b, c], -1), np.stack([a, c, d], -1)]).reshape(-1, 3)
    ring = o3d.geometry.TriangleMesh(
        o3d.utility.Vector3dVector(places.reshape(-1, 3)),
        o3d.utility.Vector3iVector(faces.astype(np.int32)),
    )
    ring.remove_degenerate_triangles()
    assert len(ring.get_non_manifold_edges(allow_boundary_edges=False)) == 1
    made = solid(ring, 0.1)
    read = trimesh.Trimesh(np.asarray(made.vertices, np.float32), np.asarray(made.triangles))
    assert read.is_watertight and read.is_winding_consistent and read.body_count == 1
    assert read.euler_number == 0 and len(read.vertices) == 30 + 2
