"""Effects of depth on a photo whose every pixel is known: a bright card before a striped wall."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image
from scene_factory import make_scene
from view_maps import with_maps

from pointmap.camera import pinhole
from pointmap.errors import InputError
from pointmap.lens import PINHOLE
from viz.command import main
from viz.effects.bokeh import bokeh
from viz.effects.moved_eye import MovedEye, anaglyph, parallax_film, side_by_side
from viz.effects.photo_depth import PhotoDepth, filled, hidden_behind, photo_depth
from viz.effects.placed_model import load_model, place_model

NEAR, FAR = 2.0, 6.0
CARD = (slice(24, 72), slice(40, 88))
RED, GREEN = np.array([230, 20, 20]), np.array([20, 200, 20])


@pytest.fixture
def photo() -> PhotoDepth:
    """A red card of 48 x 48 pixels at 2, before a green wall at 6."""
    pixels = np.broadcast_to(GREEN.astype(np.uint8), (96, 128, 3)).copy()
    depth = np.full((96, 128), FAR, np.float32)
    pixels[CARD], depth[CARD] = RED, NEAR
    known = np.ones(depth.shape, bool)
    up = np.array([0.0, -1.0, 0.0])
    return PhotoDepth("a", pixels, depth, pinhole(100.0, 128, 96), PINHOLE, None, known, up)


def test_a_sharp_card_keeps_its_edge_and_its_blurred_ground_off(photo: PhotoDepth) -> None:
    seen = bokeh(photo, focus=(0.5, 0.5), blur=5).astype(int)
    assert abs(seen[CARD] - RED).max() <= 2
    outside = np.ones(photo.depth.shape, bool)
    outside[CARD] = False
    assert abs(seen[outside] - GREEN).max() <= 2  # no red halo


def test_a_blurred_card_spreads_both_ways_over_a_sharp_ground(photo: PhotoDepth) -> None:
    seen = bokeh(photo, focus=(0.05, 0.05), blur=3).astype(int)
    row = seen[48]
    radius = 0.03 * 128 * (FAR / NEAR - 1)
    red = (row[:, 0] / 255.0) ** 2.2
    share = (red - red[2]) / (red[64] - red[2])
    edge = 40
    assert share[edge - 1] == pytest.approx(0.5, abs=0.1)
    assert share[round(edge - 0.5 * radius)] == pytest.approx(0.2, abs=0.08)
    assert share[round(edge + 0.5 * radius)] == pytest.approx(0.8, abs=0.08)
    assert share[int(edge - radius - 2)] == pytest.approx(0, abs=0.02)


def test_nothing_shines_through_a_slanted_table(photo: PhotoDepth) -> None:
    """What is behind its front edge is as far away as its middle."""
    pixels = np.full_like(photo.pixels, 30)
    pixels[:64] = RED
    depth = np.full_like(photo.depth, 2.4)
    depth[:64] = np.linspace(3.0, 2.0, 64)[:, None]
    table = PhotoDepth(
        "a", pixels, depth, photo.intrinsics, PINHOLE, None, photo.measured, photo.up
    )
    seen = bokeh(table, focus=(0.5, 0.0), blur=16)
    radius = 0.16 * 128 * (3.0 / 2.0 - 1)
    assert abs(seen[: int(64 - radius - 2)].astype(int) - RED).max() <= 6


def test_a_lamp_out_of_focus_is_a_disc(photo: PhotoDepth) -> None:
    pixels, depth = np.zeros_like(photo.pixels), np.full_like(photo.depth, FAR)
    pixels[48, 100] = 255
    depth[:, :30] = NEAR
    lamp = PhotoDepth("a", pixels, depth, photo.intrinsics, PINHOLE, None, photo.measured, photo.up)
    seen = bokeh(lamp, focus=(0.1, 0.5), blur=6)[..., 0]
    rows, columns = np.nonzero(seen > 0.5 * seen[48, 100])
    radius = 0.06 * 128 * (1 - NEAR / FAR)
    off = np.hypot(rows - 48, columns - 100)
    assert off.max() == pytest.approx(radius, abs=1.1)
    assert len(off) == pytest.approx(np.pi * radius**2, rel=0.25)


def test_what_is_hidden_continues_the_far_side(photo: PhotoDepth) -> None:
    stripes = photo.pixels.copy()
    stripes[::8, :40] = 0
    striped = PhotoDepth(
        "a", stripes, photo.depth, photo.intrinsics, PINHOLE, None, photo.measured, photo.up
    )
    hidden = hidden_behind(striped, 10)
    assert hidden.there[48, 41:49].all() and not hidden.there[48, 60]
    assert not hidden.there[:, :40].any()
    assert (hidden.depth[hidden.there] == FAR).all()
    assert abs(hidden.pixels[50, 42:48].astype(int) - GREEN).max() <= 2


def test_near_things_move_against_the_eye_and_no_gap_shows(photo: PhotoDepth) -> None:
    eye = MovedEye(photo, parallax=0.06)
    np.testing.assert_array_equal(eye.draw(0, 0), photo.pixels)
    right = eye.draw(1, 0).astype(int)
    red = np.flatnonzero(right[48, :, 0] > 128)
    still = np.flatnonzero(photo.pixels[48, :, 0] > 128)
    # The wall is still (it is the median); the card moves by the whole parallax.
    assert red[0] - still[0] == pytest.approx(-0.06 * 128, abs=1.1)
    assert len(red) == pytest.approx(48, abs=1)
    distance = np.minimum(abs(right - RED).max(axis=-1), abs(right - GREEN).max(axis=-1))
    assert (distance[4:-4, 4:-4] > 90).mean() < 0.01  # nothing black where the card was


def test_the_film_loops_and_stereo_pictures_have_both_eyes(photo: PhotoDepth) -> None:
    frames = list(parallax_film(photo))
    assert len(frames) == 96
    first, second, last = (frames[k].astype(int) for k in (0, 1, -1))
    assert abs(first - last).mean() < 3 * max(abs(first - second).mean(), 0.2)
    pair = side_by_side(photo)
    left, right = (
        np.flatnonzero(eye[48, :, 0] > 128).mean() for eye in (pair[:, :128], pair[:, 128:])
    )
    assert left > right  # crossed neither way: the near card is farther right for the left eye
    assert anaglyph(photo).shape == photo.pixels.shape


@pytest.fixture
def cube(tmp_path: Path) -> Path:
    box = trimesh.creation.box((1, 1, 1))
    box.visual.vertex_colors = [20, 20, 250, 255]
    box.export(tmp_path / "cube.glb")
    return tmp_path / "cube.glb"


def blue(picture: np.ndarray) -> np.ndarray:
    return (picture[..., 2].astype(int) - picture[..., :2].max(axis=-1)) > 60


def test_a_model_stands_before_the_wall_and_behind_the_card(photo: PhotoDepth, cube: Path) -> None:
    model = load_model(cube)
    # On the wall at (20, 60): its foot at depth 6, its height 1.2 = 20 pixels.
    seen = blue(place_model(photo, model, at=(20 / 128, 60 / 96), size=1.2))
    rows, _ = np.nonzero(seen)
    assert rows.max() == pytest.approx(61, abs=3)
    assert np.ptp(rows) == pytest.approx(22, abs=4)
    # Half behind the card's left edge: only what is left of it is seen.
    behind = blue(place_model(photo, model, at=(38 / 128, 60 / 96), size=1.2))
    assert behind.any() and not behind[CARD].any()


def test_the_ground_is_darker_where_the_model_stands(cube: Path) -> None:
    """A camera at height 2 looks down at 45 degrees on a grey floor."""
    K, size = pinhole(100.0, 128, 96), (96, 128)
    up = np.array([0.0, -np.sqrt(0.5), -np.sqrt(0.5)])
    y, x = np.mgrid[:96, :128] + 0.5
    rays = np.stack([(x - 64) / 100, (y - 48) / 100, np.ones(size)], axis=-1)
    depth = (-2.0 / (rays @ up)).astype(np.float32)
    grey = np.full((*size, 3), 180, np.uint8)
    floor = PhotoDepth("a", grey, depth, K, PINHOLE, None, np.ones(size, bool), up)
    seen = place_model(floor, load_model(cube), at=(0.5, 0.6), size=0.6)
    box = blue(seen)
    rows, columns = np.nonzero(box)
    foot = rows.max()
    below = seen[foot + 2, columns[rows == foot].mean().astype(int)].mean()
    assert below < 150 < 175 < seen[5, 5].mean()


def test_holes_are_filled_smoothly_and_mostly_far() -> None:
    depth = np.full((40, 60), 2.0, np.float32)
    depth[:, 30:] = 8
    depth[10:30, 20:40] = 0
    whole = filled(depth)
    assert (whole[depth > 0] == depth[depth > 0]).all()
    assert (whole > 1.9).all() and (whole < 8.1).all()


def test_the_command_writes_effects_and_tells_what_is_wrong(
    tmp_path: Path,
    cube: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("viz.effects.moved_eye._SECONDS", 0.25)
    saved = str(make_scene(tmp_path / "p", write_photos=True).save(tmp_path / "scene"))
    out = tmp_path / "out.png"
    arguments = [saved, "--save", str(out), "--photo", "b.jpg"]
    assert main([*arguments, "--effect", "bokeh", "--at", "0.5", "0.5"]) == 0
    assert Image.open(out).size == (480, 640)
    assert main([*arguments, "--effect", "place", "--model", str(cube), "--at", "0.2", "0.9"]) == 0
    film = tmp_path / "film.mp4"
    assert main([saved, "--save", str(film), "--effect", "parallax"]) == 0
    assert film.stat().st_size > 1000
    for wrong, said in (
        (["--effect", "bokeh"], "name it with --save"),
        (["--effect", "parallax", "--save", str(out)], "ends in .mp4"),
        (["--effect", "place", "--save", str(out)], "needs --model"),
        (["--effect", "bokeh", "--save", str(out), "--photo", "no.jpg"], "has no photo no.jpg"),
        (["--effect", "bokeh", "--save", str(out), "--at", "2", "0"], "is not in the picture"),
        (["--effect", "place", "--save", str(out), "--model", str(out)], "the model"),
    ):
        capsys.readouterr()
        assert main([saved, *wrong]) == 2
        assert said in capsys.readouterr().err


def test_nothing_of_the_scene_is_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = make_scene(tmp_path / "p", write_photos=True)
    saved = scene.save(tmp_path / "scene")
    for file in (scene.views[0].path, saved / "depth" / "a.png"):
        before = file.read_bytes()
        assert main([str(saved), "--effect", "bokeh", "--save", str(file)]) == 2
        assert "would replace a file of the scene" in capsys.readouterr().err
        assert file.read_bytes() == before


def test_a_photo_without_depth_is_refused(tmp_path: Path) -> None:
    scene = make_scene(tmp_path)
    views = tuple(with_maps(view, depth=0 * view.depth) for view in scene.views)
    with pytest.raises(InputError, match="has no depth"):
        photo_depth(dataclasses.replace(scene, views=views))
    with pytest.raises(InputError, match="has no photos"):
        photo_depth(dataclasses.replace(scene, views=()))
