"""Photo files: what is found, what is refused, and that loading maps pixels exactly."""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.special import ndtr

from pointmap.camera import pinhole, project, scale_intrinsics
from pointmap.errors import InputError
from pointmap.images import Photo, ResizedPhoto, load_photo, open_photos, resized_size
from pointmap.photo_files import find_photos, find_videos
from pointmap.photo_names import photo_names

SIZES = [(1001, 667), (667, 1001), (500, 500), (2000, 600)]
# Places between the margins, in fractions: no symmetry, and up to the far edges, where a reader
# that forgets the partial last block of a reduced JPEG is most wrong.
SPOTS = np.array([[0.03, 0.0], [1.0, 0.04], [0.527, 0.413], [0.06, 0.97], [0.98, 1.0]])


def blobs(width: int, height: int, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Return (height, width) uint8 with bright blobs, and their centres (5, 2) in pixels."""
    margin = 3.5 * sigma
    centres = margin + SPOTS * (width - 2 * margin, height - 2 * margin)
    picture = np.full((height, width), 30.0)
    for x, y in centres:
        # The mean over a pixel of a Gaussian: exact in the convention where pixel 0 spans [0, 1].
        across = np.diff(ndtr((np.arange(width + 1) - x) / sigma))
        down = np.diff(ndtr((np.arange(height + 1) - y) / sigma))
        picture += 2 * np.pi * sigma**2 * 200 * np.outer(down, across)
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8), centres


def centroid_errors(resized: ResizedPhoto, centres: np.ndarray, sigma: float) -> np.ndarray:
    """Return distances (5,) in resized pixels of blob centroids from where they should be."""
    grey = resized.pixels.astype(np.float64).mean(axis=-1)
    expected = centres * (resized.scale_x, resized.scale_y)
    reach_x, reach_y = (int(np.ceil(3.5 * sigma * s)) for s in (resized.scale_x, resized.scale_y))
    errors = []
    for x, y in expected:
        left, top = max(0, int(x) - reach_x), max(0, int(y) - reach_y)
        window = grey[top : int(y) + reach_y + 1, left : int(x) + reach_x + 1] - 30
        weight = np.clip(window - 12, 0, None)
        rows, columns = np.mgrid[: window.shape[0], : window.shape[1]] + 0.5
        found = np.array([(columns * weight).sum(), (rows * weight).sum()]) / weight.sum()
        errors.append(np.linalg.norm(found - (x - left, y - top)))
    return np.array(errors)


def stored_for(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Return what a camera stores so that EXIF ``orientation`` shows ``pixels`` upright."""
    inverse = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: a.T,
        6: lambda a: np.rot90(a, 1),
        7: lambda a: np.rot90(a, 2).T,
        8: lambda a: np.rot90(a, -1),
    }
    return np.ascontiguousarray(inverse[orientation](pixels))


def save(path: Path, pixels: np.ndarray, **exif_tags: object) -> Path:
    """Write a grey or RGB array; ``exif_tags`` are hexadecimal tags written as x0112=..."""
    exif = Image.Exif()
    for tag, value in exif_tags.items():
        number = int(tag[1:], 16)
        if number >= 0x8000:
            exif.get_ifd(0x8769)[number] = value
        else:
            exif[number] = value
    options: dict[str, Any] = {"quality": 95} if path.suffix in (".jpg", ".webp", ".heic") else {}
    Image.fromarray(pixels).save(path, exif=exif.tobytes(), **options)
    return path


def open_one(path: Path) -> Photo:
    photos, rejected = open_photos([path])
    assert not rejected, rejected
    return photos[0]


@pytest.mark.parametrize("multiple", [1, 16])
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("size", SIZES)
def test_blobs_land_where_the_scale_puts_them(
    tmp_path: Path, size: tuple[int, int], suffix: str, multiple: int
) -> None:
    for long_side in (100, 224, 512):
        sigma = 1.3 * max(size) / long_side
        pixels, centres = blobs(*size, sigma)
        photo = open_one(save(tmp_path / f"{long_side}{suffix}", pixels))
        resized = load_photo(photo, long_side=long_side, multiple=multiple)
        assert (photo.width, photo.height) == size
        assert centroid_errors(resized, centres, sigma).max() < 0.1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp"])
