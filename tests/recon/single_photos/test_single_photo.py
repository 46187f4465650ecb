"""One photo: its mesh, its products, metres, and folders of photos that are no scene."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from synthetic import ROOM, Plane, Shot, render, shoot

import recon.single_photos.photo_scene
from pointmap.camera import invert_rigid, pinhole, project, rigid, transform_points
from pointmap.errors import InputError
from pointmap.images import open_photos
from pointmap.lens import Lens
from recon.cli import main
from recon.depth.depth_mesh import mesh_from_depth, under_photo
from recon.export import load_scene
from recon.export.colour import UNKNOWN_GREY, normals_to_rgb, value_picture
from recon.export.products import write_products
from recon.options import Options
from recon.reconstruction import Reconstruction
from recon.scene import Camera, LoadedMaps, Mesh, PointCloud, Tracks, View
from recon.stage_results import PhotoPrior
from recon.world.metric_scale import check_scale_source, in_metres, parse_scale


def view_of(shot: Shot, name: str = "a.jpg", k1: float = 0.0) -> View:
    height, width = shot.depth.shape
    camera = Camera(shot.intrinsics, width, height, shot.cam_to_world, Lens.radial(k1))
    return View(
        name, Path(name), camera, LoadedMaps(shot.pixels, shot.depth, np.ones_like(shot.depth))
    )


def scene_of(*views: View) -> Reconstruction:
    return Reconstruction(views, Tracks.empty(), PointCloud.empty(), Mesh.empty())


def card_before_wall() -> Shot:
    """A wall at 4, a card at 2 in columns 30 to 49 of rows 20 to 39."""
    pose = rigid(np.eye(3)[[2, 0, 1]], [1, 2, 3])
    shot = render(pinhole(90, 80, 60), np.eye(4), 80, 60, surfaces=(Plane((0, 0, 1), 4),))
    shot.depth[20:40, 30:50] = 2.0
    return replace(shot, cam_to_world=pose)


def test_the_mesh_is_cut_at_depth_edges_and_lies_on_the_surfaces() -> None:
    view = view_of(card_before_wall())
    mesh = mesh_from_depth(view)
    # All squares but the ring of 80 on the card's border, whose four corners keep a triangle each.
    assert len(mesh.faces) == 2 * (79 * 59 - 80) + 4
    assert view.camera.cam_to_world is not None
    camera = transform_points(invert_rigid(view.camera.cam_to_world), mesh.vertices)
    assert set(np.round(camera[:, 2], 3)) == {2.0, 4.0}
    z = camera[mesh.faces][..., 2]
    assert np.array_equal(z.max(1), z.min(1))  # no triangle joins card and wall
    # Fronts face the camera, and so do normals.
    a, b, c = np.moveaxis(camera[mesh.faces], 1, 0)
    front = (np.cross(b - a, c - a) * (a + b + c)).sum(1)
    assert (front < 0).all()
    normals = mesh.normals @ view.camera.cam_to_world[:3, :3]
    assert normals == pytest.approx(np.tile([0, 0, -1.0], (len(normals), 1)), abs=1e-5)
    pixel = np.floor(project(camera, view.camera.intrinsics)).astype(int)
    assert np.array_equal(mesh.colours, view.pixels[pixel[:, 1], pixel[:, 0]])
    textured = under_photo(mesh, view)
    texel = np.floor(textured.uv * [80, 60]).astype(int)
    assert np.array_equal(textured.texture[texel[:, 1], texel[:, 0]], mesh.colours)


def test_a_mesh_has_no_triangle_on_unknown_pixels() -> None:
    view = view_of(card_before_wall())
    view.depth[5, 5] = 0
    without = mesh_from_depth(view)
    view.depth[5, 5] = 4
    # Six of the eight triangles around a pixel have it as a corner, or all eight.
    assert len(mesh_from_depth(view).faces) - len(without.faces) in (4, 5, 6, 7, 8)
    view.depth[:] = 0
    assert len(mesh_from_depth(view).faces) == len(mesh_from_depth(view).vertices) == 0


def test_products_are_written_raw_and_as_pictures(tmp_path: Path) -> None:
    view = view_of(card_before_wall(), k1=-0.05)
    view.depth[0, :9] = 0
    write_products(tmp_path, "a", view, units="metres")
    with np.load(tmp_path / "a.npz") as maps:
        assert maps["inverse_depth"][30, 40] == 0.5 and maps["inverse_depth"][0, 0] == 0
        assert maps["ray_distance"][0, 79] > 1.1 * maps["depth"][0, 79]
        assert maps["edges"][20, 40] and not maps["edges"][30, 40]
        assert maps["normals"][30, 40] == pytest.approx([0, 0, -1], abs=1e-6)
    for name in ("depth", "inverse_depth", "ray_distance"):
        with Image.open(tmp_path / f"a-{name}.png") as picture:
            assert picture.size == (3 * 80 + 96, 180)
            near, far = (np.asarray(picture, float)[y, x].sum() for y, x in ((90, 120), (90, 30)))
            assert near > far + 100  # near is bright in each
    with Image.open(tmp_path / "a-normals.png") as picture:
        assert np.asarray(picture)[30, 40].tolist() == [128, 128, 255]


def test_pictures_of_values_do_not_depend_on_a_stray_pixel() -> None:
    values = np.linspace(1, 2, 200 * 300).reshape(200, 300)
    plain = value_picture(values, "z")
    values[100, 100] = 1e6
    values[50, 50] = np.nan
    changed = value_picture(values, "z")
    assert np.abs(changed[:100, :300].astype(int) - plain[:100, :300])[:40].max() <= 3
    assert (changed[50, 50] == UNKNOWN_GREY).all()
    assert (value_picture(np.full((4, 5), np.nan), "z")[:160, :200] == UNKNOWN_GREY).all()
    assert (normals_to_rgb(np.zeros((2, 2, 3))) == UNKNOWN_GREY).all()


def half_size_scene() -> tuple[Reconstruction, list[Shot]]:
    """Three views of the room in units of two metres."""
    shots = shoot(3)
    views = []
    for k, shot in enumerate(shots):
        pose = shot.cam_to_world.copy()
        pose[:3, 3] /= 2
        small = replace(shot, cam_to_world=pose, depth=shot.depth / 2)
        views.append(view_of(small, f"{k}.jpg"))
    return scene_of(*views), shots


def metres(scene: Reconstruction, text: str, priors: list[PhotoPrior]) -> Reconstruction:
    return in_metres(scene, priors, text)


def test_every_source_of_scale_gives_the_same_metres(tmp_path: Path) -> None:
    scene, shots = half_size_scene()
    apart = np.linalg.norm(shots[0].cam_to_world[:3, 3] - shots[2].cam_to_world[:3, 3])
    floor = [transform_points(shots[0].cam_to_world, point_at(shots[0], *xy)) for xy in MARKS]
    known = {
        f"{k}.jpg": {
            "K": shot.intrinsics.tolist(), "width": 160, "height": 120,
            "cam_to_world": (rigid(np.eye(3)[[1, 2, 0]], [5, 5, 5]) @ shot.cam_to_world).tolist(),
        }
        for k, shot in enumerate(shots)
    }  # fmt: skip
    (tmp_path / "known.json").write_text(json.dumps({"images": known}))
    # A network that predicts metres, in a prior scaled to be 3 metres a unit.
    priors = [
        PhotoPrior(
            np.dstack([shot.depth * 0, shot.depth * 0, shot.depth / 3]),
            np.full(shot.depth.shape, 5, np.float32), 150.0, unit=3.0,
        )
        for shot in shots
    ]  # fmt: skip
    (x1, y1), (x2, y2) = MARKS
    length = float(np.linalg.norm(floor[0] - floor[1]))
    for text in (
        f"baseline:0.jpg,2.jpg,{apart}",
        f"points:0.jpg,{x1},{y1},{x2},{y2},{length}",
        f"cameras:{tmp_path / 'known.json'}",
        "network",
    ):
        found = metres(scene, text, priors)
        assert found.units == "metres"
        assert found.views[1].depth == pytest.approx(shots[1].depth, rel=1e-3)
        pose = found.views[1].camera.cam_to_world
        assert pose == pytest.approx(shots[1].cam_to_world, rel=1e-3, abs=1e-3)
    assert in_metres(scene, priors, None) is scene
    counted = replace(scene, statistics={"voxel_size": 0.5, "pieces": 3})
    text = f"baseline:0.jpg,2.jpg,{apart}"
    assert metres(counted, text, priors).statistics == {
        "voxel_size": pytest.approx(1.0),
        "pieces": 3,
    }


MARKS = ((20.5, 100.5), (130.5, 90.5))


def point_at(shot: Shot, x: float, y: float) -> np.ndarray:
    z = float(shot.depth[int(y), int(x)])
    K = shot.intrinsics
    return z * np.array([(x - K[0, 2]) / K[0, 0], (y - K[1, 2]) / K[1, 1], 1])


@pytest.mark.parametrize(
    "text",
    ["", "metric", "baseline:a.jpg,2", "baseline:a.jpg,b.jpg,two", "baseline:a.jpg,b.jpg,0",
     "points:a.jpg,1,2,3,4", "points:a.jpg,1,2,3,4,-1", "baseline:a.jpg,b.jpg,nan", "cameras:"],
)  # fmt: skip
def test_a_scale_that_means_nothing_is_refused_at_the_start(text: str) -> None:
    with pytest.raises(InputError, match="scale-from"):
        parse_scale(text)
    with pytest.raises(InputError, match="scale-from"):
        Options(scale_from=text).check()


def test_a_scale_that_cannot_be_measured_is_refused(tmp_path: Path) -> None:
    scene, _ = half_size_scene()
    views = list(scene.views)
    views[0].depth[20, 30] = 0
    views[1] = replace(
        views[1], camera=replace(views[1].camera, cam_to_world=None), reason="too few matches"
    )
    scene = replace(scene, views=tuple(views))
    for text, says in (
        ("baseline:0.jpg,1.jpg,2", "could not be placed"),
        ("baseline:0.jpg,0.jpg,2", "at one place"),
        ("points:0.jpg,30.5,20.5,9,9,2", "depth at pixel 30.5,20.5 of 0.jpg is not known"),
    ):
        with pytest.raises(InputError, match=says):
            metres(scene, text, [])
    Image.new("RGB", (80, 60)).save(tmp_path / "0.jpg")
    photos, _ = open_photos([tmp_path / "0.jpg"])
    check_scale_source("points:0.jpg,79.5,59.5,9,9,2", photos, weights=None)
    # Before the long stages.
    for text, says in (
        ("baseline:0.jpg,x.jpg,2", "no photo of the scene is called x.jpg"),
        ("points:0.jpg,79.5,60,9,9,2", "is outside"),
        ("points:0.jpg,9,9,9,9,2", "at one place"),
        ("baseline:0.jpg,0.jpg,2", "at one place"),
        (f"cameras:{tmp_path / 'none.json'}", "does not exist"),
        ("network", "scale-from network needs"),
    ):
        with pytest.raises(InputError, match=says):
            check_scale_source(text, photos, weights=None)


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two photos of nothing in common, a grey one and a damaged one, with awkward names."""
    folder = tmp_path_factory.mktemp("album")
    pose = shoot(1)[0].cam_to_world
    for name, width, height in (("run.json.png", 96, 64), ("b.png", 64, 96)):
        K = pinhole(80, width, height)
        Image.fromarray(render(K, pose, width, height, surfaces=ROOM).pixels).save(folder / name)
    Image.new("RGB", (80, 60), (90, 90, 90)).save(folder / "grey.png")
    # Opens, and ends in the middle of its pixels.
    whole = (folder / "b.png").read_bytes()
    (folder / "half.png").write_bytes(whole[: len(whole) // 2])
    return folder


def test_a_folder_of_unrelated_photos_becomes_a_folder_each(
    album: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = [str(album), "--mode", "depth", "--out", str(out), "--device", "cpu"]
    assert main(command) == 0
    printed = capsys.readouterr()
    assert "2 photos" in printed.out and "left out (see the warnings): grey.png, half.png" in (
        printed.out
    )
    assert "grey.png shows one single colour" in printed.err
    scene = load_scene(out / "b")
    view = scene.views[0]
    assert (view.camera.width, view.camera.height) == (64, 96)
    assert (view.depth > 0).all() and view.depth.shape == (96, 64)
    assert view.registered and scene.world.kind == "upright"
    assert len(scene.mesh().faces) > 5000 and len(scene.points().points) > 100
    assert scene.warnings == ()
    assert (out / "run.json_/products/run.json-depth.png").is_file()
    page = (out / "report.html").read_text()
    assert page.count("<article") == 2 and "grey.png" in page and "b/scene.glb" in page
    assert main([*command, "--overwrite"]) == 0
    (out / "mine.txt").write_text("x")
    assert main([*command, "--overwrite"]) == 2
    assert main([*command[:-3], str(tmp_path / "new"), "--scale-from", "cameras:x"]) == 2


def test_one_photo_gives_a_scene_with_a_mesh_cut_at_edges(album: Path, tmp_path: Path) -> None:
    out = tmp_path / "scene"
    assert main([str(album / "b.png"), "--out", str(out), "--depth-products"]) == 0
    scene = load_scene(out)
    assert scene.views[0].registered and len(scene.mesh().faces) > 5000
    assert (out / "products/b.npz").is_file() and (out / "report.html").is_file()
    assert main([str(album / "grey.png"), "--out", str(tmp_path / "grey")]) == 2
    assert not (tmp_path / "grey").exists()


def test_a_network_that_is_sure_of_nothing_is_an_input_error(
    album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nothing = PhotoPrior(np.ones((6, 8, 3), np.float32), np.ones((6, 8), np.float32), 80.0)
    monkeypatch.setattr(
        "recon.single_photos.photo_scene.predict_alone", lambda *args, **kwargs: iter([nothing])
    )
    assert main([str(album / "b.png"), "--out", str(tmp_path / "x")]) == 2
    assert "sure of no pixel" in capsys.readouterr().err
    assert main([str(album), "--mode", "depth", "--out", str(tmp_path / "y")]) == 2
    assert not (tmp_path / "y").exists()


def test_a_stopped_run_over_many_photos_goes_on(
    album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    command = [str(album), "--mode", "depth", "--out", str(out), "--depth-size", "64"]
    predicted: list[str] = []
    real = recon.single_photos.photo_scene.predict_alone

    def until_the_second(photos, network, *, device):
        predicted.append(photos[0].name)
        if len(predicted) == 2:
            raise KeyboardInterrupt
        return real(photos, network, device=device)

    monkeypatch.setattr("recon.single_photos.photo_scene.predict_alone", until_the_second)
    assert main(command) == 128 + signal.SIGINT
    assert not out.exists() and (tmp_path / "out.work").is_dir()
    assert main(command) == 0
    first, second, *others = predicted
    assert others[0] == second and first not in others
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
