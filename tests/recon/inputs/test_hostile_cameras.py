"""Known cameras that cannot be right, in every format: one line with the file and the remedy."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from alignment_scenes import phone_photos
from scene_factory import make_scene

from pointmap.errors import InputError
from recon.export.colmap import write_colmap
from recon.export.colmap_cameras import read_colmap_cameras
from recon.inputs.known_cameras import check_focal, check_lenses_open
from recon.inputs.read_cameras import load_known_cameras

PHOTOS = phone_photos(2)
K = [[500.0, 0.0, 320.0], [0.0, 500.0, 240.0], [0.0, 0.0, 1.0]]
WRONG = [0, -5.0, 1e308, 1e-308, True, None, "5", [5], {}, 10**400]
CAMERA = "1 PINHOLE 640 480 500 500 320 240"
IMAGE = "1 1 0 0 0 0 0 0 1 0.jpg"


def entry() -> dict:
    return {
        "K": [list(row) for row in K],
        "cam_to_world": np.eye(4).tolist(),
        "distortion": {"model": "SIMPLE_RADIAL", "k1": 0.1},
        "width": 640,
        "height": 480,
    }


def refused(path: Path, words: str | None = None) -> None:
    with pytest.raises(InputError, match=words) as caught:
        load_known_cameras(str(path), PHOTOS)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


@pytest.mark.parametrize("value", WRONG, ids=lambda v: str(v)[:8])
@pytest.mark.parametrize("place", ["fx", "last", "width", "K", "k1", "x"])
def test_a_cameras_json_holds_finite_numbers_that_can_be(
    tmp_path: Path, place: str, value: object
) -> None:
    wrong = entry()
    if place in ("fx", "last"):
        row = 0 if place == "fx" else 2
        wrong["K"][row][row] = value
    elif place == "x":
        wrong["cam_to_world"][0][3] = value
    elif place == "k1":
        wrong["distortion"]["k1"] = value
    else:
        wrong[place] = value
    path = tmp_path / "cameras.json"
    path.write_text(json.dumps({"images": {"0.jpg": wrong}}))
    small = isinstance(value, float) and abs(value) < 100
    if (place, value) == ("K", None) or (place in ("k1", "x") and (value == 0 or small)):
        load_known_cameras(str(path), PHOTOS)
    else:
        refused(path)


@pytest.mark.parametrize(
    "text", ["NaN", "[" * 99_999, '{"images": {"0.jpg": {"K": NaN}}}', '{"images": []}', "{}"]
)
def test_other_json_is_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "cameras.json"
    path.write_text(text)
    refused(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"K": [[50.0, 0, 320], [0, 50, 240], [0, 0, 1]]}, "focal length"),
        ({"K": [[1e6, 0, 320], [0, 1e6, 240], [0, 0, 1]]}, "focal length"),
        ({"K": [[500, 0, 1e6], [0, 500, 240], [0, 0, 1]]}, "principal point"),
        ({"K": [[500, 9e3, 320], [0, 500, 240], [0, 0, 1]]}, "axes"),
        ({"distortion": {"k1": 99.0}}, "distortion"),
    ],
)
def test_a_lens_that_took_no_photo_of_this_size_is_refused(
    tmp_path: Path, change: dict, words: str
) -> None:
    path = tmp_path / "cameras.json"
    path.write_text(json.dumps({"pixel_centre": 0.5, "images": {"0.jpg": entry() | change}}))
    refused(path, words)


def write_text_model(folder: Path, camera: str, images: str) -> Path:
    (folder / "cameras.txt").write_text(f"# cameras\n{camera}\n")
    (folder / "images.txt").write_text(f"# images\n{images}")
    (folder / "points3D.txt").write_text("")
    return folder


@pytest.mark.parametrize("points", ["\n\n", "\n", "", "\n1.5 2.5 -1 3 4 7\n"])
def test_a_text_model_is_read(tmp_path: Path, points: str) -> None:
    half = "1 0.7071068 0 0 0.7071068 1 2 3 1 a photo.jpg"
    camera = read_colmap_cameras(write_text_model(tmp_path, CAMERA, half + points))["a photo.jpg"]
    assert camera.intrinsics.tolist() == K and (camera.width, camera.height) == (640, 480)
    expected = [[0, 1, 0, -2], [-1, 0, 0, 1], [0, 0, 1, -3], [0, 0, 0, 1]]
    assert np.allclose(camera.cam_to_world, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("camera", "images"),
    [
        (CAMERA.replace("500", "-500"), IMAGE),
        (CAMERA.replace("500", "nan"), IMAGE),
        (CAMERA.replace("500", "1e-308"), IMAGE),
        (CAMERA.replace("640", "0"), IMAGE),
        (CAMERA.replace("640", "6.4e2"), IMAGE),
        (CAMERA.replace(" 240", ""), IMAGE),
        (CAMERA.replace("PINHOLE", "PINHOLES"), IMAGE),
        (CAMERA.replace("1", "2"), IMAGE),
        (CAMERA, IMAGE.replace("1 0 0 0 0", "0 0 0 0 0")),
        (CAMERA, IMAGE.replace("1 0 0 0 0", "nan 0 0 0 0")),
        (CAMERA, IMAGE.replace("1 0 0 0 0", "1.1 0 0 0 0")),
        (CAMERA, IMAGE.replace("0 0 0 1", "0 inf 0 1")),
        (CAMERA, IMAGE.replace("0 0 0 1", "0 0 1")),
        (CAMERA, f"{IMAGE}\n2 1 0 0 0 0 0 0 1 1.jpg\n"),
    ],
)
def test_a_text_model_that_cannot_be_right_is_one_line(
    tmp_path: Path, camera: str, images: str
) -> None:
    refused(write_text_model(tmp_path, camera, images), "no COLMAP model that can be read")


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("cameras.txt", b"1 PINHOLE", "cameras.txt has a line of 2 words"),
        ("images.txt", b"1 1 0 0 0", "images.txt has a line of 5 words"),
        ("images.txt", None, "images.txt: No such file"),
        ("cameras.bin", b"", "cameras.bin breaks off"),
        ("cameras.bin", bytes([1]) + bytes(9), "cameras.bin breaks off"),
    ],
)
def test_which_file_of_a_model_is_wrong_is_said(
    tmp_path: Path, file: str, content: bytes | None, said: str
) -> None:
    folder = write_text_model(tmp_path, CAMERA, IMAGE)
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(content)
    refused(folder, said)


def test_a_damaged_binary_model_is_one_line_or_right(tmp_path: Path) -> None:
    """Cut anywhere, and with counts, focal lengths and rotations that are none."""
    write_colmap(tmp_path, make_scene(tmp_path))
    whole = {name: (tmp_path / name).read_bytes() for name in ("cameras.bin", "images.bin")}
    for name, content in whole.items():
        ends = range(0, len(content), max(1, len(content) // 40))
        damages = [content[:end] for end in ends]
        damages += [
            content[:at] + value + content[at + 8 :]
            for at in (0, 12, 16, 24, 32, 40)
            for value in (struct.pack("<d", np.nan), struct.pack("<d", -5.0), b"\xff" * 8)
        ]
        for damaged in damages:
            (tmp_path / name).write_bytes(damaged)
            try:
                read_colmap_cameras(tmp_path)
            except InputError as error:
                assert "\n" not in str(error)
        (tmp_path / name).write_bytes(whole[name])
    assert len(read_colmap_cameras(tmp_path)) == 4


@pytest.mark.parametrize("focal_px", [28.0, 1e7])
def test_a_focal_length_that_no_photo_can_have_is_one_line(focal_px: float) -> None:
    check_focal(None, PHOTOS)
    check_focal(500.0, PHOTOS)
    with pytest.raises(InputError, match=r"no lens takes 0\.jpg"):
        check_focal(focal_px, PHOTOS)


def test_what_is_known_of_all_lenses_is_not_told_twice(tmp_path: Path) -> None:
    file = tmp_path / "cameras.json"
    file.write_text(json.dumps({"images": {photo.name: entry() for photo in PHOTOS}}))
    known = load_known_cameras(str(file), PHOTOS)
    check_lenses_open(known, None, "auto")
    for option, given in (("--focal.focal-px", (500.0, "auto")), ("--lens", (None, "fisheye"))):
        with pytest.raises(InputError, match=f"{option} and --known-cameras both"):
            check_lenses_open(known, *given)
        # Not of photos that the file leaves open.
        check_lenses_open(replace(known, lenses=(*known.lenses[:-1], None)), *given)