def test_every_exif_orientation_comes_out_upright(
    tmp_path: Path, suffix: str, orientation: int
) -> None:
    sigma = 1.3 * 331 / 80
    pixels, centres = blobs(331, 217, sigma)
    path = save(tmp_path / f"p{suffix}", stored_for(pixels, orientation), x0112=orientation)
    photo = open_one(path)
    assert (photo.width, photo.height) == (331, 217)
    # 40: a JPEG is decoded at a quarter; 80: at a half.
    for long_side, multiple in [(80, 1), (40, 1), (80, 16)]:
        resized = load_photo(photo, long_side=long_side, multiple=multiple)
        assert centroid_errors(resized, centres, sigma).max() < 0.1


def test_projected_points_land_on_the_resized_photo(tmp_path: Path) -> None:
    width, height, sigma = 1001, 667, 9.0
    pixels, centres = blobs(width, height, sigma)
    intrinsics = pinhole(800.0, width, height)
    points = np.c_[(centres - (width / 2, height / 2)) / 800.0, np.ones(5)] * 3.0
    photo = open_one(save(tmp_path / "a.jpg", pixels))
    resized = load_photo(photo, long_side=256, multiple=16)
    scaled = scale_intrinsics(intrinsics, resized.scale_x, resized.scale_y)
    back = project(points, scaled) / (resized.scale_x, resized.scale_y)
    assert centroid_errors(resized, back, sigma).max() < 0.1


def test_heic_is_read_upright(tmp_path: Path) -> None:
    import pillow_heif

    pillow_heif.register_heif_opener()
    pixels, centres = blobs(400, 300, 8.0)
    path = save(tmp_path / "a.heic", stored_for(pixels, 6), x0112=6, x010F="Maker")
    photo = open_one(path)
    assert (photo.width, photo.height) == (400, 300)
    assert photo.camera_key.startswith("Maker|")
    assert centroid_errors(load_photo(photo, long_side=200), centres, 8.0).max() < 0.1


def test_resized_sizes() -> None:
    assert resized_size(640, 480, 512, 16) == (512, 384)
    assert resized_size(480, 640, 512, 16) == (384, 512)
    assert resized_size(224, 224, 512, 16) == (512, 512)  # the network may be fed an enlargement
    assert resized_size(224, 224, 512) == (224, 224)
    assert resized_size(1001, 667, 512) == (512, 341)
    assert resized_size(5000, 40, 512, 16) == (512, 16)
    assert resized_size(1000, 700, 16, 16) == (32, 16)
    for width, height in SIZES:
        w, h = resized_size(width, height, 512, 16)
        assert w % 16 == h % 16 == 0 and 0.85 * 512 <= max(w, h) <= 512
        assert abs(np.log(w / h * height / width)) < 0.02


