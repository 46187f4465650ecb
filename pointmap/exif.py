"""What a photo's EXIF tags say about its camera: orientation, focal length, which camera it was.

Tag numbers and meanings are those of the Exif 2.32 standard (CIPA DC-008). Cameras, phones and
editors write them carelessly, so that every value is read as a hint: what cannot be read, or cannot
be true, counts as absent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from PIL import Image

_MAKE, _MODEL, _ORIENTATION, _EXIF_IFD = 0x010F, 0x0110, 0x0112, 0x8769
_FOCAL_LENGTH_MM, _FOCAL_LENGTH_35MM, _LENS_MODEL = 0x920A, 0xA405, 0xA434
_DIGITAL_ZOOM = 0xA404
_PIXEL_WIDTH, _PIXEL_HEIGHT = 0xA002, 0xA003
_PLANE_RESOLUTION, _PLANE_UNIT = 0xA20E, 0xA210
_INTEROPERABILITY_IFD, _INDEX, _ADOBE_RGB = 0xA005, 1, "R03"

_MM_PER_PLANE_UNIT = {2: 25.4, 3: 10.0, 4: 1.0, 5: 0.001}
_FULL_FRAME_DIAGONAL_MM = math.hypot(36, 24)
# No camera's sensor is shorter along its long side: that of the smallest phones, type 1/5, has 2.9.
_SMALLEST_SENSOR_MM = 2.5


@dataclass(frozen=True)
class ExifHints:
    """Usable hints of one photo.

    ``orientation``: 1 to 8; ``focal_px``: focal length in pixels of the stored picture, or None;
    ``camera``: make, model, lens, focal length, that in 35 mm and digital zoom joined by "|", empty
    parts where nothing is said.
    """

    orientation: int
    focal_px: float | None
    camera: str


def read_exif(image: Image.Image) -> ExifHints:
    """Return the hints of an opened picture; damaged EXIF is the same as none."""
    try:
        exif = image.getexif()
        main, details = dict(exif), dict(exif.get_ifd(_EXIF_IFD))
    except Exception:  # Pillow's EXIF parser raises whatever a broken tag makes it stumble over
        main, details = {}, {}
    orientation = main.get(_ORIENTATION, 1)
    if orientation not in range(1, 9):
        orientation = 1
    parts = [_text(main, _MAKE), _text(main, _MODEL), _text(details, _LENS_MODEL)]
    # A zoom is a different camera at every setting. Phones zoom by cutting out, whatever the lens.
    for tag in (_FOCAL_LENGTH_MM, _FOCAL_LENGTH_35MM, _DIGITAL_ZOOM):
        value = _positive(details, tag)
        parts.append("" if value is None else f"{value:.4g}")
    return ExifHints(orientation, _focal_px(details, *image.size), "|".join(parts))


def says_adobe_rgb(image: Image.Image) -> bool:
    """Return whether a picture's colours are those of Adobe RGB by EXIF (DCF 2.0)."""
    try:
        tags = dict(image.getexif().get_ifd(_INTEROPERABILITY_IFD))
    except Exception:  # as above
        return False
    return _text(tags, _INDEX) == _ADOBE_RGB


def _focal_px(tags: Mapping[int, object], width: int, height: int) -> float | None:
    """Return the focal length in pixels of a ``width`` x ``height`` picture, or None.

    Either from the sensor's resolution, ``FocalLength * FocalPlaneXResolution``, or from the 35 mm
    equivalent, which compares diagonals (CIPA DCG-001): ``f35 / 43.27 mm * diagonal``. That counts
    a digital zoom; the sensor's resolution does not.
    """
    taken = _positive(tags, _PIXEL_WIDTH), _positive(tags, _PIXEL_HEIGHT)
    taken_width, taken_height = (v or float(s) for v, s in zip(taken, (width, height), strict=True))
    shape_change = (taken_width / taken_height) / (width / height)
    turned_change = (taken_height / taken_width) / (width / height)
    if min(abs(math.log(shape_change)), abs(math.log(turned_change))) > 0.02:
        return None  # cropped after the shot: neither formula holds for what is left
    focal_mm, focal_35mm = _positive(tags, _FOCAL_LENGTH_MM), _positive(tags, _FOCAL_LENGTH_35MM)
    per_unit = _positive(tags, _PLANE_RESOLUTION)
    unit_mm = _MM_PER_PLANE_UNIT.get(int(_positive(tags, _PLANE_UNIT) or 2))
    focal_px = None
    if focal_35mm is not None:
        focal_px = focal_35mm / _FULL_FRAME_DIAGONAL_MM * math.hypot(width, height)
    elif focal_mm is not None and per_unit is not None and unit_mm is not None:
        long_side = max(taken_width, taken_height)
        if long_side / per_unit * unit_mm < _SMALLEST_SENSOR_MM:
            return None  # made smaller since, by a program that wrote that size as the one taken
        resize = max(width, height) / long_side
        focal_px = focal_mm / unit_mm * per_unit * resize * (_positive(tags, _DIGITAL_ZOOM) or 1.0)
    # Fields of view from 5 to 150 degrees; anything else is a slip of the pen.
    plausible = focal_px is not None and 0.13 < focal_px / max(width, height) < 12
    return focal_px if plausible else None


def _positive(tags: Mapping[int, object], tag: int) -> float | None:
    """Return a tag as a positive finite number, or None (0 is EXIF's way to say unknown)."""
    try:
        value = float(tags[tag])  # type: ignore[arg-type]
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    return value if math.isfinite(value) and value > 0 else None


def _text(tags: Mapping[int, object], tag: int) -> str:
    """Return a text tag without padding and without our separator."""
    value = tags.get(tag, "")
    return value.replace("\0", "").replace("|", " ").strip() if isinstance(value, str) else ""
