"""The scene generator: exact geometry, reproducibility, consistent batches."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pointmap.camera import invert_rigid, project, rigid, transform_points, unproject
from pointmap.errors import InputError
from pointmap.training import generate as generate_module
from pointmap.training.batches.pairs import PairBatch
from pointmap.training.batches.sensor import blur, photograph
from pointmap.training.batches.shards import ShardPairs
from pointmap.training.generate import write_shard
from pointmap.training.rendering.ray_tracing import PinholeCamera, SceneTracer
from pointmap.training.rendering.render_views import (
    HELD_OUT_SEED,
    RenderedScene,
    render_synthetic_scene,
)
from pointmap.training.rendering.shading import Shader, render_view
from pointmap.training.rendering.trajectories import overlaps, sample_cameras
from pointmap.training.sample_photos import arc_cameras, write_photos
from pointmap.training.scenes import textures as textures_module
from pointmap.training.scenes.builder import yaw_rotation
from pointmap.training.scenes.courtyard import make_courtyard
from pointmap.training.scenes.courtyard_textures import make_courtyard_bank
from pointmap.training.scenes.layouts import LAYOUTS
from pointmap.training.scenes.random_scene import SyntheticScene, make_scene
from pointmap.training.scenes.solids import (
    BOX,
    CONE,
    CYLINDER,
    ELLIPSOID,
    HULLS,
    IMPLICIT,
    ROUNDED,
    TORUS,
    canonical_normal,
    part_interval,
)
from pointmap.training.scenes.textures import TextureBank, make_texture_bank, save_photographs

ALL_KINDS = [BOX, ELLIPSOID, CYLINDER, CONE, TORUS, ROUNDED, *HULLS, *IMPLICIT]


@pytest.fixture(scope="module")
def bank() -> TextureBank:
    return make_texture_bank(0)


@pytest.fixture(scope="module")
def rendered(bank: TextureBank) -> RenderedScene:
    return render_synthetic_scene(3, textures=bank, size=(96, 128), difficulty=0.5)


def hand_made(
    bank: TextureBank, parts: list[tuple[int, list[float], list[float]]]
) -> SyntheticScene:
    """A scene of axis-aligned parts (kind, centre, half) with borrowed light and sky."""
    template = make_scene(0, bank.groups, difficulty=0.0, style="pile")
    n = len(parts)
    m = template.materials
    looks = {name: np.repeat(getattr(m, name)[:1], n, axis=0) for name in m.__dataclass_fields__}
    return replace(
        template,
        kind=np.array([p[0] for p in parts]),
        centre=np.array([p[1] for p in parts], float),
        half=np.array([p[2] for p in parts], float),
        rotation=np.repeat(np.eye(3)[None], n, axis=0),
        materials=replace(m, **looks),
        lights=replace(template.lights, casters=((),) * len(template.lights.position)),
    )


def camera(pose: np.ndarray | None = None, *, focal: float = 60.0) -> PinholeCamera:
    """A 64x48 camera; at the origin it looks along world z."""
    K = np.array([[focal, 0, 32], [0, focal, 24], [0, 0, 1.0]])
    return PinholeCamera(K, np.eye(4) if pose is None else pose, 48, 64)


def rays_of(cam: PinholeCamera) -> np.ndarray:
    return unproject(np.ones((cam.height, cam.width)), cam.intrinsics)


def test_sphere_depth_is_analytic(bank: TextureBank) -> None:
    centre, radius = np.array([0.3, -0.2, 5.0]), 1.2
    tracer = SceneTracer(hand_made(bank, [(ELLIPSOID, list(centre), [radius] * 3)]), "cpu")
    depth, parts = tracer.trace_view(camera())
    d = rays_of(camera())
    a, b = (d * d).sum(-1), d @ centre
    disc = b**2 - a * (centre @ centre - radius**2)
    hit = disc > 0
    truth = np.where(hit, (b - np.sqrt(np.maximum(disc, 0))) / a, np.inf)
    assert hit.sum() > 300
    np.testing.assert_array_equal(parts.numpy() == 0, hit)
    # Rounding grows without bound towards the grazing rim of a float32 sphere.
    inner = disc > 0.02
    np.testing.assert_allclose(depth.numpy()[inner], truth[inner], rtol=2e-5)


def test_box_and_plane_depths_are_analytic(bank: TextureBank) -> None:
    scene = hand_made(bank, [(BOX, [0, 0, 9], [50, 50, 1]), (BOX, [2.53, 0, 5], [1, 0.71, 1])])
    depth, parts = SceneTracer(scene, "cpu").trace_view(camera())
    x, y, _ = np.moveaxis(rays_of(camera()), -1, 0)
    on_box = (np.abs(4 * x - 2.53) < 1) & (np.abs(4 * y) < 0.71)  # its front, z = 4
    to_side = 1.53 / np.where(x > 0, x, np.inf)  # its left side, x = 1.53, z from 4 to 6
    to_side = np.where(to_side > 0, to_side, np.inf)
    side = (to_side > 4) & (to_side < 6) & (np.abs(to_side * y) < 0.71)
    truth = np.where(on_box, 4.0, np.where(side, to_side, 8.0))
    assert on_box.sum() > 100
    assert side.sum() > 50
    np.testing.assert_allclose(depth.numpy(), truth, rtol=1e-5)
    np.testing.assert_array_equal(parts.numpy() == 1, on_box | side)


def test_rotated_part_equals_moved_camera(bank: TextureBank) -> None:
    scene = hand_made(bank, [(HULLS[1], [0, 0, 4], [0.7, 0.9, 0.5])])
    R = yaw_rotation(0.7)
    turned = replace(scene, rotation=R[None], centre=scene.centre @ R.T)
    expected, _ = SceneTracer(scene, "cpu").trace_view(camera())
    depth, _ = SceneTracer(turned, "cpu").trace_view(camera(rigid(R, [0, 0, 0])))
    assert expected.isfinite().sum() > 50
    same = expected.isfinite() & depth.isfinite()
    assert (expected.isfinite() ^ depth.isfinite()).sum() <= 2  # rounding at the outline
    torch.testing.assert_close(depth[same], expected[same], rtol=1e-4, atol=0)


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_solids_agree_with_their_own_normals(kind: int) -> None:
    """At the entry the surface faces the ray; a small step further in, the ray is inside."""
    g = torch.Generator().manual_seed(kind)
    origin = torch.randn(3, 4000, generator=g)
    origin = origin / origin.norm(dim=0) * 3
    direction = 0.9 * (2 * torch.rand(3, 4000, generator=g) - 1) - origin
    enter, leave = part_interval(kind, origin, direction)
    hit = (enter < leave) & (enter > 0)
    assert hit.sum() > 500
    points = (origin + enter * direction)[:, hit]
    assert points.abs().max() < 1 + 1e-3
    normal, face = canonical_normal(torch.full((points.shape[1],), kind), points)
    normal = normal / normal.norm(dim=0)
    facing = (normal * direction[:, hit]).sum(0) / direction[:, hit].norm(dim=0)
    assert (facing < 1e-3).float().mean() > 0.995
    assert int(face.min()) >= 0
    assert int(face.max()) <= 5
    # From just inside, the same solid is met "behind" and left ahead.
    _, ahead = part_interval(kind, points - 1e-3 * normal, direction[:, hit])
    assert (ahead > 0).float().mean() > 0.99


def test_reprojection_hits_the_same_depth(rendered: RenderedScene) -> None:
    K = rendered.intrinsics.double().numpy()
    poses = rendered.cam_to_world.double().numpy()
    depth = rendered.depth.double().numpy()
    checked = 0
    for i in range(4):
        for j in range(4):
            if i == j or rendered.overlap[i, j] < 0.2:
                continue
            points = unproject(depth[i], K[i])[depth[i] > 0]
            moved = transform_points(invert_rigid(poses[j]) @ poses[i], points)
            pixels = project(moved, K[j])
            x, y = np.floor(np.nan_to_num(pixels, nan=-1)).astype(int).T
            inside = (x >= 1) & (y >= 1) & (x < 127) & (y < 95)
            x, y, z = x[inside], y[inside], moved[inside, 2]
            # Visible, if any depth around the landing place brackets it.
            around = np.stack([depth[j][y + v, x + u] for u in (-1, 0, 1) for v in (-1, 0, 1)])
            seen = (around.min(0) * 0.999 <= z) & (z <= around.max(0) * 1.001)
            assert abs(seen.sum() / len(points) - float(rendered.overlap[i, j])) < 0.08
            checked += 1
    assert checked >= 3


def test_points_beyond_an_occluder_are_not_overlap(bank: TextureBank) -> None:
    """Two cameras face a wall; a screen before camera 2 hides exactly the left half of the wall."""
    wall = (BOX, [0, 0, 11], [100, 100, 1])
    screen = (BOX, [100 - 50, 0, 1], [50, 100, 0.01])  # x from 0 to 100 at z = 1
    far = camera(rigid(np.eye(3), [0, 0, -1e-3]))
    before = camera(rigid(np.eye(3), [0, 0, 1.5]))
    tracer = SceneTracer(hand_made(bank, [wall, screen]), "cpu")
    cameras = [before, far]
    got = overlaps(tracer, cameras, [tracer.trace_view(c) for c in cameras])
    # Camera 0 sees 8.5 / 60 * 64 wide; half of it lies behind the screen seen from camera 1.
    assert got[0, 1] == pytest.approx(0.5, abs=0.02)
    # Camera 1: the right half sees the screen's front, behind camera 0; of the left half, camera 0
    # sees the central 8.5 / 10 in both directions.
    assert got[1, 0] == pytest.approx(0.5 * 0.85**2, abs=0.02)
    assert got[0, 0] == pytest.approx(1.0)


def test_back_faces_are_not_overlap(bank: TextureBank) -> None:
    """Cameras on opposite sides of a slab see no common surface."""
    scene = hand_made(bank, [(BOX, [0, 0, 5], [3, 3, 0.1])])
    opposite = camera(rigid(np.diag([-1.0, 1, -1]), [0, 0, 10]))
    tracer = SceneTracer(scene, "cpu")
    cameras = [camera(), opposite]
    got = overlaps(tracer, cameras, [tracer.trace_view(c) for c in cameras])
    assert got[0, 1] == 0
    assert got[1, 0] == 0


def test_same_seed_same_scene_other_seed_other_scene(
    bank: TextureBank, rendered: RenderedScene
) -> None:
    again = render_synthetic_scene(3, textures=bank, size=(96, 128), difficulty=0.5)
    for name in ("images", "depth", "intrinsics", "cam_to_world", "overlap"):
        assert torch.equal(getattr(again, name), getattr(rendered, name)), name
    other = render_synthetic_scene(4, textures=bank, size=(96, 128), difficulty=0.5)
    assert not torch.equal(other.images, rendered.images)
    assert not torch.equal(other.cam_to_world, rendered.cam_to_world)


@pytest.mark.parametrize("style", sorted(LAYOUTS))
@pytest.mark.parametrize("difficulty", [0.0, 1.0])
def test_layouts_render_cleanly(bank: TextureBank, style: str, difficulty: float) -> None:
    for seed in (11, 12):
        rng = np.random.default_rng(seed)
        scene = make_scene(seed, bank.groups, difficulty=difficulty, style=style)
        tracer = SceneTracer(scene, "cpu")
        cameras = sample_cameras(tracer, rng, views=2, size=(48, 64), difficulty=difficulty)
        places = np.stack([c.cam_to_world[:3, 3] for c in cameras])
        assert not scene.inside_any(places).any()
        for cam in cameras:
            image, depth, parts = render_view(tracer, Shader(tracer, bank), cam)
            assert torch.isfinite(image).all()
            assert torch.isfinite(depth).all()
            assert (depth >= 0).all()
            assert torch.equal(depth > 0, parts >= 0)
            assert (depth > 0).float().mean() > 0.3
            R = cam.cam_to_world[:3, :3]
            np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-12)
            assert np.linalg.det(R) == pytest.approx(1)


def test_distant_texture_does_not_shimmer(bank: TextureBank) -> None:
    """Mip levels: checkers whose repeat is one pixel wide are a flat mean colour."""
    u = torch.linspace(0, 40, 4000)
    texture = torch.full((4000,), bank.groups["checkers"][0])
    near = bank.sample(texture, u, 0.3 * u, torch.zeros(4000))
    far = bank.sample(texture, u, 0.3 * u, torch.full((4000,), 8.0))
    assert near.std(1).mean() > 0.1
    assert far.std(1).mean() < 0.01
    torch.testing.assert_close(far.mean(1), near.mean(1), atol=0.03, rtol=0)


def test_shadow_darkens_what_lies_behind(bank: TextureBank) -> None:
    floor, lid = (BOX, [0, 0, 6], [20, 20, 1]), (BOX, [0, 0, 2.5], [0.2, 0.2, 0.1])
    scene = hand_made(bank, [floor, lid])
    lamp = {"position": np.array([[0, 0, -1.0]]), "directional": np.array([True])}
    lights = replace(scene.lights, **lamp, colour=np.ones((1, 3)), casters=((0, 1),))
    aside = camera(rigid(np.eye(3), [1.5, 0, 0]))
    images = []
    for casters in ((0, 1), (0,)):
        tracer = SceneTracer(replace(scene, lights=replace(lights, casters=(casters,))), "cpu")
        image, depth, _ = render_view(tracer, Shader(tracer, bank), aside)
        images.append(image.mean(0))
    darker = images[0] < 0.9 * images[1]
    floor_points = unproject(depth.numpy(), aside.intrinsics) + np.array([1.5, 0, 0])
    under = (np.abs(floor_points[..., :2]) < 0.19).all(-1) & (depth.numpy() > 4)
    outside = (np.abs(floor_points[..., :2]) > 0.35).any(-1)
    assert under.sum() > 10
    assert darker.numpy()[under].all()
    assert not darker.numpy()[outside].any()


def test_blur_spreads_light_as_far_as_told_and_moves_nothing() -> None:
    """Of a dot: variances of defocus, of a movement by L (L^2 / 12) and of one pixel's spot."""
    dots = torch.zeros(4, 3, 33, 33)
    dots[:, :, 16, 16] = 1
    sigma = torch.tensor([0.0, 1.2, 0.0, 0.0])
    shake = torch.tensor([[0.0, 0.0], [0.0, 0.0], [5.0, 0.0], [3.0, -3.0]])
    soft = blur(dots.clone(), sigma, shake)
    assert torch.equal(soft[0], dots[0])
    assert torch.allclose(soft.sum((2, 3)), torch.ones(4, 3), atol=1e-5)
    step = torch.arange(33.0) - 16
    x, y = step[None, None, None], step[None, None, :, None]
    assert torch.stack([(soft * x).sum((2, 3)), (soft * y).sum((2, 3))]).abs().max() < 1e-4
    xx, yy, xy = ((soft * a * b).sum((2, 3))[:, 0] for a, b in ((x, x), (y, y), (x, y)))
    assert torch.allclose(torch.stack([xx[1], yy[1]]), torch.tensor(1.2**2 + 0.09), rtol=0.1)
    # Nine places, and pixels that are no points, widen a movement by an eighth.
    assert 25 / 12 < float(xx[2]) < 1.3 * 25 / 12
    assert float(yy[2]) < 0.1
    assert float(xy[3]) < -0.6
    # Even light stays even up to the borders.
    grey = torch.full((1, 3, 24, 16), 0.5)
    assert torch.allclose(blur(grey.clone(), sigma[1:2], shake[3:]), grey, atol=1e-5)