def test_modes_become_rgb(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rgb = np.kron(rng.integers(0, 256, (4, 6, 3)), np.ones((20, 20, 1))).astype(np.uint8)
    image = Image.fromarray(rgb)
    grey16 = (rgb[..., 0].astype(np.uint16) << 8) | 0x5A
    image.quantize(32).save(tmp_path / "palette.png")
    image.convert("CMYK").save(tmp_path / "cmyk.tif")
    image.convert("L").save(tmp_path / "grey.bmp")
    Image.fromarray(grey16).save(tmp_path / "sixteen.png")
    Image.fromarray(grey16).save(tmp_path / "sixteen.tif")
    # Twelve bits of a sensor, as they are, in sixteen.
    Image.fromarray(grey16 >> 4).save(tmp_path / "twelve.png")
    image.convert("1").save(tmp_path / "bilevel.png")
    expected = {
        "palette.png": rgb,
        "cmyk.tif": rgb,
        "grey.bmp": np.asarray(image.convert("L").convert("RGB")),
        "sixteen.png": np.repeat(rgb[..., :1], 3, -1),
        "sixteen.tif": np.repeat(rgb[..., :1], 3, -1),
        "twelve.png": np.repeat(rgb[..., :1], 3, -1),
        "bilevel.png": np.asarray(image.convert("1").convert("RGB")),
    }
    for name, pixels in expected.items():
        loaded = load_photo(open_one(tmp_path / name), long_side=500).pixels
        assert loaded.dtype == np.uint8
        assert np.abs(loaded.astype(int) - pixels).max() <= 2, name


def test_transparent_pixels_are_not_usable_and_show_the_colours_beside_them(tmp_path: Path) -> None:
    rgba = np.zeros((40, 60, 4), np.uint8)
    rgba[:, 30:] = (10, 200, 30, 255)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    photo = load_photo(open_one(tmp_path / "a.png"), long_side=60)
    assert photo.usable is not None and not photo.usable[:, :30].any()
    assert photo.usable[:, 30:].all() and (photo.pixels == (10, 200, 30)).all()


def test_first_frame_of_an_animation(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (50, 40), colour) for colour in ("red", "blue")]
    for name in ("a.png", "a.webp", "a.tif"):
        options: dict[str, Any] = {"lossless": True} if name == "a.webp" else {}
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
        pixels = load_photo(open_one(tmp_path / name), long_side=50).pixels
        assert np.abs(pixels.astype(int) - (255, 0, 0)).max() <= 2


