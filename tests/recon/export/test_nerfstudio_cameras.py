"""A transforms.json as known cameras: ours bit-equal, others' by the format's rules."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from alignment_scenes import phone_photos
from scene_factory import make_scene

from pointmap.camera import invert_rigid, project, transform_points
from pointmap.errors import InputError
from pointmap.images import Photo
from pointmap.lens import Lens
from recon.export.nerfstudio import write_transforms
from recon.inputs.read_cameras import load_known_cameras
from recon.reconstruction import Reconstruction

PHOTOS = phone_photos(2)
LENS = {"fl_x": 500.0, "fl_y": 510.0, "cx": 321.0, "cy": 239.0, "w": 640, "h": 480}


def frame(name: str = "images/0.jpg", **more: Any) -> dict[str, Any]:
    return {"file_path": name, "transform_matrix": np.eye(4).tolist(), **more}


def write(path: Path, *frames: Any, **top: Any) -> str:
    path.write_text(json.dumps({**top, "frames": list(frames)}))
    return str(path)


def test_a_third_coefficient_is_of_the_same_model(tmp_path: Path) -> None:
    lens = Lens("FULL_OPENCV", (-0.1, 0.02, 0.001, -0.002, 0.003, 0.0, 0.0, 0.0))
    scene = _through(tmp_path, [lens] * 4)
    write_transforms(tmp_path / "transforms.json", scene, scene_folder=tmp_path)
    said = json.loads((tmp_path / "transforms.json").read_text())
    assert said["camera_model"] == "OPENCV" and said["frames"][0]["k3"] == 0.003
    photos = [
        Photo(view.path, view.name, view.camera.width, view.camera.height, None, "one")
        for view in scene.views
    ]
    known = load_known_cameras(str(tmp_path / "transforms.json"), photos)
    assert all(one is not None and one.lens == lens for one in known.lenses)


@pytest.mark.parametrize(
    ("lenses", "told"),
    [
        ([Lens.radial(-0.1)] * 4, None),
        ([Lens("OPENCV_FISHEYE", (0.01, 0.0, 0.0, 0.0))] * 4, None),
        ([Lens("FOV", (0.9,))] * 4, "FOV"),
        ([Lens.radial(-0.1), *[Lens("FISHEYE", ())] * 3], "OPENCV, OPENCV_FISHEYE"),
    ],
)
def test_lenses_that_nerfstudio_cannot_take_are_told(
    lenses: list[Lens], told: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_transforms(tmp_path / "t.json", _through(tmp_path, lenses), scene_folder=tmp_path)
    assert (told is None) == (not caplog.text)
    assert told is None or f"these are {told}:" in caplog.text


def _through(folder: Path, lenses: list[Lens]) -> Reconstruction:
    scene = make_scene(folder, write_photos=True)
    views = zip(scene.views, lenses, strict=True)
    return replace(
        scene, views=tuple(replace(v, camera=replace(v.camera, lens=lens)) for v, lens in views)
    )


@pytest.mark.parametrize("k1", [0.0, -0.02])
def test_what_we_write_is_read_bit_equal(tmp_path: Path, k1: float) -> None:
    scene = make_scene(tmp_path, k1=k1, unregistered={"c.jpg"}, write_photos=True)
    write_transforms(tmp_path / "transforms.json", scene, scene_folder=tmp_path)
    photos = [
        Photo(view.path, view.name, view.camera.width, view.camera.height, None, "one")
        for view in scene.views
    ]
    known = load_known_cameras(str(tmp_path / "transforms.json"), photos)
    assert known.lenses[2] is None and known.cam_to_world[2] is None
    for k in (0, 1, 3):
        camera, lens = scene.views[k].camera, known.lenses[k]
        assert lens is not None and lens.lens == Lens.radial(k1)
        assert np.array_equal(lens.intrinsics, camera.intrinsics)
        assert np.array_equal(known.cam_to_world[k], camera.cam_to_world)


def test_axes_are_those_of_opengl(tmp_path: Path) -> None:
    """A camera at (1, 2, 3) that is not turned looks along -z of the world, with y up."""
    matrix = np.eye(4)
    matrix[:3, 3] = 1, 2, 3
    path = write(tmp_path / "t.json", frame(transform_matrix=matrix.tolist()), **LENS)
    known = load_known_cameras(path, PHOTOS)
    lens, pose = known.lenses[0], known.cam_to_world[0]
    assert lens is not None and pose is not None
    ahead, above = project(
        transform_points(invert_rigid(pose), [[1, 2, -7], [1, 3, -7]]), lens.intrinsics
    )
    assert ahead.tolist() == [321.0, 239.0] and above.tolist() == [321.0, 239.0 - 51.0]


def test_lenses_stand_at_the_top_or_with_a_frame(tmp_path: Path) -> None:
    own = {"fl_x": 700.0, "fl_y": 700.0, "k1": 0.01}
    path = write(tmp_path / "t.json", frame(), frame("1.jpg", **own), **LENS)
    first, second = load_known_cameras(path, PHOTOS).lenses
    assert first is not None and second is not None
    assert first.intrinsics.tolist() == [[500, 0, 321], [0, 510, 239], [0, 0, 1]]
    assert second.intrinsics.tolist() == [[700, 0, 321], [0, 700, 239], [0, 0, 1]]
    assert (first.lens, second.lens) == (Lens(), Lens.radial(0.01))


def test_an_angle_of_view_is_a_focal_length(tmp_path: Path) -> None:
    path = write(tmp_path / "t.json", frame(), camera_angle_x=math.pi / 2, w=640, h=480)
    lens = load_known_cameras(path, PHOTOS).lenses[0]
    assert lens is not None
    assert np.allclose(lens.intrinsics, [[320, 0, 320], [0, 320, 240], [0, 0, 1]])
    path = write(tmp_path / "t.json", frame(), camera_angle_y=math.pi / 2, w=640, h=480)
    assert load_known_cameras(path, PHOTOS).focals_px[0] == pytest.approx(240)
    path = write(tmp_path / "t.json", frame())
    known = load_known_cameras(path, PHOTOS)
    assert known.lenses[0] is None and np.array_equal(
        known.cam_to_world[0], np.diag([1.0, -1.0, -1.0, 1.0])
    )


def radial() -> Lens:
    return Lens("RADIAL", (0.01, 1e-3))


@pytest.mark.parametrize(
    ("said", "lens"),
    [
        ({"k1": 0.01, "k2": 1e-3}, radial()),
        ({"p2": 1e-4}, Lens("OPENCV", (0.0, 0.0, 0.0, 1e-4))),
        ({"k3": 1e-4}, Lens("FULL_OPENCV", (0.0, 0.0, 0.0, 0.0, 1e-4, 0.0, 0.0, 0.0))),
        (
            {"camera_model": "OPENCV_FISHEYE", "k1": 0.01, "k4": 1e-3},
            Lens("OPENCV_FISHEYE", (0.01, 0.0, 0.0, 1e-3)),
        ),
        (
            {"distortion_params": [0.01, 1e-3, 0, 0, 1e-4, 2e-4]},
            Lens("OPENCV", (0.01, 1e-3, 1e-4, 2e-4)),
        ),
        ({"k1": 0.01, "k2": 1e-3, "p1": None, "distortion_params": None}, radial()),
        ({"camera_model": "opencv", "k1": 0.01, "k2": 1e-3}, radial()),
        ({"is_fisheye": 1, "k1": 0.01}, Lens("OPENCV_FISHEYE", (0.01, 0.0, 0.0, 0.0))),
    ],
)
def test_coefficients_are_those_of_the_lens(tmp_path: Path, said: dict, lens: Lens) -> None:
    known = load_known_cameras(write(tmp_path / "t.json", frame(), **LENS, **said), PHOTOS)
    assert known.lenses[0] is not None and known.lenses[0].lens == lens


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"k4": 1e-4}, "undistort the photos"),
        ({"camera_model": "FISHEYE624", "distortion_params": [0] * 12}, "undistort the photos"),
        ({"camera_model": "EQUIRECTANGULAR"}, "cut it into perspective views"),
        ({"distortion_params": [0.1]}, "six numbers"),
        ({"latlong": True}, "cut it into perspective views"),
        ({"ftheta_p0": 1e-3}, "undistort the photos"),
    ],
)
def test_a_lens_that_colmap_does_not_know_is_refused(
    tmp_path: Path, said: dict, words: str
) -> None:
    path = write(tmp_path / "t.json", frame(), **LENS, **said)
    with pytest.raises(InputError, match=words):
        load_known_cameras(path, PHOTOS)


@pytest.mark.parametrize("value", [0, -5.0, 1e308, 1e-308, True, None, "5", [5], {}, 10**400])
@pytest.mark.parametrize("place", ["fl_x", "fl_y", "w", "h", "camera_angle_x"])
def test_numbers_are_finite_and_can_be(tmp_path: Path, place: str, value: object) -> None:
    lens = {k: v for k, v in LENS.items() if place != "camera_angle_x" or "fl" not in k}
    refused(write(tmp_path / "t.json", frame(), **lens | {place: value}))


@pytest.mark.parametrize(
    "wrong",
    [
        7,
        {},
        {"file_path": 5},
        {"file_path": "0.jpg"},
        frame(transform_matrix=[[1, 0, 0, 0]] * 3),
        frame(transform_matrix=np.diag([1, 1, 1, 2.0]).tolist()),
        frame(transform_matrix=np.diag([1, 1, -1, 1.0]).tolist()),
        frame(transform_matrix=np.diag([3, 1, 1, 1.0]).tolist()),
        frame(transform_matrix=[[1e10] * 4] * 4),
        frame(cx="a"),
        frame(k1=1e9),
        frame(w=700),
    ],
    ids=str,
)
def test_frames_that_cannot_be_are_one_line(tmp_path: Path, wrong: object) -> None:
    refused(write(tmp_path / "t.json", wrong, **LENS))


def test_a_photo_described_in_two_ways_is_an_error(tmp_path: Path) -> None:
    moved = np.eye(4)
    moved[0, 3] = 1.0
    twice = write(tmp_path / "t.json", frame(), frame(), **LENS)
    assert load_known_cameras(twice, PHOTOS).cam_to_world[0] is not None
    path = write(tmp_path / "t.json", frame(), frame(transform_matrix=moved.tolist()), **LENS)
    with pytest.raises(InputError, match=r"describes images/0\.jpg twice"):
        load_known_cameras(path, PHOTOS)


def refused(path: str) -> None:
    with pytest.raises(InputError) as caught:
        load_known_cameras(path, PHOTOS)
    assert "\n" not in str(caught.value) and path in str(caught.value)


def test_the_last_row_of_a_pose_may_be_missing(tmp_path: Path) -> None:
    whole = frame()
    path = write(tmp_path / "t.json", whole | {"transform_matrix": whole["transform_matrix"][:3]})
    assert np.array_equal(
        load_known_cameras(path, PHOTOS).cam_to_world[0],
        load_known_cameras(write(tmp_path / "w.json", whole), PHOTOS).cam_to_world[0],
    )
