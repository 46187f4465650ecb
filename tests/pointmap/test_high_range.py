from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import av
import numpy as np
import pillow_heif
import pytest
from av.video.reformatter import Colorspace
from numpy.typing import NDArray
from PIL import Image

from pointmap.camera import Array
from pointmap.high_range import BT2020, DISPLAY_P3, HLG, PQ, as_srgb
from pointmap.images import load_photo, open_photos
from pointmap.video.decoder import decoded_frames


def srgb(light: Array) -> Array:
    """Levels of linear light, 0 to 1 (IEC 61966-2-1)."""
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def patches() -> NDArray[np.uint8]:
    """Colours (96, 160, 3) that sRGB holds, none of them so bright that it would be compressed."""
    rng = np.random.default_rng(0)
    return rng.integers(30, 150, (3, 5, 3), np.uint8).repeat(32, axis=0).repeat(32, axis=1)


def coded(levels: NDArray[np.uint8], transfer: int) -> NDArray[np.uint16]:
    """The same colours (h, w, 3) as a camera stores them whose white is at 203 cd/m2, 16 bits."""
    v = levels / 255
    light = np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)
    # Of BT.2087-0.
    to_2020 = [[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]]
    light = 203 * light @ np.transpose(to_2020)
    if transfer == PQ:
        y = (light / 10000) ** 0.1593017578125
        signal = ((0.8359375 + 18.8515625 * y) / (1 + 18.6875 * y)) ** 78.84375
    else:
        luminance = light @ [0.2627, 0.6780, 0.0593] / 1000
        scene = light / 1000 * luminance[..., None] ** (1 / 1.2 - 1)
        logarithm = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
        signal = np.where(scene <= 1 / 12, np.sqrt(3 * scene), logarithm)
    return np.round(65535 * signal).astype(np.uint16)


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_colours_below_white_come_out_as_they_are(transfer: int) -> None:
    found = as_srgb(coded(patches(), transfer), transfer, BT2020)
    assert np.abs(found.astype(int) - patches()).max() <= 1


def test_greys_are_where_broadcasters_put_them() -> None:
    # BT.2408-7, table 1: a grey card is at 26 cd/m2, 38 % of either signal.
    grey = np.full((1, 1, 3), round(0.38 * 65535), np.uint16)
    expected = srgb(np.array(26 / 203))
    for transfer in (PQ, HLG):
        assert np.abs(as_srgb(grey, transfer, BT2020) - expected).max() < 3


@pytest.mark.parametrize(("transfer", "white"), [(PQ, 0.58), (HLG, 0.75)])
def test_what_is_brighter_than_white_is_still_told_apart(transfer: int, white: float) -> None:
    signal = np.linspace(0, 1, 1001)
    ramp = np.round(65535 * signal)[None, :, None].repeat(3, axis=2).astype(np.uint16)
    levels = as_srgb(ramp, transfer, BT2020)[0].astype(int)
    assert np.ptp(levels, axis=1).max() <= 1
    assert (np.diff(levels[:, 0]) >= 0).all() and levels[0, 0] == 0 and levels[-1, 0] == 255
    assert 215 < levels[round(1000 * white), 0] < 240


def write_film(path: Path, deep: NDArray[np.uint16], transfer: int) -> None:
    """Write the picture six times, in 10 bits, as telephones do."""
    with av.open(str(path), "w") as film:
        stream = film.add_stream("libx265", 30, {"x265-params": "log-level=none", "crf": "4"})
        stream.height, stream.width = deep.shape[:2]
        stream.pix_fmt = "yuv420p10le"
        context = stream.codec_context
        context.color_trc, context.color_primaries, context.colorspace = transfer, BT2020, 9
        rgb = av.VideoFrame.from_ndarray(deep, format="rgb48le")
        for time in range(6):
            frame = rgb.reformat(format="yuv420p10le", dst_colorspace=Colorspace.BT2020)
            frame.pts = time
            film.mux(stream.encode(frame))
        film.mux(stream.encode())


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_a_film_of_high_range_is_not_flat(transfer: int, tmp_path: Path) -> None:
    write_film(tmp_path / "a.mp4", coded(patches(), transfer), transfer)
    for frame in decoded_frames(tmp_path / "a.mp4"):
        off = np.abs(frame.upright().astype(int) - patches())
        assert np.median(off) <= 2 and off.mean() < 4


def save_coded(path: Path, levels: NDArray[np.integer], primaries: int, transfer: int) -> None:
    """Write a picture with code points as its format has them; 16 bits but in AVIF."""
    if path.suffix == ".heic":
        height, width = levels.shape[:2]
        photo = pillow_heif.from_bytes("RGB;16", (width, height), levels.tobytes())
        how = {"color_primaries": primaries, "matrix_coefficients": 9, "chroma": 444}
        photo.save(path, quality=100, transfer_characteristics=transfer, **how)
        return
    content = io.BytesIO()
    if path.suffix == ".avif":
        shown = Image.fromarray((levels >> 8).astype(np.uint8))
        shown.save(content, "AVIF", quality=100, subsampling="4:4:4")
        data = bytearray(content.getvalue())
        struct.pack_into(">HH", data, data.index(b"colrnclx") + 8, primaries, transfer)
    else:
        header = struct.pack(">IIBBBBB", levels.shape[1], levels.shape[0], 16, 2, 0, 0, 0)
        rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in levels)
        chunks = (b"IHDR", header), (b"cICP", bytes([primaries, transfer, 0, 1]))
        data = bytearray(b"\x89PNG\r\n\x1a\n")
        for kind, held in (*chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
            data += struct.pack(">I", len(held)) + kind + held
            data += struct.pack(">I", zlib.crc32(kind + held))
    path.write_bytes(data)


@pytest.mark.parametrize("transfer", [PQ, HLG])
@pytest.mark.parametrize("ending", ["heic", "avif", "png"])
def test_a_photo_of_high_range_is_not_flat(ending: str, transfer: int, tmp_path: Path) -> None:
    save_coded(tmp_path / f"a.{ending}", coded(patches(), transfer), BT2020, transfer)
    (opened,), _ = open_photos([tmp_path / f"a.{ending}"])
    pixels = load_photo(opened, long_side=160).pixels
    # PQ has few of 8 bits for what is dark.
    assert np.abs(pixels.astype(int) - patches()).mean() < 5


@pytest.mark.parametrize("ending", ["heic", "avif", "png"])
def test_a_photo_of_a_wide_gamut_without_a_profile_is_not_dull(ending: str, tmp_path: Path) -> None:
    light = np.where(
        patches() <= 10, patches() / 3294.6, ((patches() / 255 + 0.055) / 1.055) ** 2.4
    )
    # Display P3 holds all of sRGB (SMPTE EG 432-1).
    light = light @ np.transpose(
        [[0.8225, 0.1774, 0], [0.0332, 0.9669, 0], [0.0171, 0.0724, 0.9108]]
    )
    levels = np.round(257 * srgb(light)).astype(np.uint16)
    save_coded(tmp_path / f"a.{ending}", levels, DISPLAY_P3, 13)
    (opened,), _ = open_photos([tmp_path / f"a.{ending}"])
    pixels = load_photo(opened, long_side=160).pixels.astype(int)
    assert np.abs(pixels - patches()).mean() < 1.5
    assert np.abs((levels >> 8).astype(int) - patches()).mean() > 3