def png_that_declares(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(1000))
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def test_bad_files_are_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (300, 400, 3), np.uint8)
    contents: dict[str, bytes] = {
        "text.jpg": b"this is no picture",
        "empty.png": b"",
        "bomb.png": png_that_declares(60000, 60000),
        "lie.png": png_that_declares(500, 500),
    }
    for suffix, form in [("jpg", "JPEG"), ("png", "PNG"), ("webp", "WEBP"), ("tif", "TIFF")]:
        buffer = io.BytesIO()
        Image.fromarray(noise).save(buffer, form)
        contents[f"half.{suffix}"] = buffer.getvalue()[: len(buffer.getvalue()) // 2]
        contents[f"tail.{suffix}"] = buffer.getvalue()[: -len(buffer.getvalue()) // 20]
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    Image.new("RGB", (500, 31)).save(tmp_path / "strip.png")
    Image.fromarray(np.full((50, 50), 20, np.float32)).save(tmp_path / "float.tif")
    good = [save(tmp_path / f"good{n}.jpg", noise) for n in (1, 2)]

    bad = sorted(set(tmp_path.iterdir()) - set(good))
    pillow_limit = Image.MAX_IMAGE_PIXELS
    photos, rejected = open_photos([good[0], *bad, tmp_path / "missing.jpg", good[1]])
    reasons = {r.path.name: r.reason for r in rejected}
    assert [p.path for p in photos] == good
    assert [r.path for r in rejected] == [*bad, tmp_path / "missing.jpg"]
    assert pillow_limit == Image.MAX_IMAGE_PIXELS
    assert "60000x60000" in reasons["bomb.png"]
    assert "1x1" in reasons["dot.png"] and "500x31" in reasons["strip.png"]
    assert "other text" in reasons["text.jpg"] and reasons["empty.png"] == "empty file"
    assert "floating-point" in reasons["float.tif"]
    assert reasons["missing.jpg"] == "no such file"
    assert "damaged or incomplete" in reasons["half.jpg"]
    assert "damaged or incomplete" in reasons["tail.jpg"]


def test_a_photo_that_vanishes_or_changes_is_an_input_error(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", np.zeros((50, 60), np.uint8))
    photo = open_one(path)
    save(path, np.zeros((60, 60), np.uint8))
    with pytest.raises(InputError, match="changed"):
        load_photo(photo, long_side=50)
    path.unlink()
    with pytest.raises(InputError, match=r"a\.jpg: no such file"):
        load_photo(photo, long_side=50)


def test_focal_from_exif(tmp_path: Path) -> None:
    pixels = np.zeros((600, 800, 3), np.uint8)
    focal_35 = save(tmp_path / "a.jpg", pixels, xA405=28, x920A=4.25, x010F="Maker", x0110="P1")
    # 1000 px diagonal against 43.267 mm.
    assert open_one(focal_35).exif_focal_px == pytest.approx(28 / 43.2666 * 1000, rel=1e-4)
    # A sensor with 1000 px per cm, taken at 1600x1200, file reduced to half: 10 mm = 500 px.
    plane = {"x920A": 10.0, "xA20E": 1000.0, "xA210": 3, "xA002": 1600, "xA003": 1200}
    assert open_one(save(tmp_path / "b.jpg", pixels, **plane)).exif_focal_px == pytest.approx(500)
    turned = save(tmp_path / "c.jpg", pixels, x0112=6, **plane)
    assert open_one(turned).exif_focal_px == pytest.approx(500)
    assert (open_one(turned).width, open_one(turned).height) == (600, 800)
    # The same tags on a picture cropped to a square say nothing about it.
    # A sensor of 1.6 mm: the picture was made smaller by a program that wrote its own size.
    smaller = plane | {"xA20E": 10000.0}
    assert open_one(save(tmp_path / "s.jpg", pixels, **smaller)).exif_focal_px is None
    square = save(tmp_path / "d.jpg", pixels[:, :600], **plane)
    assert open_one(square).exif_focal_px is None
    for tags in ({"xA405": 0}, {"x920A": 5.0}, {"xA405": 60000}, {}):
        assert open_one(save(tmp_path / "e.jpg", pixels, **tags)).exif_focal_px is None


def test_camera_keys_group_by_camera_lens_zoom_and_size(tmp_path: Path) -> None:
    wide, tall = np.zeros((60, 80), np.uint8), np.zeros((80, 60), np.uint8)
    phone = {"x010F": "Maker", "x0110": "P1", "xA434": "wide lens", "x920A": 4.25}
    same = [
        save(tmp_path / "a.jpg", wide, **phone),
        save(tmp_path / "b.jpg", tall, **phone),
        save(tmp_path / "c.jpg", wide, x0112=6, **phone),
    ]
    other = [
        save(tmp_path / "d.jpg", wide, **{**phone, "x920A": 6.5}),
        save(tmp_path / "e.jpg", wide, **{**phone, "x0110": "P2"}),
        save(tmp_path / "f.jpg", wide[:50], **phone),
        save(tmp_path / "g.jpg", wide),
        save(tmp_path / "h.jpg", wide, xA405=26, **phone),
        save(tmp_path / "i.jpg", wide, xA405=39, xA404=1.5, **phone),
    ]
    assert len({open_one(path).camera_key for path in same}) == 1
    assert len({open_one(path).camera_key for path in [same[0], *other]}) == 7


def test_broken_exif_does_not_cost_the_photo(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.new("RGB", (60, 50)).save(path, exif=b"Exif\0\0II*\0\xff\xff\xff\x7f" + bytes(range(40)))
    photo = open_one(path)
    assert (photo.width, photo.height, photo.exif_focal_px) == (60, 50, None)


def test_find_photos_in_folders_patterns_and_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "my photos [1]"
    (folder / "sub.jpg").mkdir(parents=True)
    for name in ("10.jpg", "9.JPG", "b.webp", "notes.txt", "._9.jpg", "video.mp4"):
        (folder / name).touch()
    names = ["9.JPG", "10.jpg", "b.webp"]
    assert [p.name for p in find_photos([folder])] == names
    monkeypatch.chdir(folder)
    assert [p.name for p in find_photos(["*.*"])] == names
    assert [p.name for p in find_photos(["10.jpg", "*.[jJ]*"])] == ["10.jpg", "9.JPG"]
    assert [p.name for p in find_photos(["notes.txt", folder])] == ["notes.txt", *names]
    for missing in ("gone.jpg", "*.heic"):
        with pytest.raises(InputError, match=r"gone\.jpg does not exist|no file matches \*\.heic"):
            find_photos([folder, missing])
    (tmp_path / "bare").mkdir()
    with pytest.raises(InputError, match="no photos found in"):
        find_photos([tmp_path / "bare"])


def test_links_lead_to_photos_once_and_those_that_lead_nowhere_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "photos/sub").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    photo = save(tmp_path / "photos/b.jpg", np.zeros((50, 60, 3), np.uint8))
    for name, target in {
        "a.jpg": "b.jpg",
        "c.jpg": "b.jpg",
        "gone.jpg": "nowhere.jpg",
        "round.jpg": "round.jpg",
        "loop": ".",
        "other": "../elsewhere",
        "sub/up": "..",
    }.items():
        (tmp_path / "photos" / name).symlink_to(target)
    assert find_photos([tmp_path / "photos"]) == [photo]
    assert caplog.messages == [
        "2 photos are left out, as links that lead nowhere: gone.jpg, round.jpg"
    ]
    caplog.clear()
    assert find_photos([tmp_path / "photos"], recursive=True) == [photo]
    assert caplog.messages[1:] == [
        "1 folder is left out, a link or not to be listed: other; name it to use its photos"
    ]
    photo.unlink()
    with pytest.raises(
        InputError, match=r"no photos found in .*\(the link .*\.jpg leads nowhere\)"
    ):
        find_photos([tmp_path / "photos"])


def test_pictures_of_a_scene_that_was_saved_among_the_photos_are_no_photos(tmp_path: Path) -> None:
    (tmp_path / "photos/scene/depth").mkdir(parents=True)
    photo = save(tmp_path / "photos/a.jpg", np.zeros((50, 60, 3), np.uint8))
    depth = save(tmp_path / "photos/scene/depth/a.png", np.zeros((50, 60, 3), np.uint8))
    added = save(tmp_path / "photos/scene/depth/mine.png", np.zeros((50, 60, 3), np.uint8))
    run = {"program": "pointmap", "files": {"depth/a.png": "0"}}
    (tmp_path / "photos/scene/run.json").write_text(json.dumps(run))
    assert find_photos([tmp_path / "photos"], recursive=True) == [photo, added]
    assert find_photos([depth.parent]) == [depth, added]


def test_a_subfolder_that_may_not_be_listed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "closed").mkdir()
    photo = save(tmp_path / "a.jpg", np.zeros((50, 60, 3), np.uint8))
    # Whoever runs the tests may be allowed everything.
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "closed")
    for given in (tmp_path, tmp_path / "**/*.jpg"):
        caplog.clear()
        assert find_photos([given], recursive=True) == [photo]
        assert ["closed" in said for said in caplog.messages] == [True]


def test_archives_are_named_with_what_to_do(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    archive = tmp_path / "trip.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.jpg", b"")
    with pytest.raises(InputError, match=r"no photos found in .* \(unpack trip\.zip first\)"):
        find_photos([tmp_path])
    _, (rejected,) = open_photos([archive])
    assert rejected.reason.startswith("an archive; unpack it")
    save(tmp_path / "a.jpg", np.zeros((50, 60, 3), np.uint8))
    find_photos([tmp_path])
    assert caplog.messages == ["1 archive is left out; unpack to use what it holds: trip.zip"]


def test_pictures_whose_names_do_not_say_so_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    black = Image.new("RGB", (60, 50))
    for name, kind in {"IMG_1": "JPEG", "a.jpg_original": "PNG", "b.download": "WebP"}.items():
        black.save(tmp_path / name, kind)
    (tmp_path / "clip.mp4").touch()
    (tmp_path / "README").write_text("Photos of the mill.")
    (tmp_path / "short").write_bytes(b"\xff")
    with pytest.raises(InputError) as caught:
        find_photos([tmp_path])
    there = (
        "videos are not taken of a folder: clip.mp4; pictures by what they hold: a.jpg_original, "
        "b.download, IMG_1; add .jpg"
    )
    assert f"({there})" in str(caught.value)
    caplog.clear()
    photo = save(tmp_path / "c.jpg", np.zeros((50, 60, 3), np.uint8))
    assert find_photos([tmp_path]) == [photo]
    assert caplog.messages[1:] == [
        "3 pictures are left out, as their names don't end as a photo's: a.jpg_original, "
        "b.download, IMG_1; add .jpg or the like to use them"
    ]


def test_an_empty_name_is_not_this_folder() -> None:
    with pytest.raises(InputError, match="an empty name"):
        find_photos([""])


def test_frames_stand_in_for_a_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.jpg", "b.MP4", "c.jpg", "c.mov", "._b.mp4"):
        Path(name).touch()
    frames = {Path("b.MP4"): [Path("b_000001.jpg"), Path("b_000009.jpg")]}
    inputs = ["c.jpg", "b.MP4", "a.jpg"]
    assert find_videos(inputs) == [Path("b.MP4")]
    found = ["c.jpg", "b_000001.jpg", "b_000009.jpg", "a.jpg"]
    assert [str(path) for path in find_photos(inputs, frames=frames)] == found
    with pytest.raises(InputError, match=r"b\.MP4 is a video; give photos"):
        find_photos(inputs)
    # Beside a live photo lies a film of it, so that a folder stands for its photos alone.
    assert find_videos([".", "*.jpg"]) == []
    assert find_videos(["*.m[op][v4]", "./c.mov"]) == [Path("c.mov")]
    assert find_videos(["*.MP4"]) == [Path("b.MP4")]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_pipe_named_as_a_video_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(InputError, match="neither a file nor a folder"):
        find_videos([tmp_path / "pipe.mp4"])


def test_a_folder_that_may_not_be_listed_is_not_called_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(folder: Path) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    # Whoever runs the tests may be allowed everything.
    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(InputError, match=r"cannot read .*: Permission denied"):
        find_photos([tmp_path])


def test_names_are_unique_ways_from_the_common_folder(tmp_path: Path) -> None:
    paths = []
    for relative in ("a/1.jpg", "b/1.jpg", "b/1.png", "c/B/1.JPG", "d/b/1.jpg", "d/2.jpg"):
        path = tmp_path / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (40, 40)).save(path)
        paths.append(path)
    names = [photo.name for photo in open_photos(paths)[0]]
    assert names == ["a/1.jpg", "b/1.jpg", "b/1.png", "c/B/1.JPG", "d/b/1.jpg", "d/2.jpg"]
    assert [photo.name for photo in open_photos(paths[4:])[0]] == ["1.jpg", "2.jpg"]
    # Not even capitals may tell two names apart: some file systems do not.
    assert photo_names([Path("a/1.jpg"), Path("a/1.JPG"), Path("A/1.jpg")]) == [
        "a/1.jpg",
        "1.JPG",
        "A_1.jpg",
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="reads peak memory from /proc")
@pytest.mark.parametrize(("suffix", "limit_mb"), [(".jpg", 200), (".png", 700)])
def test_100_megapixels_load_in_bounded_memory(tmp_path: Path, suffix: str, limit_mb: int) -> None:
    """In a process of its own; decoded at full size the picture takes 400 MB."""
    path = tmp_path / f"a{suffix}"
    Image.new("RGB", (12500, 8000), (90, 50, 20)).save(path, quality=50, compress_level=1)
    code = (
        "import re, sys\n"
        "from pathlib import Path\n"
        "from pointmap.images import open_photos, load_photo\n"
        "photos, rejected = open_photos([Path(sys.argv[1])])\n"
        "assert not rejected, rejected\n"
        "assert load_photo(photos[0], long_side=512).pixels.shape == (328, 512, 3)\n"
        # Not getrusage: its peak includes what the parent held when it forked.
        "status = Path('/proc/self/status').read_text()\n"
        "print(int(re.search(r'VmHWM:\\s+(\\d+)', status)[1]) // 1024)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < limit_mb
