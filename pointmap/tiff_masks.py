"""Masks inside a TIFF, beside its picture (TIFF 6.0, page 36: NewSubfileType), as those of GDAL.

Pillow opens no picture of that kind: it is handed the same file with the mask in the first place,
called a grey picture.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# NewSubfileType with its bit for masks, ImageWidth and ImageLength, PhotometricInterpretation.
_KIND, _IS_MASK, _WIDTH, _HEIGHT, _PHOTOMETRIC = 254, 4, 256, 257, 262
_MASK, _BLACK_IS_ZERO = 4, 1
_NUMBERS = {3: "H", 4: "I", 16: "Q"}
# Smaller versions of a picture, and their masks, may follow.
_MOST_PICTURES = 32


def mask_inside(file: IO[bytes]) -> NDArray[np.bool_] | None:
    """Return which pixels (h, w) of a TIFF's first picture its own mask keeps, as they are stored.

    None where the file holds no mask of the picture's size, or none that can be read.
    """
    file.seek(0)
    try:
        return _mask(file)
    except Exception:  # what follows a good picture may be anything
        return None
    finally:
        file.seek(0)


@dataclass(frozen=True)
class _Layout:
    """Where the numbers of a TIFF stand: in ``struct``'s letters and bytes."""

    order: str
    first: int
    count: str
    entry: int
    value: int
    place: str


# By version: TIFF 6.0, page 13, and BigTIFF, whose places in the file have 8 bytes.
_LAYOUTS = {42: (4, "H", 12, 8, "I"), 43: (8, "Q", 20, 12, "Q")}


def _mask(file: IO[bytes]) -> NDArray[np.bool_] | None:
    head = file.read(16)
    order = "<" if head[:2] == b"II" else ">"
    (version,) = struct.unpack_from(f"{order}H", head, 2)
    layout = _Layout(order, *_LAYOUTS[version])
    (place,) = struct.unpack_from(f"{order}{layout.place}", head, layout.first)
    size = None
    for _ in range(_MOST_PICTURES):
        if not place:
            return None
        tags, following = _directory(file, place, layout)
        own = tuple(tags[tag][0] for tag in (_WIDTH, _HEIGHT))
        size = size or own
        if own == size and tags.get(_KIND, (0, 0))[0] & _IS_MASK:
            break
        place = following
    else:
        return None
    photometric, at = tags[_PHOTOMETRIC]
    file.seek(0)
    data = bytearray(file.read())
    struct.pack_into(f"{order}{layout.place}", data, layout.first, place)
    if photometric == _MASK:
        struct.pack_into(f"{order}H", data, at, _BLACK_IS_ZERO)
    with Image.open(io.BytesIO(data), formats=("TIFF",)) as image:  # noqa: TID251
        return np.asarray(image) > 0


def _directory(
    file: IO[bytes], place: int, layout: _Layout
) -> tuple[dict[int, tuple[int, int]], int]:
    """Return {tag: its number, and where that stands in the file} of a picture, and where the next
    picture's tags are; of tags that are one number.
    """
    file.seek(place)
    first = place + struct.calcsize(layout.count)
    (entries,) = struct.unpack(f"{layout.order}{layout.count}", file.read(first - place))
    end = layout.entry * entries
    data = file.read(end + struct.calcsize(layout.place))
    tags = {}
    for at in range(0, end, layout.entry):
        form = f"{layout.order}HH{layout.place}"
        tag, kind, length = struct.unpack_from(form, data, at)
        if length == 1 and kind in _NUMBERS:
            value = at + layout.value
            (number,) = struct.unpack_from(f"{layout.order}{_NUMBERS[kind]}", data, value)
            tags[tag] = number, first + value
    return tags, struct.unpack_from(f"{layout.order}{layout.place}", data, end)[0]
