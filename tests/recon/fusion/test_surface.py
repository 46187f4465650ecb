from dataclasses import replace

import numpy as np
import open3d as o3d
import pytest
import torch
from synthetic import ROOM, Plane, Shot, shoot, solid_texture, view_of

from pointmap.camera import transform_points
from pointmap.lens import Lens
from recon.fusion import FusionOptions, Surface, fuse_mesh, fuse_points, fuse_surface
from recon.fusion import cloud as cloud_module
from recon.fusion import tsdf as tsdf_module
from recon.fusion.exposure import levelled
from recon.fusion.tsdf import in_order
from recon.fusion.usable_depth import automatic_voxel_size, usable_depths, witnesses
from recon.scene import Camera, Mesh, View


def distance_to_room(points: np.ndarray) -> np.ndarray:
    """Distance (P,) of points to the nearest surface of ROOM."""
    distances = []
    for surface in ROOM:
        if isinstance(surface, Plane):
            normal = np.array(surface.normal)
            distances.append(np.abs(points @ normal - surface.offset) / np.linalg.norm(normal))
        else:
            centre = np.array(surface.centre)
            distances.append(np.abs(np.linalg.norm(points - centre, axis=1) - surface.radius))
    return np.min(distances, axis=0)


VOXEL = 0.04


@pytest.fixture(scope="module")
def shots() -> list[Shot]:
    return shoot(8, width=192, height=144, wavelength=1.0)


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


def test_cloud_is_on_the_surface_without_duplicates(shots: list[Shot]) -> None:
    # The floor, at y = 1, must not lie between two layers of voxels.
    voxel = 0.037
    options = FusionOptions(voxel_size=voxel)
    cloud = fuse_points([view_of(s) for s in shots], options=options)
    assert np.quantile(distance_to_room(cloud.points.astype(np.float64)), 0.99) < 0.01
    once = fuse_points([view_of(shots[0])], options=options)
    twice = fuse_points([view_of(shots[0]), view_of(shots[0])], options=options)
    assert len(twice.points) == len(once.points)
    cells = np.floor(cloud.points / voxel).astype(int)
    assert len(np.unique(cells, axis=0)) > 0.97 * len(cells)
    assert cloud.confidence.min() > 0.99
    capped = fuse_points([view_of(s) for s in shots], options=FusionOptions(max_points=2000))
    assert 500 < len(capped.points) <= 2000


def test_cloud_is_the_same_merged_photo_by_photo_and_all_at_once(
    shots: list[Shot], monkeypatch: pytest.MonkeyPatch
) -> None:
    views = [view_of(s) for s in shots]
    options = FusionOptions(voxel_size=VOXEL)
    at_once = fuse_points(views, options=options)
    monkeypatch.setattr(cloud_module, "_WAITING", 100)
    merged = fuse_points(views, options=options)
    for field in ("points", "colours", "normals", "confidence"):
        one, other = (getattr(cloud, field).astype(float) for cloud in (at_once, merged))
        np.testing.assert_allclose(one, other, atol=1.0 if field == "colours" else 1e-4)


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


def test_a_surface_seen_many_times_is_no_coarser(shots: list[Shot]) -> None:
    """The area of the scene counts, not how often photos show it."""
    options = FusionOptions(max_triangles=40_000)
    few, many = ([view_of(s) for s in shots[2:6]] * times for times in (1, 3))
    sizes = [automatic_voxel_size(usable_depths(views, options), options) for views in (few, many)]
    assert sizes[1] < 1.2 * sizes[0]


def test_what_other_photos_see_through_is_removed(shots: list[Shot]) -> None:
    ghost = shots[3].depth.copy()
    ghost[40:60, 60:90] *= 0.5
    views = [view_of(s) for s in shots]
    views[3] = view_of(shots[3], depth=ghost)
    cloud = fuse_points(views, options=FusionOptions(voxel_size=VOXEL))
    assert (distance_to_room(cloud.points.astype(np.float64)) > 0.3).sum() == 0


def test_floating_speck_is_removed_from_the_mesh(shots: list[Shot]) -> None:
    speck = shots[3].depth.copy()
    speck[70:76, 90:96] = 1.0
    mesh = fuse_mesh([view_of(shots[3], depth=speck)])
    assert (distance_to_room(mesh.vertices.astype(np.float64)) < 0.3).all()