def test_sensor_is_seeded_bounded_and_off_at_zero() -> None:
    images = torch.randint(0, 256, (4, 3, 48, 64), dtype=torch.uint8)
    plain = photograph(images, torch.Generator().manual_seed(1), strength=0)
    torch.testing.assert_close(plain, images.float() / 127.5 - 1)
    one, same, other = (
        photograph(images, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert one.abs().max() <= 1
    assert torch.isfinite(one).all()


def check_batch(batch: PairBatch) -> None:
    """Points are the depths seen from camera 1, by a composition written out anew."""
    for n in range(len(batch.overlap)):
        for points, depth, K, pose, valid in (
            (batch.points1, batch.depth1, batch.intrinsics1, None, batch.valid1),
            (batch.points2, batch.depth2, batch.intrinsics2, batch.cam2_to_cam1, batch.valid2),
        ):
            own = unproject(depth[n].double().numpy(), K[n].double().numpy())
            if pose is not None:
                own = transform_points(pose[n].double().numpy(), own)
            mask = valid[n].numpy()
            assert (mask == (depth[n].numpy() > 0)).all()
            np.testing.assert_allclose(points[n].numpy()[mask], own[mask], rtol=1e-3, atol=2e-3)
    assert batch.image1.abs().max() <= 1
    assert torch.isfinite(batch.points2).all()


@pytest.fixture(scope="module")
def shards(bank: TextureBank, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    write_shard(folder / "shard-0-00000.pt", range(3), textures=bank, size=(48, 64), views=3)
    write_shard(folder / "shard-0-00001.pt", range(3, 6), textures=bank, size=(64, 48), views=3)
    return folder


def test_shard_batches_are_consistent_and_within_overlap(shards: Path) -> None:
    loader = ShardPairs([shards], batch_size=6, seed=0, overlap=(0.15, 0.9))
    sizes = set()
    for _ in range(6):
        batch = loader.next_batch()
        check_batch(batch)
        sizes.add(tuple(batch.image1.shape[-2:]))
        assert batch.overlap.min() >= 0.15
        assert batch.overlap.max() <= 0.9
    assert sizes == {(48, 64), (64, 48)}


def test_second_view_really_shows_what_the_first_sees(shards: Path) -> None:
    """The share of view 1's points that land on view 2's depth is the batch's overlap."""
    batch = ShardPairs([shards], batch_size=12, seed=3, sensor=0).next_batch()
    for n in range(12):
        to_second = invert_rigid(batch.cam2_to_cam1[n].double().numpy())
        points = batch.points1[n].double().numpy()[batch.valid1[n].numpy()]
        moved = transform_points(to_second, points)
        x, y = np.floor(
            np.nan_to_num(project(moved, batch.intrinsics2[n].numpy()), nan=-1e6)
        ).T.astype(int)
        height, width = batch.depth2.shape[1:]
        ok = (x >= 0) & (y >= 0) & (x < width) & (y < height)
        depth = batch.depth2[n].numpy()[y[ok], x[ok]]
        agree = np.abs(depth - moved[ok, 2]) < 0.04 * moved[ok, 2]
        assert abs(agree.sum() / len(points) - float(batch.overlap[n])) < 0.2


def test_loader_resumes_exactly(shards: Path) -> None:
    loader = ShardPairs([shards], batch_size=4, seed=0)
    loader.next_batch()
    state = loader.state()
    expected = [loader.next_batch() for _ in range(2)]
    resumed = ShardPairs([shards], batch_size=4, seed=99)
    resumed.load_state(state)
    for batch in expected:
        got = resumed.next_batch()
        assert torch.equal(got.image2, batch.image2)
        assert torch.equal(got.points2, batch.points2)


def test_loader_finds_new_shards(shards: Path, tmp_path: Path) -> None:
    (tmp_path / "shard-0-00000.pt").write_bytes((shards / "shard-0-00000.pt").read_bytes())
    loader = ShardPairs([tmp_path], batch_size=2, seed=0, refresh=1)
    assert loader.scenes == 3
    (tmp_path / "shard-0-00001.pt").write_bytes((shards / "shard-0-00001.pt").read_bytes())
    loader.next_batch()
    loader.next_batch()
    assert loader.scenes == 6


def test_empty_folder_is_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no shards"):
        ShardPairs([tmp_path], batch_size=2)


def test_writer_skips_shards_that_exist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bank: TextureBank
) -> None:
    monkeypatch.setattr(generate_module, "SCENES_PER_SHARD", 1)
    monkeypatch.setattr(generate_module, "make_texture_bank", lambda *a, **k: bank)
    arguments = ["--out", str(tmp_path), "--seed", "1", "--size", "64x32", "32x64", "--views", "2"]
    generate_module.main([*arguments, "--scenes", "1"])
    first = tmp_path / "shard-1-00000.pt"
    before = first.stat().st_mtime_ns
    generate_module.main([*arguments, "--scenes", "2"])
    assert first.stat().st_mtime_ns == before
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["shard-1-00000.pt", "shard-1-00001.pt"]
    second = torch.load(tmp_path / names[1], weights_only=True)
    assert second["images"].shape == (1, 2, 3, 64, 32)
    assert second["seeds"].tolist() == [1_000_001]


def test_held_out_scenes_have_seeds_of_their_own(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    bank: TextureBank,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(generate_module, "SCENES_PER_SHARD", 1)
    monkeypatch.setattr(generate_module, "make_texture_bank", lambda *a, **k: bank)
    arguments = ["--out", str(tmp_path), "--size", "64x32", "--views", "2", "--scenes", "1"]
    assert generate_module.main([*arguments, "--seed", "2", "--held-out"]) == 0
    shard = torch.load(tmp_path / "shard-2-00000.pt", weights_only=True)
    assert shard["seeds"].tolist() == [HELD_OUT_SEED + 2_000_000]
    assert generate_module.main([*arguments, "--seed", "1000"]) == 2
    assert "0 to 999" in capsys.readouterr().err
    assert generate_module.main(["--out", str(tmp_path), "--size", "190x144"]) == 2
    assert "multiples of 32" in capsys.readouterr().err


def test_sample_photos_are_those_the_code_renders(tmp_path: Path) -> None:
    """Cameras written beside the bundled photos are the code's, and photos have their size."""
    from PIL import Image

    bundled = Path(__file__).parents[4] / "examples" / "courtyard"
    record = json.loads((bundled / "cameras.json").read_text())
    rng = np.random.default_rng([HELD_OUT_SEED + 1, 12])
    cameras = arc_cameras(rng, count=10, arc_deg=120, size=(480, 640))
    assert len(record["images"]) == 10
    for (name, one), cam in zip(sorted(record["images"].items()), cameras, strict=True):
        np.testing.assert_allclose(one["cam_to_world"], cam.cam_to_world, atol=1e-9)
        np.testing.assert_allclose(one["K"], cam.intrinsics)
        with Image.open(bundled / "images" / name) as photo:
            assert photo.size == (one["width"], one["height"])
    assert sum(p.stat().st_size for p in (bundled / "images").iterdir()) < 3_000_000
    write_photos(tmp_path / "two", seed=5, count=2, arc_deg=40, size=(48, 64), quality=1)
    small = [np.asarray(Image.open(p)) for p in sorted((tmp_path / "two" / "images").iterdir())]
    assert [p.shape for p in small] == [(48, 64, 3)] * 2
    assert min(p.std() for p in small) > 20  # a picture, not a blank


def test_courtyard_cameras_stand_free() -> None:
    scene = make_courtyard(HELD_OUT_SEED + 1, make_courtyard_bank(HELD_OUT_SEED + 1))
    rng = np.random.default_rng([HELD_OUT_SEED + 1, 12])
    cameras = arc_cameras(rng, count=10, arc_deg=120, size=(480, 640))
    places = np.stack([c.cam_to_world[:3, 3] for c in cameras])
    assert not scene.inside_any(places, margin=0.3).any()


def test_photographs_join_the_bank_and_survive_packing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image

    few = {name: (draw, 1) for name, (draw, _) in textures_module._PATTERNS.items()}
    monkeypatch.setattr(textures_module, "_PATTERNS", few)
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.new("RGB", (300, 280), (200, 100, 50)).save(folder / "one.png")
    bank = make_texture_bank(0, folder=folder)
    (number,) = bank.groups["photo"]
    at = torch.tensor([0.3])
    colour = bank.sample(torch.tensor([number]), at, at, torch.zeros(1))[:, 0] * 255
    torch.testing.assert_close(colour, torch.tensor([200.0, 100, 50]), atol=1, rtol=0)
    save_photographs(folder, tmp_path / "packed.npz")
    packed = make_texture_bank(0, folder=tmp_path / "packed.npz")
    assert torch.equal(packed.texels, bank.texels)
    with pytest.raises(InputError, match="no jpg"):
        make_texture_bank(0, folder=tmp_path / "nothing")
