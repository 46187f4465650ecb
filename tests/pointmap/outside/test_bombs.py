"""Pictures that would take all memory or minutes to decode: refused by what their header says."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pointmap.images import load_photo, open_photos

# 16383 x 15259 black pixels in 34 bytes.
WEBP = bytes.fromhex("524946461a000000574542505650384c0e0000002ffebfe60e071011fd0f4444ff03")


def picture() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def jpeg(**options: object) -> bytes:
    stream = io.BytesIO()
    picture().save(stream, "JPEG", **options)
    return stream.getvalue()


def png(width: int, height: int, colour: int) -> bytes:
    """A PNG that claims a size and breaks off after its header."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    head = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk
    return head + struct.pack(">I", zlib.crc32(chunk)) + b"\0\0\0\x64IDAT" + bytes(104)


def with_scans(content: bytes, times: int) -> bytes:
    """Repeat the last scan of a progressive JPEG, which changes nothing that is seen."""
    start = content.rindex(b"\xff\xda")
    return content[:start] + content[start:-2] * times + b"\xff\xd9"


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.webp", WEBP, "declares 16383x15259 pixels; the limit is 74 megapixels"),
        ("a.png", png(12_000, 12_000, 6), "limit is 143"),
        ("a.png", png(10**6, 10**6, 2), "limit is 250"),
        ("a.jpg", with_scans(jpeg(progressive=True), 1000), "made of 101 scans"),
    ],
)
def test_bombs_are_refused_before_they_are_decoded(
    tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    (tmp_path / name).write_bytes(content)
    usable, rejected = open_photos([tmp_path / name])
    assert not usable and reason in rejected[0].reason


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 1},
                                     {"exif": b"Exif\0\0" + b"\xff\xda" * 300}])  # fmt: skip
def test_usual_jpegs_are_read_whatever_their_segments_hold(tmp_path: Path, options: dict) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg(**options) + b"\xff\xda" * 300)
    (photo,), _ = open_photos([tmp_path / "a.jpg"])
    assert load_photo(photo, long_side=64).pixels.shape == (64, 64, 3)
