"""Kinds of photos that cameras, phones and editors write: read as what they show, one test each."""

from __future__ import annotations

import io
import logging
import struct
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms, features

from pointmap import raw_photos
from pointmap.images import load_photo, open_photos
from pointmap.photo_files import find_photos, find_videos

WIDTH, HEIGHT = 64, 48


def ramp() -> np.ndarray:
    """Return a smooth picture (h, w, 3), as compression keeps it, not equal in any direction."""
    x, y = np.meshgrid(np.linspace(0, 1, WIDTH), np.linspace(0, 1, HEIGHT))
    return np.round(np.stack([40 + 180 * x, 30 + 200 * y, 220 - 150 * x * y], -1)).astype(np.uint8)


def read(path: Path) -> np.ndarray:
    (photo,), _ = open_photos([path])
    return load_photo(photo, long_side=WIDTH).pixels


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.jfif", "JPEG"),
        ("a.jpe", "JPEG"),
        ("a.avif", "AVIF"),
        ("a.jp2", "JPEG2000"),
        ("a.gif", "GIF"),
    ],
)
def test_further_formats_are_found_and_read(name: str, kind: str, tmp_path: Path) -> None:
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this build of Pillow does not know AVIF")
    Image.fromarray(ramp()).save(tmp_path / name, kind)
    (path,) = find_photos([tmp_path])
    assert np.abs(read(path).astype(int) - ramp()).mean() < 8


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_colours_of_few_bits_in_sixteen_are_not_dark(
    suffix: str, bits: int, tmp_path: Path
) -> None:
    deep = ramp().astype(np.uint16) << (bits - 8)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(cv2.imencode(suffix, deep[..., ::-1])[1].tobytes())
    assert np.abs(read(path).astype(int) - ramp()).max() <= 1


def test_smaller_copies_in_front_of_a_tiffs_picture_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    small, whole = Image.fromarray(ramp()[::4, ::4]), Image.fromarray(ramp())
    # NewSubfileType, its bit for a smaller version of another picture.
    whole.encoderinfo = {"tiffinfo": {254: 0}}  # type: ignore[attr-defined]
    small.save(path, tiffinfo={254: 1}, save_all=True, append_images=[whole])
    (photo,), _ = open_photos([path])
    assert (photo.width, photo.height) == (WIDTH, HEIGHT)
    assert np.array_equal(read(path), ramp())
    # A file of nothing else gives its first one.
    Image.fromarray(ramp()).save(path, tiffinfo={254: 1})
    assert np.array_equal(read(path), ramp())


def test_a_jpeg_that_was_copied_as_text_is_told(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (400, 600, 3), np.uint8)
    path = tmp_path / "a.jpg"
    Image.fromarray(noise).save(path, quality=90)
    assert len(open_photos([path])[0]) == 1
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    _, (rejected,) = open_photos([path])
    assert "line ends were changed" in rejected.reason


