"""Files of other kinds under a picture's name: refused in one line, and no program is started.

Pillow goes by content, knows some forty formats, and hands one of them, EPS, to Ghostscript.
"""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

from pointmap.decoding import PHOTO_FORMATS
from pointmap.errors import InputError
from pointmap.images import Photo, load_photo, open_photos
from pointmap.training.scenes.textures import read_photographs
from recon.evaluation.depth_files import read_depth_file
from recon.evaluation.depth_folder import given_depths
from recon.prediction.given_maps import read_prior_maps

# Pillow will drop IM in its version 15.
pytestmark = pytest.mark.filterwarnings("ignore:IM image format:DeprecationWarning")

ROOT = Path(__file__).resolve().parents[2]
WIDTH, HEIGHT = 40, 32
# Grey, and different from pixel to pixel: a reader that decoded it would take it for a depth map.
GREY = np.arange(WIDTH * HEIGHT, dtype=np.uint16).reshape(HEIGHT, WIDTH).astype(np.uint8)
DATA = GREY.tobytes()
WITHOUT_GREY = {"AVIF": "RGB", "BLP": "P", "DDS": "RGB", "MSP": "1", "QOI": "RGB", "XBM": "1"}


def saved(kind: str) -> bytes:
    """Return the grey picture as Pillow writes it."""
    packed = io.BytesIO()
    Image.fromarray(GREY).convert(WITHOUT_GREY.get(kind, "L")).save(packed, kind)
    return packed.getvalue()


def fits() -> bytes:
    fields = {"SIMPLE": "T", "BITPIX": 8, "NAXIS": 2, "NAXIS1": WIDTH, "NAXIS2": HEIGHT}
    cards = [f"{name:8}= {value}".ljust(80) for name, value in fields.items()]
    return "".join([*cards, "END".ljust(80)]).ljust(2880).encode() + DATA


def fli() -> bytes:
    header = bytearray(128)
    struct.pack_into("<IHHHHHH", header, 0, 128, 0xAF11, 1, WIDTH, HEIGHT, 8, 3)
    return bytes(header) + struct.pack("<IHH8x", 16, 0xF1FA, 0)


def iptc() -> bytes:
    fields = [(3, 60, b"\1\0"), (3, 20, b"\0\x28"), (3, 30, b"\0\x20"), (3, 120, b"\1")]
    packed = [struct.pack(">BBBH", 0x1C, a, b, len(data)) + data for a, b, data in fields]
    return b"".join(packed) + struct.pack(">BBBH", 0x1C, 8, 10, len(DATA)) + DATA


def pixar() -> bytes:
    header = bytearray(1024)
    header[:4] = b"\200\350\0\0"
    struct.pack_into("<HH", header, 416, HEIGHT, WIDTH)
    struct.pack_into("<HH", header, 424, 14, 2)
    return bytes(header) + 3 * DATA


def mcidas() -> bytes:
    words = [0] * 64
    words[1], words[8], words[9], words[10], words[13], words[33] = 4, HEIGHT, WIDTH, 1, 1, 256
    return struct.pack(">64i", *words) + DATA


def xpm() -> bytes:
    rows = [f'"{WIDTH} {HEIGHT} 2 1",', '". c #000000",', '"x c #ffffff",']
    rows += [f'"{".x" * (WIDTH // 2)}",'] * HEIGHT
    return "\n".join(["/* XPM */", "static char *p[] = {", *rows, "};"]).encode()


SAVED = (
    *("AVIF", "BLP", "BMP", "DDS", "DIB", "EPS", "GIF", "ICNS", "ICO", "IM", "JPEG", "JPEG2000"),
    *("MSP", "PCX", "PNG", "PPM", "QOI", "SGI", "SPIDER", "TGA", "TIFF", "WEBP", "XBM"),
)
MADE: dict[str, Callable[[], bytes]] = {
    "BUFR": lambda: b"BUFR" + bytes(64),
    "CUR": lambda: struct.pack("<HHH4B2HII", 0, 2, 1, 40, 32, 0, 0, 0, 0, 0, 22) + saved("DIB"),
    "DCX": lambda: struct.pack("<III", 0x3ADE68B1, 12, 0) + saved("PCX"),
    "FITS": fits,
    "FLI": fli,
    "FTEX": lambda: b"FTEX" + struct.pack("<8i", 0, WIDTH, HEIGHT, 1, 1, 1, 36, 9) + 3 * DATA,
    "GBR": lambda: struct.pack(">5I4sI", 29, 2, WIDTH, HEIGHT, 1, b"GIMP", 9) + b"\0" + DATA,
    "GRIB": lambda: b"GRIB\0\0\0\1" + bytes(64),
    "HDF5": lambda: b"\x89HDF\r\n\x1a\n" + bytes(64),
    "IMT": lambda: f"width {WIDTH}\nheight {HEIGHT}\npixel n8\n\x0c".encode() + DATA,
    "IPTC": iptc,
    "MCIDAS": mcidas,
    "MPEG": lambda: b"\0\0\1\xb3" + bytes([0x02, 0x80, 0x20]) + bytes(64),
    "PCD": lambda: bytes(2048) + b"PCD_" + bytes(4096),
    "PIXAR": pixar,
    "PSD": lambda: b"8BPS" + struct.pack(">H6xH2I2H14x", 1, 1, HEIGHT, WIDTH, 8, 1) + DATA,
    "SUN": lambda: struct.pack(">8I", 0x59A66A95, WIDTH, HEIGHT, 8, len(DATA), 1, 0, 0) + DATA,
    "WMF": lambda: (
        b"\xd7\xcd\xc6\x9a\0\0"
        + struct.pack("<4hH6x", 0, 0, WIDTH, HEIGHT, 72)
        + b"\1\0\t\0"
        + bytes(64)
    ),
    "XPM": xpm,
    "XVTHUMB": lambda: f"P7 332\n#END\n{WIDTH} {HEIGHT} 255\n".encode() + DATA,
}
# What Pillow does not read, or only with another package.
DOCUMENTS: dict[str, Callable[[], bytes]] = {
    "PDF": lambda: saved("PDF"),
    "OLE": lambda: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(512),  # MIC, FPX
    "SVG": lambda: b'<svg xmlns="http://www.w3.org/2000/svg" width="40" height="32"/>',
}
KINDS = (*SAVED, *MADE)