def test_unsure_depth_is_left_out(shots: list[Shot]) -> None:
    confidence = np.ones(shots[0].depth.shape, np.float32)
    confidence[:, :96] = 0.2
    depth = np.where(confidence < 0.5, 0.5, shots[0].depth).astype(np.float32)
    view = view_of(shots[0], depth=depth, confidence=confidence)
    for points in (fuse_mesh([view]).vertices, fuse_points([view]).points):
        assert len(points) > 100
        assert (distance_to_room(points.astype(np.float64)) < 0.1).all()


def test_single_photo_gives_cloud_and_mesh(shots: list[Shot]) -> None:
    view = view_of(shots[4])
    mesh, cloud = fuse_mesh([view]), fuse_points([view], options=FusionOptions(voxel_size=1e-4))
    assert len(mesh.faces) > 5000
    assert len(cloud.points) > 0.95 * (shots[4].depth > 0).sum()


def test_depth_that_was_never_confirmed_is_still_shown(shots: list[Shot]) -> None:
    confidence = np.full(shots[4].depth.shape, 0.2, np.float32)
    confidence[:, :48] = 0.0
    view = view_of(shots[4], confidence=confidence)
    cloud = fuse_points([view], options=FusionOptions(voxel_size=1e-4))
    assert len(cloud.points) > 0.95 * (confidence > 0).sum()
    assert (cloud.confidence > 0).all()
    assert len(fuse_mesh([view]).faces) > 3000


def test_rough_depth_of_one_photo_is_still_shown(shots: list[Shot]) -> None:
    noise = np.random.default_rng(0).normal(size=shots[4].depth.shape)
    view = view_of(shots[4], depth=(shots[4].depth * np.exp(0.2 * noise)).astype(np.float32))
    cloud = fuse_points([view], options=FusionOptions(voxel_size=1e-4))
    assert len(cloud.points) > 0.95 * (shots[4].depth > 0).sum()


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf, -1.0])
def test_no_usable_depth_gives_empty_results(shots: list[Shot], value: float) -> None:
    depth = np.full_like(shots[0].depth, value)
    unplaced = view_of(shots[1])
    unplaced = View(
        unplaced.name,
        unplaced.path,
        Camera(unplaced.camera.intrinsics, unplaced.camera.width, unplaced.camera.height, None),
        unplaced.maps,
        reason="no matches",
    )
    for views in ([], [view_of(shots[0], depth=depth)], [unplaced]):
        mesh, cloud = fuse_mesh(views), fuse_points(views)
        assert mesh.vertices.shape == mesh.colours.shape == mesh.faces.shape == (0, 3)
        assert cloud.points.shape == cloud.normals.shape == (0, 3)
        assert cloud.confidence.shape == (0,)


def test_bad_pixels_do_not_spoil_the_good(shots: list[Shot]) -> None:
    depth = shots[2].depth.copy()
    depth[::7, ::5] = np.nan
    depth[3] = np.inf
    mesh = fuse_mesh([view_of(shots[2], depth=depth), view_of(shots[3])])
    assert np.isfinite(mesh.vertices).all() and len(mesh.faces) > 5000


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


def test_triangle_bound_is_kept(shots: list[Shot]) -> None:
    mesh = fuse_mesh([view_of(s) for s in shots], options=FusionOptions(max_triangles=5000))
    assert 1000 < len(mesh.faces) <= 5000


def test_a_few_known_pixels_never_end_the_run(shots: list[Shot]) -> None:
    """Open3D raises for depth that its own coarse look misses; alone, and beside good photos."""
    height, width = shots[0].depth.shape
    rows, columns = np.mgrid[:height, :width]
    missed = (rows % 4 != 0) & (columns % 4 != 0) & (rows < 12) & (columns < 12)
    sparse = view_of(shots[0], depth=np.where(missed, shots[0].depth, 0).astype(np.float32))
    options = FusionOptions(voxel_size=VOXEL, max_depth_jump=1e9)
    fuse_mesh([sparse], options=options)
    good = [view_of(s) for s in shots[1:4]]
    with_sparse = fuse_mesh([sparse, *good], options=options)
    assert len(with_sparse.faces) > 0.9 * len(fuse_mesh(good, options=options).faces)


@pytest.mark.parametrize("size", [1, 4, 9])
def test_tiny_depth_maps_never_end_the_run(shots: list[Shot], size: int) -> None:
    small = {
        "depth": np.full((size, size), 2.0, np.float32),
        "confidence": np.ones((size, size), np.float32),
        "pixels": np.zeros((size, size, 3), np.uint8),
    }
    fuse_mesh([view_of(shots[0], **small)])
    fuse_points([view_of(shots[0], **small)])


