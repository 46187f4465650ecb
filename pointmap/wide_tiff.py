"""TIFFs of samples that Pillow does not read, or cuts short: floats, signed ones, those of 32 bits,
colours of 10 to 14 bits packed (TIFF 6.0, pages 29 and 80). OpenCV's decoder knows them.
"""

from __future__ import annotations

import struct
import warnings
from collections.abc import Mapping
from contextlib import suppress
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from pointmap.errors import UnusablePicture

_CLASSIC = (b"II*\0", b"MM\0*")
_MAKE, _MODEL, _ORIENTATION, _EXIF_IFD, _PROFILE = 271, 272, 274, 0x8769, 34675
_WIDTH, _HEIGHT, _BITS, _PHOTOMETRIC, _CHANNELS, _PREDICTOR = 256, 257, 258, 262, 277, 317
_COMPRESSION = 259
_FORMAT, _SIGNED, _FLOAT, _WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB = 339, 2, 3, 0, 1, 2
# Tags from here on are anybody's own (TIFF 6.0, page 8).
_UNKNOWN = 65000
_PACKED, _PILLOWS_BITS, _HALF_BITS = {10, 12, 14}, 16, 16
# None, or differences of whole samples; those of a float's bytes are another matter.
_PREDICTORS = (1, 2)
# What numbers from a sensor fill of wider ones; signed ones lack a bit.
_FILLED_BITS = (7, 8, 10, 12, 14, 15, 16, 31, 32, 63, 64)
# Highlights beyond white are common; heights or temperatures are not within black and white.
_WITHIN = 0.9
# In the file and as OpenCV gives it; as bytes, with what one channel takes meanwhile.
_TIMES_HELD, _BYTES_BESIDE = 2, 16


def wide_tiff_tags(file: IO[bytes]) -> Mapping[int, Any] | None:
    """Return the tags of a TIFF whose samples Pillow does not read as they are; None for any other
    file.
    """
    try:
        tags = first_tags(file)
        bits, kinds = max(tags[_BITS]), set(tags.get(_FORMAT, ()))
        packed = bits in _PACKED and int(tags.get(_CHANNELS, 1)) > 1
    except Exception:  # no TIFF, or its tags are damaged: Pillow raises anything
        return None
    finally:
        file.seek(0)
    wide = packed or bits > _PILLOWS_BITS or not kinds.isdisjoint({_SIGNED, _FLOAT})
    return tags if wide else None


def read_wide_tiff(file: IO[bytes], tags: Mapping[int, Any], max_bytes: float) -> Image.Image:
    """Return the first picture (mode "L", "RGB" or "RGBA") of a TIFF with such ``tags``, as it is
    stored, with its profile and EXIF.

    Floats count from 0, black, to 1, white. Raises ``UnusablePicture`` for numbers of another
    range, for one that takes more than ``max_bytes``, and where OpenCV does not know it, either.
    """
    width, height, channels = int(tags[_WIDTH]), int(tags[_HEIGHT]), int(tags.get(_CHANNELS, 1))
    each = channels * (_TIMES_HELD * max(tags[_BITS]) / 8 + 1) + _BYTES_BESIDE
    if width * height * each > max_bytes:
        raise UnusablePicture(
            f"declares {width}x{height} pixels; the limit is {max_bytes / each / 1e6:.0f} "
            "megapixels"
        )
    half = max(tags[_BITS]) == _HALF_BITS and _FLOAT in tags.get(_FORMAT, ())
    known = not half or tags.get(_PREDICTOR, 1) in _PREDICTORS
    stored = None
    if known and tags[_PHOTOMETRIC] in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB):
        file.seek(0)
        # OpenCV turns what is said to be turned, and knows no floats of 16 bits.
        unwanted = {_ORIENTATION, _FORMAT} if half else {_ORIENTATION}
        stored = _decoded(_without(bytearray(file.read()), unwanted))
    if stored is None or stored.shape[:2] != (height, width):
        raise unread_tiff(tags)
    light = _lightness(stored.view(np.float16) if half else stored)
    if tags[_PHOTOMETRIC] == _WHITE_IS_ZERO:
        light = 255 - light
    image = Image.fromarray(light)
    image.format = "TIFF"
    image.info["exif"] = _exif(file, tags)
    if isinstance(profile := tags.get(_PROFILE), bytes):
        image.info["icc_profile"] = profile
    return image


