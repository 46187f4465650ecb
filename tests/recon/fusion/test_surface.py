from dataclasses import replace

import numpy as np
import open3d as o3d
import pytest
import torch
from fused_room import VOXEL, distance_to_room
from synthetic import Shot, shoot, solid_texture, view_of

from pointmap.camera import transform_points
from pointmap.lens import Lens
from recon.fusion import FusionOptions, fuse_mesh, fuse_points, fuse_surface
from recon.fusion import tsdf as tsdf_module
from recon.fusion.usable_depth import usable_depths
from recon.fusion.vertex_order import in_order


def test_mesh_is_accurate_complete_and_coloured(shots: list[Shot]) -> None:
    from scipy.spatial import cKDTree

    mesh = fuse_mesh([view_of(s) for s in shots])
    footprint = np.median([np.median(s.depth) for s in shots]) / shots[0].intrinsics[0, 0]
    voxel = 1.5 * footprint
    vertices = mesh.vertices.astype(np.float64)
    assert len(mesh.faces) > 20_000
    assert np.median(distance_to_room(vertices)) < 0.25 * voxel
    assert np.quantile(distance_to_room(vertices), 0.95) < voxel

    seen = np.concatenate(
        [transform_points(s.cam_to_world, _camera_points(s))[::17] for s in shots[2:6]]
    )
    gap, _ = cKDTree(vertices).query(seen)
    assert np.median(gap) < 0.5 * voxel * np.sqrt(3)
    assert (gap < 3 * voxel).mean() > 0.97

    truth = solid_texture(vertices, 1.0) * 255
    assert np.median(np.abs(mesh.colours - truth)) < 6
    np.testing.assert_allclose(np.linalg.norm(mesh.normals, axis=1), 1, atol=1e-3)


def _camera_points(shot: Shot) -> np.ndarray:
    from pointmap.camera import unproject

    return unproject(shot.depth, shot.intrinsics).reshape(-1, 3)


def test_half_a_pixel_off_shows_in_mesh_and_cloud(shots: list[Shot]) -> None:
    # The tilt of floor and walls turns a sideways shift into distance from the surface.
    options = FusionOptions(voxel_size=VOXEL)
    for fuse, points in ((fuse_mesh, "vertices"), (fuse_points, "points")):
        errors = [
            np.median(
                distance_to_room(
                    getattr(
                        fuse([view_of(s, shift_px=shift) for s in shots[3:4]], options=options),
                        points,
                    ).astype(np.float64)
                )
            )
            for shift in (0.0, 0.5, -0.5)
        ]
        assert errors[0] < 0.0025
        assert min(errors[1:]) > 2 * errors[0]


@pytest.mark.parametrize("k1", [-0.2, 0.2])
def test_mesh_and_cloud_are_as_true_through_a_lens(k1: float) -> None:
    bent = shoot(5, width=160, height=120, wavelength=1.0, lens=Lens.radial(k1))
    plain = shoot(5, width=160, height=120, wavelength=1.0)
    found = {}
    for name, taken in (("bent", bent), ("plain", plain)):
        views = [view_of(shot) for shot in taken]
        surface, cloud = fuse_mesh(views), fuse_points(views)
        off = [distance_to_room(p.astype(float)) for p in (surface.vertices, cloud.points)]
        found[name] = [*(np.quantile(d, q) for d in off for q in (0.5, 0.95)), len(surface.faces)]
    *errors, faces = np.array(found["bent"]) / found["plain"]
    assert max(errors) < 1.4 and faces > 0.8
    ignored = fuse_points([view_of(replace(shot, lens=Lens())) for shot in bent])
    assert np.median(distance_to_room(ignored.points.astype(float))) > 5 * found["bent"][2]