def test_unconfirmed_depth_fills_where_photos_agree_and_nowhere_else(shots: list[Shot]) -> None:
    """A plain wall: no match confirms it, yet the depths of three photos meet on it."""
    views, lone = [], []
    for number, shot in enumerate(shots[2:6]):
        confidence = np.ones(shot.depth.shape, np.float32)
        confidence[:, :60] = 0.2
        depth = shot.depth.copy()
        # Three agree with each other; the fourth says something of its own.
        depth[:, :60] *= 1.25 if number == 3 else 1.0
        views.append(view_of(shot, confidence=confidence, depth=depth))
        own = shot.depth.copy()
        own[:, :60] *= (0.7, 0.85, 1.15, 1.3)[number]
        lone.append(view_of(shot, confidence=confidence, depth=own))
    options = FusionOptions(voxel_size=VOXEL)
    sure = fuse_points([view_of(s, depth=_left_out(s)) for s in shots[2:6]], options=options)
    for views_given, gains in ((views, True), (lone, False)):
        cloud, mesh = (fuse(views_given, options=options) for fuse in (fuse_points, fuse_mesh))
        assert (len(cloud.points) > 1.1 * len(sure.points)) == gains
        for points in (cloud.points, mesh.vertices):
            assert (distance_to_room(points.astype(np.float64)) < 0.1).mean() > 0.99


def test_a_measured_surface_has_none_of_what_was_inferred(shots: list[Shot]) -> None:
    confidence = np.ones(shots[2].depth.shape, np.float32)
    # Right, and what all photos agree on, yet next to nothing was sure of it.
    confidence[:, :60] = 0.01
    views = [view_of(shot, confidence=confidence) for shot in shots[2:6]]
    bare = [view_of(s, depth=_left_out(s)) for s in shots[2:6]]
    without, measured, complete = (
        fuse_points(given, options=FusionOptions(voxel_size=VOXEL, surface=surface))
        for given, surface in ((bare, "complete"), (views, "measured"), (views, "complete"))
    )
    np.testing.assert_array_equal(measured.points, without.points)
    assert len(complete.points) > 1.1 * len(measured.points)


def test_inferred_depth_takes_nothing_from_what_was_measured_beside_it(shots: list[Shot]) -> None:
    confidence = np.ones(shots[2].depth.shape, np.float32)
    confidence[:, :60] = 0.01
    off = [np.where(confidence < 0.5, 0.6 * s.depth, s.depth).astype(np.float32) for s in shots]
    views = [view_of(s, confidence=confidence, depth=d) for s, d in zip(shots, off, strict=True)]
    options = FusionOptions(voxel_size=VOXEL)
    for complete, measured in zip(
        usable_depths(views, options),
        usable_depths(views, replace(options, surface="measured")),
        strict=True,
    ):
        assert complete.known[measured.known].all()


def test_exposure_leaves_no_step_in_the_colours(shots: list[Shot]) -> None:
    """One photo in three was exposed a quarter longer: means of those that see a place differ."""
    darker = [0.7 * shot.pixels.astype(np.float32) for shot in shots]

    def exposed(longer: float) -> list[View]:
        factors = [longer if k % 3 == 0 else 1.0 for k in range(len(shots))]
        return [
            view_of(s, pixels=(d * f).round().astype(np.uint8))
            for s, d, f in zip(shots, darker, factors, strict=True)
        ]

    options = FusionOptions(voxel_size=VOXEL)
    uneven, even = (fuse_mesh(given, options=options) for given in (exposed(1.25), exposed(1.0)))
    ratio = uneven.colours.astype(np.float64) / np.maximum(even.colours, 1.0)
    ratio = ratio[(even.colours > 30).all(axis=1)]
    # One factor for all of the mesh; without gains its deviation is 0.05 and more.
    assert ratio.std() < 0.02


def test_a_gain_keeps_white_white_and_the_order_of_levels() -> None:
    levels = np.arange(256, dtype=np.uint8)[:, None].repeat(3, axis=1)
    for gain in (0.7, 1.0, 1.4):
        out = levelled(levels, np.full(3, gain))
        np.testing.assert_allclose(out[:150], gain * levels[:150], rtol=1e-5)
        assert (out[255] == 255).all() and (np.diff(out, axis=0) >= 0).all()


