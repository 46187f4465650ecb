import numpy as np
import pytest
from fused_room import VOXEL, distance_to_room
from synthetic import Shot, view_of

from recon.fusion import FusionOptions, Surface, fuse_mesh, fuse_points, fuse_surface
from recon.fusion.clean_mesh import clean
from recon.scene import Mesh


def test_floating_speck_is_removed_from_the_mesh(shots: list[Shot]) -> None:
    speck = shots[3].depth.copy()
    speck[70:76, 90:96] = 1.0
    mesh = fuse_mesh([view_of(shots[3], depth=speck)])
    assert (distance_to_room(mesh.vertices.astype(np.float64)) < 0.3).all()


def test_what_other_photos_see_through_is_cleared_from_the_mesh(shots: list[Shot]) -> None:
    views = [view_of(s) for s in shots]
    # Large enough that no cleaning by size would take it away.
    ghost = shots[3].depth.copy()
    ghost[30:80, 50:110] *= 0.9
    views[3] = view_of(shots[3], depth=ghost)
    options = FusionOptions(voxel_size=VOXEL, min_component=0, max_depth_jump=1e9)
    one = fuse_mesh([views[3]], options=options)
    all_of_them = fuse_mesh(views, options=options)
    floating = [
        (distance_to_room(mesh.vertices.astype(np.float64)) > 3 * VOXEL).sum()
        for mesh in (one, all_of_them)
    ]
    assert floating[0] > 300
    assert floating[1] < 0.1 * floating[0]


def test_cropping_keeps_the_inside_of_the_box_as_it_was(shots: list[Shot]) -> None:
    views = [view_of(s) for s in shots]
    low, high = np.array([-1.0, -1.0, -1.0]), np.array([0.5, 0.8, 0.6])
    box = FusionOptions(voxel_size=VOXEL, crop=(*low, *high), min_component=0, fill_holes=0)
    whole = FusionOptions(voxel_size=VOXEL, min_component=0, fill_holes=0)
    for fuse, name in ((fuse_mesh, "vertices"), (fuse_points, "points")):
        points = getattr(fuse(views, options=box), name)
        everything = getattr(fuse(views, options=whole), name)
        inside = np.all((everything >= low) & (everything <= high), axis=1).sum()
        assert np.all((points >= low) & (points <= high))
        assert len(points) == pytest.approx(inside, rel=0.03)
    far = FusionOptions(crop=(90.0, 90.0, 90.0, 91.0, 91.0, 91.0))
    assert len(fuse_mesh(views, options=far).faces) == len(fuse_points(views, options=far).points)


def test_cleaning_is_counted_and_optional_steps_do_their_work(shots: list[Shot]) -> None:
    noise = np.random.default_rng(1).normal(size=(*shots[0].depth.shape, 2))
    speck = shots[3].depth * (1 + 0.002 * noise[..., 0])
    speck[70:76, 90:96] = 1.0
    speck[20:23, 30:34] = 0
    views = [view_of(shots[3], depth=speck.astype(np.float32))]

    def fused(**changes: float) -> Surface:
        return fuse_surface(views, options=FusionOptions(voxel_size=VOXEL, **changes))

    plain, kept = fused(), fused(min_component=0)
    removed = plain.statistics["floaters_removed"]
    assert removed >= 1
    assert plain.statistics["pieces"] == kept.statistics["pieces"]
    assert kept.statistics["floaters_removed"] == 0
    gone = plain.statistics["floater_triangles_removed"]
    assert gone >= removed
    # Holes of floaters are closed, too.
    first, second = (
        len(s.mesh.faces) - s.statistics["triangles_closing_holes"] for s in (kept, plain)
    )
    assert first - second == gone

    assert _border_length(fused(fill_holes=0).mesh) > 1.02 * _border_length(plain.mesh)
    errors = [
        distance_to_room(m.mesh.vertices.astype(float)).mean() for m in (plain, fused(smooth=10))
    ]
    assert errors[1] < 0.9 * errors[0]
    small = fused(decimate=1000).mesh
    assert 800 < len(small.faces) <= 1000 and small.colours.std() > 5
    assert np.median(distance_to_room(small.vertices.astype(np.float64))) < 0.5 * VOXEL


def test_closed_holes_face_where_the_surface_around_them_does(shots: list[Shot]) -> None:
    holed = shots[3].depth.copy()
    holed[20:23, 30:34] = 0
    holed[60:62, 90:93] = 0
    surface = fuse_surface(
        [view_of(shots[3], depth=holed)], options=FusionOptions(voxel_size=VOXEL)
    )
    assert surface.statistics["triangles_closing_holes"] > 10
    edges = surface.mesh.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    _, name, count = np.unique(
        np.sort(edges, axis=1), axis=0, return_inverse=True, return_counts=True
    )
    # Where both triangles of an edge face one way, each has it in a direction of its own.
    inside = edges[count[name.ravel()] == 2]
    assert len(np.unique(inside, axis=0)) == len(inside)
    faces = np.sort(surface.mesh.faces, axis=1)
    assert len(np.unique(faces, axis=0)) == len(faces)


def test_a_lone_triangle_is_no_hole() -> None:
    import open3d as o3d

    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [9, 9, 9], [10, 9, 9], [9, 10, 9]])
    faces = np.array([[0, 1, 2], [3, 4, 5]], np.int32)
    surface = o3d.geometry.TriangleMesh(
        o3d.utility.Vector3dVector(corners.astype(np.float64)), o3d.utility.Vector3iVector(faces)
    )
    mesh, _ = clean(surface, 1.0, FusionOptions())
    np.testing.assert_array_equal(mesh.faces, faces)


def _border_length(mesh: Mesh) -> int:
    """Number of edges with a triangle on one side only."""
    edges = np.sort(mesh.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    _, counts = np.unique(edges, axis=0, return_counts=True)
    return int((counts == 1).sum())