def content(kind: str) -> bytes:
    """Return a file of this kind; skips where Pillow is built without it."""
    if kind in DOCUMENTS:
        return DOCUMENTS[kind]()
    Image.init()
    if kind not in Image.ID or (kind in SAVED and kind not in Image.SAVE):
        pytest.skip(f"this build of Pillow does not know {kind}")
    return MADE[kind]() if kind in MADE else saved(kind)


def as_photo(path: Path) -> None:
    photos, rejected = open_photos([path])
    assert not photos and [r.path for r in rejected] == [path]
    load_photo(Photo(path, path.name, WIDTH, HEIGHT, None, ""), long_side=WIDTH)


def as_prior_map(path: Path) -> None:
    photo = Photo(path.with_suffix(".jpg"), "a.jpg", WIDTH, HEIGHT, None, "")
    read_prior_maps(path.parent, [photo])


def as_photo_for_plots(path: Path) -> None:
    for folder in ("truth", "predicted"):
        (path.parent / folder).mkdir()
        Image.fromarray(GREY.astype(np.uint16)).save(path.parent / folder / "a.png")
    (path.parent / "truth/images").mkdir()
    path.rename(path.parent / "truth/images/a.png")
    given_depths(path.parent / "truth", path.parent / "predicted", unit=0.001)


READERS: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "photo": (as_photo, PHOTO_FORMATS),
    "photo for plots": (as_photo_for_plots, PHOTO_FORMATS),
    "prior map": (as_prior_map, ("PNG",)),
    "depth file": (lambda path: read_depth_file(path, unit=1), ("PNG",)),
    "texture": (lambda path: read_photographs(path.parent), ("JPEG", "PNG")),
}


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Programs that were started, none of which really is."""
    calls: list[object] = []

    def record(*arguments: object, **_: object) -> None:
        calls.append(arguments)
        raise OSError("no program is started in tests")

    monkeypatch.setattr(subprocess, "Popen", record)
    for name in ("system", "posix_spawn", "fork"):
        monkeypatch.setattr(os, name, record, raising=False)
    # Pillow remembers for the whole process whether there is a Ghostscript.
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    return calls


@pytest.mark.parametrize("kind", KINDS)
def test_pillow_itself_takes_the_file_for_what_it_is(kind: str) -> None:
    """Else its refusal below would say nothing."""
    with Image.open(io.BytesIO(content(kind))) as image:
        assert image.format is not None and image.format.upper() == kind


@pytest.mark.parametrize(
    ("reader", "kind"),
    [
        (reader, kind)
        for reader, (_, formats) in READERS.items()
        for kind in (*KINDS, *DOCUMENTS)
        if kind not in formats
    ],
)
def test_another_format_under_a_pictures_name_is_refused(
    reader: str, kind: str, tmp_path: Path, started: list[object]
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(content(kind))
    with pytest.raises(InputError) as caught:
        READERS[reader][0](path)
    assert started == []
    said = str(caught.value)
    assert "a.png" in said
    told = "picture, or its header is damaged", "is not read", "or other text"
    assert any(words in said for words in told)
    assert "\n" not in said


@pytest.mark.parametrize("reader", READERS)
def test_a_size_beyond_the_limit_is_refused_before_decoding(reader: str, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    packed = bytearray(saved("PNG"))
    packed[16:24] = struct.pack(">II", 50000, 40000)
    packed[29:33] = struct.pack(">I", zlib.crc32(packed[12:29]))
    path.write_bytes(packed)
    with pytest.raises(InputError, match=r"a\.png.*declares 50000x40000 pixels"):
        READERS[reader][0](path)


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script stands in for Ghostscript")
def test_the_command_starts_no_ghostscript_for_a_prior_map(tmp_path: Path) -> None:
    photos, maps, programs = (tmp_path / name for name in ("photos", "maps", "programs"))
    for folder in (photos, maps, programs):
        folder.mkdir()
    Image.fromarray(GREY).save(photos / "a.jpg")
    (maps / "a.png").write_bytes(saved("EPS"))
    marker, ghostscript = tmp_path / "started", programs / "gs"
    ghostscript.write_text(f"#!/bin/sh\ntouch '{marker}'\nexit 1\n")
    ghostscript.chmod(0o755)
    command = ["run_recon.py", str(photos), "--prior-depth", str(maps)]
    done = subprocess.run(
        [sys.executable, *command, "--out", str(tmp_path / "out")],
        cwd=ROOT,
        env={**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    assert not marker.exists()
    assert done.returncode == 2, done.stderr
    assert "a.png cannot be read (not a PNG picture, or its header is damaged)" in done.stderr
    assert "Traceback" not in done.stderr