@pytest.mark.parametrize(
    ("compression", "big"), [(None, False), ("tiff_deflate", False), (None, True)]
)
@pytest.mark.parametrize("mode", ["1", "L"])
def test_a_mask_inside_a_tiff_is_a_mask(
    compression: str | None, big: bool, mode: str, tmp_path: Path
) -> None:
    keep = np.zeros((HEIGHT, WIDTH), bool)
    keep[:, WIDTH // 2 :] = True
    mask = Image.fromarray(keep) if mode == "1" else Image.fromarray(255 * keep.astype(np.uint8))
    path = tmp_path / "a.tif"
    # NewSubfileType and PhotometricInterpretation of a mask; a smaller version lies in between.
    pages = [Image.fromarray(ramp()[::2, ::2]), mask]
    pages[1].encoderinfo = {"tiffinfo": {254: 4, 262: 4}}  # type: ignore[attr-defined]
    more = {"save_all": True, "append_images": pages, "compression": compression}
    Image.fromarray(ramp()).save(path, big_tiff=big, **more)
    (photo,), _ = open_photos([path])
    loaded = load_photo(photo, long_side=WIDTH)
    assert loaded.usable is not None and np.array_equal(loaded.usable, keep)
    assert np.abs(loaded.pixels.astype(int) - ramp())[keep].max() <= 1
    # What follows the picture may be anything.
    data = bytearray(path.read_bytes())
    (first,) = struct.unpack_from("<Q" if big else "<I", data, 8 if big else 4)
    (entries,) = struct.unpack_from("<Q" if big else "<H", data, first)
    after = first + (8 + 20 * entries if big else 2 + 12 * entries)
    struct.pack_into("<Q" if big else "<I", data, after, len(data) - 3)
    path.write_bytes(data)
    (photo,), _ = open_photos([path])
    assert load_photo(photo, long_side=WIDTH).usable is None


def tiff_of(
    samples: bytes, bits: int, kind: int, channels: int = 3, more: dict[int, int] | None = None
) -> bytes:
    """Return a TIFF of ``ramp``'s size with SampleFormat ``kind``: 1 whole, 2 signed, 3 float."""
    values = {256: [WIDTH], 257: [HEIGHT], 258: [bits] * channels, 259: [1], 273: [0]}
    values |= {262: [2 if channels > 2 else 1], 277: [channels], 278: [HEIGHT]}
    values |= {279: [len(samples)], 284: [1], 339: [kind] * channels}
    values |= {tag: [value] for tag, value in (more or {}).items()}
    start = 10 + 12 * len(values) + 4
    values[273] = [start + 12 * channels]
    tags, lists = b"", b""
    for tag, numbers in sorted(values.items()):
        data = struct.pack(f"<{len(numbers)}H" if tag not in (273, 279) else "<I", *numbers)
        if len(data) > 4:
            lists, data = lists + data, struct.pack("<I", start + len(lists))
        form = 4 if tag in (273, 279) else 3
        tags += struct.pack("<HHI", tag, form, len(numbers)) + data.ljust(4, b"\0")
    head = b"II*\0" + struct.pack("<IH", 8, len(values))
    return head + tags + bytes(4) + lists.ljust(12 * channels, b"\0") + samples


def packed(values: np.ndarray, bits: int) -> bytes:
    """Return values (h, w, c) of so many bits, one after the other in each row."""
    ones = values.reshape(HEIGHT, -1, 1) >> np.arange(bits - 1, -1, -1) & 1
    return np.packbits(ones.reshape(HEIGHT, -1).astype(np.uint8), axis=1).tobytes()


LIGHT = ramp() / 255.0
WIDE_TIFFS = {
    "float16": ((LIGHT.astype("<f2").tobytes()), 16, 3),
    "float32": ((LIGHT.astype("<f4").tobytes()), 32, 3),
    "float64": ((LIGHT.astype("<f8").tobytes()), 64, 3),
    "int8": (np.round(127 * LIGHT).astype("i1").tobytes(), 8, 2),
    "int16": (np.round(32767 * LIGHT).astype("<i2").tobytes(), 16, 2),
    "uint32": (np.round((2**32 - 1) * LIGHT).astype("<u4").tobytes(), 32, 1),
    "10 bits": (packed(ramp().astype(int) << 2, 10), 10, 1),
    "12 bits": (packed(ramp().astype(int) << 4, 12), 12, 1),
    "14 bits": (packed(ramp().astype(int) << 6, 14), 14, 1),
}


@pytest.mark.parametrize("kind", WIDE_TIFFS)
def test_tiffs_of_wide_packed_and_signed_samples_are_read(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(tiff_of(*WIDE_TIFFS[kind]))
    assert np.abs(read(path).astype(int) - ramp()).max() <= (2 if kind == "int8" else 1)


@pytest.mark.parametrize("kind", ["float16", "float32", "int16", "uint32"])
def test_grey_of_wide_samples_is_neither_dark_nor_white(kind: str, tmp_path: Path) -> None:
    samples, bits, form = WIDE_TIFFS[kind]
    grey = np.frombuffer(samples, np.uint8).reshape(HEIGHT, WIDTH, 3, -1)[:, :, 1].tobytes()
    path = tmp_path / "a.tif"
    path.write_bytes(tiff_of(grey, bits, form, channels=1))
    assert np.abs(read(path)[..., 0].astype(int) - ramp()[..., 1]).max() <= 1
    light = 255 - read(path)[..., 0].astype(int)
    path.write_bytes(tiff_of(grey, bits, form, channels=1, more={262: 0}))  # 0 is white
    assert np.abs(read(path)[..., 0].astype(int) - light).max() <= 1


def test_a_float_tiff_keeps_what_it_says_of_its_camera(tmp_path: Path) -> None:
    path, exif = tmp_path / "a.tif", Image.Exif()
    exif[0x010F], exif[0x0112] = "Maker", 6
    exif.get_ifd(0x8769)[0xA405] = 35
    Image.fromarray(LIGHT[..., 1].astype(np.float32)).save(path, exif=exif.tobytes())
    (photo,), _ = open_photos([path])
    assert (photo.width, photo.height, photo.orientation) == (HEIGHT, WIDTH, 6)
    assert photo.turned and photo.camera_key.startswith("Maker|") and photo.exif_focal_px
    assert np.abs(np.rot90(read(path)[..., 0]).astype(int) - ramp()[..., 1]).max() <= 1


@pytest.mark.parametrize(
    "samples",
    [
        (20 + 20 * LIGHT).astype("<f4"),
        np.where(LIGHT < 0.5, np.nan, LIGHT).astype("<f4"),
        (ramp().astype(int) - 128).astype("<i2"),
    ],
    ids=["degrees", "no numbers", "below 0"],
)
def test_a_tiff_of_another_range_is_told(samples: np.ndarray, tmp_path: Path) -> None:
    kind = 3 if samples.dtype.kind == "f" else 2
    (tmp_path / "a.tif").write_bytes(tiff_of(samples.tobytes(), 8 * samples.itemsize, kind))
    _, (rejected,) = open_photos([tmp_path / "a.tif"])
    assert rejected.reason.startswith("pixels below 0 or") and "save it with" in rejected.reason


def test_a_wide_tiff_that_declares_too_much_is_refused_before_decoding(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(tiff_of(bytes(99), 32, 3, more={256: 65000, 257: 65000}))
    _, (rejected,) = open_photos([tmp_path / "a.tif"])
    assert "declares 65000x65000 pixels" in rejected.reason


@pytest.mark.parametrize("bits", [12, 16])
@pytest.mark.parametrize("order", ["<", ">"])
def test_colours_of_sixteen_bits_may_have_planes_of_their_own(
    order: str, bits: int, tmp_path: Path
) -> None:
    planes = (ramp().astype(np.uint16) << (bits - 8)).transpose(2, 0, 1).astype(f"{order}u2")
    each = planes[0].nbytes
    # BitsPerSample, StripOffsets and StripByteCounts have a value for each plane, after the tags.
    counts = {256: [WIDTH], 257: [HEIGHT], 258: [16] * 3, 259: [1], 262: [2], 273: [0, 1, 2]}
    counts |= {277: [3], 278: [HEIGHT], 279: [each] * 3, 284: [2]}
    start = 8 + 2 + 12 * len(counts) + 4
    counts[273] = [start + 36 + each * n for n in range(3)]
    tags, lists = b"", b""
    for tag, values in counts.items():
        data = struct.pack(f"{order}{len(values)}I", *values)
        if len(data) > 4:
            lists, data = lists + data, struct.pack(f"{order}I", start + len(lists))
        tags += struct.pack(f"{order}HHI", tag, 4, len(values)) + data
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(counts))
    path = tmp_path / "a.tif"
    path.write_bytes(head + tags + bytes(4) + lists + planes.tobytes())
    assert np.abs(read(path).astype(int) - ramp()).max() <= 1


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_a_tiff_that_counts_from_white_is_no_negative(
    compression: str | None, turned: bool, tmp_path: Path
) -> None:
    grey = ramp()[..., 0].astype(np.uint16) * 257
    path = tmp_path / "a.tif"
    tags = {0x0106: 0, 0x0112: 3 if turned else 1}
    Image.fromarray(65535 - grey).save(path, compression=compression, tiffinfo=tags)
    seen = read(path)[..., 0].astype(int)
    assert np.abs((seen[::-1, ::-1] if turned else seen) - ramp()[..., 0]).max() <= 1


def other_profile() -> bytes:
    """Return sRGB's profile under another name, red and green primaries exchanged."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    place = {
        bytes(data[at : at + 4]): at + 4
        for at in range(132, 132 + 12 * int.from_bytes(data[128:132], "big"), 12)
    }
    red, green = place[b"rXYZ"], place[b"gXYZ"]
    data[red : red + 8], data[green : green + 8] = data[green : green + 8], data[red : red + 8]
    return bytes(data).replace("sRGB".encode("utf-16-be"), "test".encode("utf-16-be"))


def test_colours_of_another_profile_become_srgb(tmp_path: Path) -> None:
    plain, tagged = tmp_path / "plain.png", tmp_path / "tagged.png"
    Image.fromarray(ramp()).save(plain)
    Image.fromarray(ramp()).save(tagged, icc_profile=other_profile())
    exchanged = read(plain)[..., [1, 0, 2]].astype(int)
    assert np.abs(read(tagged) - exchanged).max() <= 2
    # Damaged, or what pixels are without any.
    own = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for number, profile in enumerate((b"nothing", own, own[:200])):
        path = tmp_path / f"{number}.png"
        Image.fromarray(ramp()).save(path, icc_profile=profile)
        assert (read(path) == read(plain)).all()


def test_a_turned_tiff_is_upright_and_known_to_be_turned(tmp_path: Path) -> None:
    tags = Image.Exif()
    tags[0x0112] = 6
    stored = Image.fromarray(np.ascontiguousarray(np.rot90(ramp())))
    stored.save(tmp_path / "turned.tif", exif=tags)
    Image.fromarray(ramp()).save(tmp_path / "upright.tif")
    photos, _ = open_photos([tmp_path / "turned.tif", tmp_path / "upright.tif"])
    assert [(p.width, p.height, p.turned) for p in photos] == [
        (WIDTH, HEIGHT, True),
        (WIDTH, HEIGHT, False),
    ]
    assert (read(photos[0].path) == ramp()).all()


@pytest.fixture
def rawpy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A stand-in for rawpy, whose raw files are JPEGs."""

    class Raw:
        def __init__(self, file: io.BufferedReader) -> None:
            with Image.open(file) as picture:
                self.pixels = np.asarray(picture)
            self.sizes = types.SimpleNamespace(raw_width=WIDTH, raw_height=HEIGHT)

        def __enter__(self) -> Raw:
            return self

        def __exit__(self, *error: object) -> None:
            pass

        def postprocess(self, **_: object) -> np.ndarray:
            return self.pixels

    module = types.ModuleType("rawpy")
    module.imread, module.LibRawError = Raw, RuntimeError  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "rawpy", module)
    monkeypatch.setattr(raw_photos.importlib.util, "find_spec", lambda name: module)
    raw_photos.reads_raw.cache_clear()
    yield
    raw_photos.reads_raw.cache_clear()


@pytest.fixture
def no_rawpy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(raw_photos.importlib.util, "find_spec", lambda name: None)
    raw_photos.reads_raw.cache_clear()
    yield
    raw_photos.reads_raw.cache_clear()


@pytest.fixture
def raw_folder(tmp_path: Path) -> Path:
    for name in ("1.NEF", "2.NEF", "2.jpg"):
        Image.fromarray(ramp()).save(tmp_path / name, "JPEG", quality=95)
    return tmp_path


def test_camera_raw_is_developed_once(
    raw_folder: Path, rawpy: None, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        paths = find_photos([raw_folder])
    assert [path.name for path in paths] == ["1.NEF", "2.jpg"]
    assert caplog.messages == [
        "1 camera raw file is left out, beside photos of the same name: 2.NEF"
    ]
    assert np.abs(read(paths[0]).astype(int) - ramp()).mean() < 4


def test_camera_raw_without_a_developer_is_named(
    raw_folder: Path, no_rawpy: None, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert [path.name for path in find_photos([raw_folder])] == ["2.jpg"]
    assert caplog.messages == [
        "1 camera raw file is left out, beside photos of the same name: 2.NEF",
        "1 camera raw file is left out; pip install 'pointmap[raw]' reads such files: 1.NEF",
    ]
    _, (rejected,) = open_photos([raw_folder / "1.NEF"])
    assert "pointmap[raw]" in rejected.reason


def test_what_is_left_out_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Image.fromarray(ramp()).save(tmp_path / "IMG_1.jpg")
    for name in ("IMG_1.MOV", "IMG_1.AAE", "clip.mp4", "a.psd", "b.tga", "notes.txt", "c.json"):
        (tmp_path / name).touch()
    with caplog.at_level(logging.WARNING):
        assert [path.name for path in find_photos([tmp_path])] == ["IMG_1.jpg"]
    assert caplog.messages == [
        "1 film is left out, beside photos of the same name (Live Photos): IMG_1.MOV",
        "1 video is left out, as of a folder photos alone are taken; "
        "name videos to use their frames: clip.mp4",
        "2 pictures are left out, of a kind that is not read: a.psd, b.tga",
    ]


def test_a_live_photos_film_is_no_input_but_a_film_alone_is(tmp_path: Path) -> None:
    Image.fromarray(ramp()).save(tmp_path / "IMG_1.jpg")
    for name in ("IMG_1.MOV", "IMG_2.MOV"):
        (tmp_path / name).touch()
    # As a shell hands on photos/*.
    given = sorted(tmp_path.iterdir())
    assert find_videos(given) == [tmp_path / "IMG_2.MOV"]
    assert find_photos(given[:2]) == [tmp_path / "IMG_1.jpg"]


def test_subfolders_are_looked_into_when_that_is_asked_for(tmp_path: Path) -> None:
    # Also of folders that systems keep, unless they are named.
    copies = ("a/@eaDir/9.jpg/SYNOPHOTO_THUMB_M.jpg", "__MACOSX/0.jpg", "#recycle/3.jpg")
    for name in ("b/2.jpg", "a/10.jpg", "a/9.jpg", "0.jpg", ".hidden/1.jpg", *copies):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(ramp()).save(tmp_path / name)
    assert find_photos([tmp_path]) == [tmp_path / "0.jpg"]
    found = find_photos([tmp_path], recursive=True)
    assert [path.relative_to(tmp_path).as_posix() for path in found] == [
        "0.jpg",
        "a/9.jpg",
        "a/10.jpg",
        "b/2.jpg",
    ]
    assert len(find_photos([tmp_path / "#recycle"], recursive=True)) == 1


def test_colours_said_to_be_adobe_rgb_by_exif_alone_become_srgb(tmp_path: Path) -> None:
    said, other, tagged = (Image.Exif() for _ in range(3))
    for tags, index in ((said, "R03"), (other, "R98")):
        tags.get_ifd(0x8769)[0xA001] = 0xFFFF
        tags.get_ifd(0x8769)[0xA005] = {1: index}
    for name, tags in (("said", said), ("other", other), ("none", tagged)):
        Image.fromarray(ramp()).save(tmp_path / f"{name}.jpg", quality=98, subsampling=0, exif=tags)
    # The definitions of the two spaces; white points are the same.
    to_xyz = np.array(
        [[0.57667, 0.18556, 0.18823], [0.29734, 0.62736, 0.07529], [0.02703, 0.07069, 0.99134]]
    )
    from_xyz = np.array(
        [[3.2406, -1.5372, -0.4986], [-0.9689, 1.8758, 0.0415], [0.0557, -0.2040, 1.0570]]
    )
    plain = read(tmp_path / "none.jpg")
    linear = np.clip((plain / 255.0) ** 2.19921875 @ to_xyz.T @ from_xyz.T, 0, 1)
    encoded = np.where(linear < 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    assert np.abs(read(tmp_path / "said.jpg") - 255 * encoded).max() < 3
    assert (read(tmp_path / "other.jpg") == plain).all()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\xff\x0a" + bytes(range(99)), "JPEG XL"),
        (b"8BPS\0\1" + bytes(range(99)), "Photoshop"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(range(99)), "a film"),
        (b"\x1a\x45\xdf\xa3" + bytes(range(99)), "a film"),
        (b"RIFF\0\0\0\0AVI LIST" + bytes(range(99)), "a film"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\n", "git lfs pull"),
        (b"\n<!DOCTYPE html><html>403</html>", "a web page"),
        ("404: não há".encode() * 9000, "other text"),
        (bytes(5000), "nothing but zeros"),
        (cv2.imencode(".tif", ramp().astype(np.float32))[1].tobytes(), "pixels below 0 or"),
        (b"II*\0\x08\0\0\0\xff\xff", "not a picture"),
    ],
)
def test_what_is_no_photo_is_told_by_its_content(
    content: bytes, words: str, tmp_path: Path
) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    photos, (rejected,) = open_photos([tmp_path / "a.jpg"])
    assert not photos and words in rejected.reason
