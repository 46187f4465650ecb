"""Generated streets: exact truth, the same photos again, walks that close and cross."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import scale_scenes
from benchmarks.scale_scenes import PhotoSet
from benchmarks.streets import layouts, walks
from benchmarks.streets.pictures import Picture, clutter, poster
from benchmarks.streets.rendering import Renderer
from benchmarks.streets.world import World, WorldBuilder
from pointmap.camera import invert_rigid, pinhole, project, transform_points, unproject
from pointmap.training.rendering.ray_tracing import PinholeCamera
from pointmap.training.rendering.trajectories import look_at
from recon.evaluation.scene import read_depth_truth, read_truth


def small_world(paint=clutter) -> World:
    """A wall at y = 0 and a box before it, on the ground."""
    builder = WorldBuilder(np.random.default_rng(3))
    builder.rectangle(
        np.array([-3.0, 0, 3]), np.array([6.0, 0, 0]), np.array([0, 0, -3.0]), paint, 40
    )
    builder.rectangle(
        np.array([-3.0, 0, 0]), np.array([6.0, 0, 0]), np.array([0, -6.0, 0]), paint, 40
    )
    builder.box((0.3, -1.0, 0.5), (1, 1, 1), poster, turn=0.4)
    return builder.world()


def small_cameras(count: int) -> list[PinholeCamera]:
    return [
        PinholeCamera(
            pinhole(130, 160, 120), look_at(np.array([x, -4.0, 1.5]), np.array([0, 0, 1.0])), 120,
            160,
        )
        for x in np.linspace(-0.6, 0.6, count)
    ]  # fmt: skip


@pytest.fixture
def small_set(monkeypatch: pytest.MonkeyPatch) -> PhotoSet:
    monkeypatch.setattr(scale_scenes, "lay_out", lambda s: (small_world(), small_cameras(s.count)))
    return PhotoSet("two-places", 3)


def test_photos_show_each_point_of_the_world_where_the_cameras_say(
    small_set: PhotoSet, tmp_path: Path
) -> None:
    folder = scale_scenes.render_set(small_set, tmp_path)
    truth = read_truth(folder / "cameras.json")
    (a, first), (b, second) = list(truth.cameras.items())[:2]
    depth, other = (read_depth_truth(truth, name) for name in (a, b))
    photos = [np.asarray(Image.open(folder / "images" / name), float) for name in (a, b)]
    world = transform_points(first.cam_to_world, unproject(depth, first.intrinsics))
    points = transform_points(invert_rigid(second.cam_to_world), world)
    xy = project(points, second.intrinsics)
    inside = (depth > 0) & np.all((xy > 1) & (xy < [159, 119]), axis=-1)
    column, row = xy[inside].astype(int).T
    # Between pixels the truth is known where the surface is flat around.
    around = np.stack(
        [other[np.clip(row + r, 0, 119), np.clip(column + c, 0, 159)] for r in (-1, 0, 1)
         for c in (-1, 0, 1)]
    )  # fmt: skip
    z = points[inside][:, 2]
    seen = (np.abs(around - z) < 0.1).all(axis=0)
    assert seen.mean() > 0.7
    mapped = z - around[4]
    assert np.percentile(np.abs(mapped[seen]), 90) < 0.03
    wanted, got = photos[0][inside][seen], photos[1][row, column][seen]
    scrambled = got[np.random.default_rng(0).permutation(len(got))]
    assert np.abs(wanted - got).mean() < 0.4 * np.abs(wanted - scrambled).mean()


def test_depth_is_that_of_the_planes() -> None:
    camera = small_cameras(1)[0]
    light, depth = Renderer(small_world()).photograph(camera)
    world = transform_points(camera.cam_to_world, unproject(depth, camera.intrinsics))[depth > 0]
    local = world - [0.3, -1.0, 0.5]
    c, s = np.cos(0.4), np.sin(0.4)
    box = np.abs(local @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])).max(axis=1)
    off = np.minimum.reduce([np.abs(world[:, 1]), np.abs(world[:, 2]), np.abs(box - 0.5)])
    assert off.max() < 1e-5
    assert (np.abs(box - 0.5) < 1e-5).mean() > 0.05
    assert np.isfinite(light).all() and light.min() >= 0


def test_a_picture_lies_on_its_rectangle_as_it_was_painted() -> None:
    def quarters(rng: np.random.Generator, height: int, width: int) -> Picture:
        image = np.zeros((height, width, 3), np.uint8)
        image[: height // 2, : width // 2] = [255, 0, 0]
        image[: height // 2, width // 2 :] = [0, 255, 0]
        image[height // 2 :, : width // 2] = [0, 0, 255]
        return image

    builder = WorldBuilder(np.random.default_rng(0))
    builder.box((0, 0, 0), (2, 2, 2), quarters, density=50)
    renderer = Renderer(builder.world())
    for x, y in ((0, -4), (4, 0), (0, 4), (-4, 0)):
        pose = look_at(np.array([x, y, 0.0]), np.zeros(3))
        light, _ = renderer.photograph(PinholeCamera(pinhole(100, 100, 100), pose, 100, 100))
        assert light[35, 35].argmax() == 0 and light[35, 65].argmax() == 1
        assert light[65, 35].argmax() == 2 and light[65, 65].max() == 0


def test_a_broken_off_set_is_continued_to_the_same_bytes(
    small_set: PhotoSet, tmp_path: Path
) -> None:
    whole = scale_scenes.render_set(small_set, tmp_path / "a")
    files = {p.relative_to(whole): p.read_bytes() for p in whole.rglob("*") if p.is_file()}
    assert len(files) == 7
    again = scale_scenes.render_set(small_set, tmp_path / "b")
    names = scale_scenes.photo_names(small_set)
    (again / "images" / names[1]).unlink()
    kept = (again / "images" / names[0]).stat().st_mtime_ns
    (again / "cameras.json").unlink()
    scale_scenes.render_set(small_set, tmp_path / "b")
    assert {p.relative_to(again): p.read_bytes() for p in again.rglob("*") if p.is_file()} == files
    assert (again / "images" / names[0]).stat().st_mtime_ns == kept


def test_ordered_photos_are_the_same_under_other_names(small_set: PhotoSet, tmp_path: Path) -> None:
    ordered = replace(small_set, ordered=True)
    folders = [scale_scenes.render_set(s, tmp_path) for s in (small_set, ordered)]
    listed = [json.loads((f / "cameras.json").read_text())["images"] for f in folders]
    assert list(listed[1]) == sorted(listed[1])
    assert list(listed[0]) != sorted(listed[0])
    for mixed, walked in zip(*listed, strict=True):
        assert listed[0][mixed] == listed[1][walked]
        images = [f / "images" / n for f, n in zip(folders, (mixed, walked), strict=True)]
        assert images[0].read_bytes() == images[1].read_bytes()


@pytest.mark.parametrize(("count", "blocks"), [(50, 1), (200, 2), (500, 5)])
def test_walks_close_in_equal_steps_and_cross_where_blocks_meet(count: int, blocks: int) -> None:
    cameras = walks.street(np.random.default_rng(1), count=count, blocks=blocks)
    places = np.stack([camera.cam_to_world[:2, 3] for camera in cameras])
    steps = np.linalg.norm(np.roll(places, -1, axis=0) - places, axis=1)
    assert len(cameras) == count and steps.max() < 1.7 * walks.STEP
    # Rounded corners cut the way short.
    assert 0.8 * walks.STEP < np.median(steps) < 1.1 * walks.STEP
    apart = np.linalg.norm(places[:, None] - places[None], axis=2)
    far = np.abs(np.subtract.outer(np.arange(count), np.arange(count)))
    far = np.minimum(far, count - far) > 20
    met = ((apart < 0.7) & far).any(axis=1)
    pitch = walks.pitch_of(count, blocks)
    crossings = {tuple(np.rint(place / pitch).astype(int)) for place in places[met]}
    assert crossings == {(k, k) for k in range(1, blocks)}


def test_equal_houses_look_the_same_and_their_neighbours_do_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    paint = WorldBuilder.rectangle
    monkeypatch.setattr(WorldBuilder, "rectangle", lambda *a: paint(*a[:-1], min(a[-1], 12.0)))
    world = layouts.two_places_world(np.random.default_rng(0), equal=True)
    renderer = Renderer(world)
    pose = look_at(np.array([2.0, -6.0, 1.6]), np.array([-1.5, 0, 1.6]))
    there = pose.copy()
    there[0, 3] += layouts.PLACE_APART
    K = pinhole(128, 160, 120)
    (light, depth), (copy, _) = (
        renderer.photograph(PinholeCamera(K, p, 120, 160)) for p in (pose, there)
    )
    hits = transform_points(pose, unproject(depth, K))
    house = (depth > 0) & (np.abs(hits[..., 0]) < 3.3) & (hits[..., 1] > -4) & (hits[..., 2] < 2)
    same = np.abs(light - copy).max(axis=-1) < 0.01
    assert same[house].mean() > 0.95
    beside = (hits[..., 0] < -4) & (hits[..., 1] > -1) & (depth > 0)
    assert beside.sum() > 500 and same[beside].mean() < 0.3


def test_names_of_sets() -> None:
    assert PhotoSet.parse("two-places-24", seed=2) == PhotoSet("two-places", 24, 2)
    assert PhotoSet.parse("street-50").folder_name != PhotoSet.parse("ring-50").folder_name
    for wrong in ("street", "village-10", "street-x", "street-20"):
        with pytest.raises(ValueError, match=wrong):
            PhotoSet.parse(wrong)
