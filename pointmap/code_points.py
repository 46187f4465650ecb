"""Which colours a picture's levels stand for, by its coding-independent code points (ITU-T H.273).

They are two numbers of that standard's tables: of the primaries and of the transfer function. HEIF
has them in a box ``colr`` of type ``nclx`` (ISO/IEC 23008-12), AVIF likewise, PNG in a chunk
``cICP`` (PNG, third edition, 11.3.2.6). Pillow reads neither of AVIF nor of PNG.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import IO

from PIL import Image

CodePoints = tuple[int, int]
"""Numbers of primaries and transfer function."""

_PNG_SIGNATURE = 8
_BOX_VERSION = 4  # bytes of version and flags, before what a full box holds
# What describes a picture stands before its data, in less than this.
_LOOKED_AT = 2**20


def code_points(image: Image.Image, file: IO[bytes]) -> CodePoints | None:
    """Return the code points of an opened picture, whose ``file`` is left where it was; None where
    it has none, or an ICC profile counts before them, as in all formats but PNG.
    """
    if image.format == "HEIF":
        coded = image.info.get("nclx_profile") or {}
        found = coded.get("color_primaries"), coded.get("transfer_characteristics")
    elif image.format in ("AVIF", "PNG"):
        at = file.tell()
        file.seek(0)
        start = file.read(_LOOKED_AT)
        file.seek(at)
        found = (_of_png if image.format == "PNG" else _of_avif)(start)
    else:
        return None
    if found[0] is None or found[1] is None:
        return None
    if image.format != "PNG" and image.info.get("icc_profile"):
        return None
    return int(found[0]), int(found[1])


def _of_png(data: bytes) -> tuple[int | None, int | None]:
    at = _PNG_SIGNATURE
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"cICP" and size == 4 and at + 12 <= len(data):
            return data[at + 8], data[at + 9]
        if kind == b"IDAT":
            break
        at += 12 + size
    return None, None


def _of_avif(data: bytes) -> tuple[int | None, int | None]:
    for meta in _boxes(data, b"meta"):
        for properties in _boxes(meta[_BOX_VERSION:], b"iprp"):
            for container in _boxes(properties, b"ipco"):
                # That of the picture stands before those of its gain map and the like.
                for colours in _boxes(container, b"colr"):
                    if colours[:4] == b"nclx" and len(colours) >= 8:
                        primaries, transfer = struct.unpack_from(">HH", colours, 4)
                        return primaries, transfer
    return None, None


def _boxes(data: bytes, wanted: bytes) -> Iterator[bytes]:
    """Yield what the boxes of one kind hold (ISO/IEC 14496-12, 4.2)."""
    at = 0
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        if size < 8:  # of 64 bits, or up to the end of the file: the data
            return
        if kind == wanted:
            yield data[at + 8 : at + size]
        at += size