def _left_out(shot: Shot) -> np.ndarray:
    depth = shot.depth.copy()
    depth[:, :60] = 0
    return depth


def test_sure_depth_decides_over_unsure(shots: list[Shot]) -> None:
    """Of two measurements a voxel or two apart, the surface lies at the sure one."""
    shot = shots[3]
    off = (shot.depth * (1 + VOXEL / shot.depth)).astype(np.float32)
    unsure = np.full(off.shape, 0.4, np.float32)
    options = FusionOptions(voxel_size=VOXEL, fill_holes=0)
    mesh = fuse_mesh([view_of(shot), view_of(shot, depth=off, confidence=unsure)], options=options)
    middle = fuse_mesh([view_of(shot), view_of(shot, depth=off)], options=options)
    near, far = (np.median(distance_to_room(m.vertices.astype(float))) for m in (mesh, middle))
    assert near < 0.5 * far


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


def test_memory_bound_makes_voxels_coarser_and_says_so(
    shots: list[Shot], caplog: pytest.LogCaptureFixture
) -> None:
    views = [view_of(s) for s in shots]
    fine = fuse_surface(views)
    assert not caplog.records
    bound = fuse_surface(views, options=FusionOptions(max_memory_gb=0.006 / 64))
    assert 0 < len(bound.mesh.faces) < 0.5 * len(fine.mesh.faces)
    assert bound.statistics["voxel_size"] > fine.statistics["voxel_size"]
    assert "--fusion.max-memory-gb" in caplog.text


def test_a_surface_made_in_parts_is_the_one_made_at_once(
    shots: list[Shot], caplog: pytest.LogCaptureFixture
) -> None:
    views = [view_of(s) for s in shots]
    whole = fuse_mesh(views)
    parts = fuse_mesh(views, options=FusionOptions(max_memory_gb=0.006))
    assert not caplog.records
    np.testing.assert_array_equal(parts.vertices, whole.vertices)
    np.testing.assert_array_equal(parts.faces, whole.faces)
    np.testing.assert_array_equal(parts.colours, whole.colours)


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
    assert gone >= removed and len(kept.mesh.faces) - len(plain.mesh.faces) >= gone

    assert _border_length(fused(fill_holes=0).mesh) > 1.02 * _border_length(plain.mesh)
    errors = [
        distance_to_room(m.mesh.vertices.astype(float)).mean() for m in (plain, fused(smooth=10))
    ]
    assert errors[1] < 0.9 * errors[0]
    small = fused(decimate=1000).mesh
    assert 800 < len(small.faces) <= 1000 and small.colours.std() > 5
    assert np.median(distance_to_room(small.vertices.astype(np.float64))) < 0.5 * VOXEL


def _border_length(mesh: Mesh) -> int:
    """Number of edges with a triangle on one side only."""
    edges = np.sort(mesh.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    _, counts = np.unique(edges, axis=0, return_counts=True)
    return int((counts == 1).sum())


def test_witnesses_are_the_photos_that_look_at_the_same(shots: list[Shot]) -> None:
    """Among many photos of elsewhere, those of here are found, and keep their say."""
    ghost = shots[3].depth.copy()
    ghost[40:60, 60:90] *= 0.5
    views = [view_of(s) for s in shots]
    views[3] = view_of(shots[3], depth=ghost)
    elsewhere = []
    for number in range(14):
        matrix = shots[number % 8].cam_to_world.copy()
        matrix[:3, 3] += [0, 0, 500 + number]
        elsewhere.append(
            view_of(Shot(shots[0].pixels, shots[0].depth, shots[0].intrinsics, matrix))
        )
    depths = usable_depths([*elsewhere, *views], FusionOptions())
    found = witnesses(depths)[14 + 3]
    assert len(found) == 7
    assert all(any(other is depth for depth in depths[14:]) for other in found)
    cloud = fuse_points([*elsewhere, *views], options=FusionOptions(voxel_size=VOXEL))
    here = cloud.points[cloud.points[:, 2] < 100].astype(np.float64)
    assert len(here) > 3000 and (distance_to_room(here) > 0.3).sum() == 0


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gives_the_same_surface(shots: list[Shot]) -> None:
    views = [view_of(s) for s in shots]
    one, other = (fuse_surface(views, device=device).mesh for device in ("cpu", "cuda"))
    assert len(other.faces) == pytest.approx(len(one.faces), rel=1e-3)
    assert np.median(distance_to_room(other.vertices.astype(np.float64))) < 0.01