def test_the_order_in_which_threads_leave_a_mesh_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    ball = o3d.geometry.TriangleMesh.create_sphere(resolution=8)
    vertices, triangles = np.asarray(ball.vertices), np.asarray(ball.triangles)
    found = []
    for _ in range(2):
        order, rows = rng.permutation(len(vertices)), rng.permutation(len(triangles))
        shuffled = np.argsort(order)[triangles[rows]]
        turns = (np.arange(3) + rng.integers(3, size=(len(rows), 1))) % 3
        mesh = o3d.geometry.TriangleMesh(
            o3d.utility.Vector3dVector(vertices[order]),
            o3d.utility.Vector3iVector(np.take_along_axis(shuffled, turns, axis=1)),
        )
        found.append(in_order(mesh))
    for name in ("vertices", "triangles"):
        np.testing.assert_array_equal(*(np.asarray(getattr(mesh, name)) for mesh in found))
    # The same surface, the same side out.
    assert found[0].get_volume() == pytest.approx(ball.get_volume())


def test_normals_face_the_cameras(shots: list[Shot]) -> None:
    views = [view_of(s) for s in shots]
    middle = np.mean([s.cam_to_world[:3, 3] for s in shots], axis=0)
    mesh, cloud = fuse_mesh(views), fuse_points(views)
    for points, normals in ((mesh.vertices, mesh.normals), (cloud.points, cloud.normals)):
        assert (((middle - points) * normals).sum(1) > 0).mean() > 0.97


def test_threads_and_chunks_change_no_bit_of_the_surface(
    shots: list[Shot], monkeypatch: pytest.MonkeyPatch
) -> None:
    views = [view_of(s) for s in shots[:4]]
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = fuse_mesh(views)
        torch.set_num_threads(3)
        monkeypatch.setattr(tsdf_module, "_CHUNK", 37)
        several = fuse_mesh(views)
    finally:
        torch.set_num_threads(threads)
    for field in ("vertices", "faces", "colours", "normals"):
        np.testing.assert_array_equal(getattr(one, field), getattr(several, field))


def test_compiled_averaging_equals_that_of_other_devices(
    shots: list[Shot], monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = [
        depth.frame() for depth in usable_depths([view_of(s) for s in shots[:3]], FusionOptions())
    ]
    blocks = torch.cartesian_prod(*3 * [torch.arange(-4, 4, dtype=torch.int32)])
    found = []
    for average in (tsdf_module._average_compiled, tsdf_module._average):
        monkeypatch.setattr(tsdf_module, "_average_compiled", average)
        found.append(tsdf_module.integrate(frames, blocks, 0.04, 0.16, "cpu"))
    compiled, other = found
    assert (other.weight > 0).float().mean() > 0.2
    for field in ("weight", "distance"):
        a, b = getattr(compiled, field), getattr(other, field)
        # A voxel on the border of two pixels may take either.
        assert ((a - b).abs() < 1e-5 * (1 + b.abs())).float().mean() > 0.9999


def test_single_photo_gives_cloud_and_mesh(shots: list[Shot]) -> None:
    view = view_of(shots[4])
    mesh, cloud = fuse_mesh([view]), fuse_points([view], options=FusionOptions(voxel_size=1e-4))
    assert len(mesh.faces) > 5000
    assert len(cloud.points) > 0.95 * (shots[4].depth > 0).sum()


def test_scale_of_the_scene_does_not_matter(shots: list[Shot]) -> None:
    counts = []
    for scale in (0.001, 1.0, 1000.0):
        views = []
        for shot in shots[2:6]:
            matrix = shot.cam_to_world.copy()
            matrix[:3, 3] *= scale
            views.append(view_of(Shot(shot.pixels, shot.depth * scale, shot.intrinsics, matrix)))
        counts.append((len(fuse_mesh(views).faces), len(fuse_points(views).points)))
    for faces, points in counts:
        assert faces == pytest.approx(counts[1][0], rel=0.02)
        assert points == pytest.approx(counts[1][1], rel=0.02)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gives_the_same_surface(shots: list[Shot]) -> None:
    views = [view_of(s) for s in shots]
    one, other = (fuse_surface(views, device=device).mesh for device in ("cpu", "cuda"))
    assert len(other.faces) == pytest.approx(len(one.faces), rel=1e-3)
    assert np.median(distance_to_room(other.vertices.astype(np.float64))) < 0.01