def unread_tiff(tags: Mapping[int, Any]) -> UnusablePicture:
    """Return what says that a TIFF of these tags is of a kind that no decoder here knows."""
    bits = tags[_BITS]
    return UnusablePicture(
        f"a TIFF of a kind that is not read ({len(bits)} channels of {max(bits)} bits, compression "
        f"{tags.get(_COMPRESSION, 1)}); save it with 8 or 16 bits per channel, uncompressed or LZW"
    )


def first_tags(file: IO[bytes]) -> Mapping[int, Any]:
    """Return the tags of a TIFF's first picture; raises anything for other and damaged files."""
    return _directory(file)


def _exif(file: IO[bytes], tags: Mapping[int, Any]) -> bytes:
    """Return what a TIFF of these tags says of its camera, as EXIF."""
    exif = Image.Exif()
    exif.update({tag: tags[tag] for tag in (_MAKE, _MODEL, _ORIENTATION) if tag in tags})
    said = exif.tobytes()
    with suppress(Exception):  # damaged EXIF is the same as none
        exif.get_ifd(_EXIF_IFD).update(_directory(file, int(tags[_EXIF_IFD])))
        said = exif.tobytes()
    return said


def _directory(file: IO[bytes], place: int | None = None) -> Mapping[int, Any]:
    """Return the tags that stand at a place of a TIFF, by default those of its first picture."""
    file.seek(0)
    head = file.read(8)
    if head[:4] not in _CLASSIC:
        head += file.read(8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tags = TiffImagePlugin.ImageFileDirectory_v2(head)
        file.seek(tags.next if place is None else place)
        tags.load(file)
    return tags


def _without(data: bytearray, unwanted: set[int]) -> bytearray:
    """Change a TIFF: its first picture gets tags that nobody knows in the place of ``unwanted``."""
    order = "<" if data[:2] == b"II" else ">"
    big = data[:4] not in _CLASSIC
    (first,) = struct.unpack_from(f"{order}Q" if big else f"{order}I", data, 8 if big else 4)
    (entries,) = struct.unpack_from(f"{order}Q" if big else f"{order}H", data, first)
    for k in range(entries):
        at = first + (8 + 20 * k if big else 2 + 12 * k)
        (tag,) = struct.unpack_from(f"{order}H", data, at)
        if tag in unwanted:
            struct.pack_into(f"{order}H", data, at, _UNKNOWN + k)
    return data


def _decoded(data: bytearray) -> NDArray[Any] | None:
    """Return the samples (h, w) or (h, w, c) as OpenCV decodes them, of colours blue first; None
    where it does not.
    """
    import cv2

    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    finally:
        cv2.utils.logging.setLogLevel(level)


def _lightness(stored: NDArray[Any]) -> NDArray[np.uint8]:
    """Return samples of any kind, of colours blue first, as 0 to 255, red first."""
    white = 1
    if stored.dtype.kind != "f":
        most = int(stored.max(initial=0))
        white = (1 << next(bits for bits in _FILLED_BITS if most < 1 << bits)) - 1
    # NaN is not within.
    within = np.mean([np.mean((part >= 0) & (part <= white)) for part in stored])
    if within < _WITHIN:
        raise UnusablePicture(
            "pixels below 0 or, as floating-point numbers, not from 0 (black) to 1 (white); save "
            "it with 8 or 16 bits per channel"
        )
    light = np.empty(stored.shape, np.uint8)
    order = {3: (2, 1, 0), 4: (2, 1, 0, 3)}.get(stored.shape[-1]) if stored.ndim == 3 else None
    for place, channel in enumerate(order or ()):
        light[..., place] = _bytes_of(stored[..., channel], white)
    return light if order else _bytes_of(stored, white)


def _bytes_of(channel: NDArray[Any], white: int) -> NDArray[np.uint8]:
    values = np.nan_to_num(np.clip(channel, 0, white).astype(np.float32))
    return np.round(values * np.float32(255 / white)).astype(np.uint8)
