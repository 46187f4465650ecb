"""Camera raw files, developed by LibRaw through rawpy: pip install 'pointmap[raw]'."""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from pathlib import Path
from typing import IO

from PIL import Image

RAW_EXTENSIONS = frozenset(
    {
        *(".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dng", ".erf", ".iiq", ".kdc", ".mef", ".mos"),
        *(".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf"),
        *(".srw", ".x3f"),
    }
)
BYTES_PER_PIXEL = 20.0
"""Memory that developing takes: four channels of 16 bits, what comes out, and rows between."""
# Make and model; focal length, that in 35 mm, digital zoom and lens model. Other tags tell of the
# preview's size, and of how the sensor was held, which is undone by then.
_CAMERA, _EXIF_IFD, _LENS = (0x010F, 0x0110), 0x8769, (0x920A, 0xA405, 0xA404, 0xA434)


def is_raw(path: Path) -> bool:
    """Return whether the file's name ends as that of a camera raw file."""
    return path.suffix.lower() in RAW_EXTENSIONS


@lru_cache(maxsize=1)
def reads_raw() -> bool:
    """Return whether rawpy is installed."""
    return importlib.util.find_spec("rawpy") is not None


def develop(file: IO[bytes], most_pixels: float) -> Image.Image:
    """Return the upright picture of a raw file in 8 bits and sRGB, as the camera balanced white.

    With what the EXIF of files that are TIFF inside, as most are, says of the camera. Raises
    ``ValueError`` for a file that LibRaw cannot read, or of more than ``most_pixels``.
    """
    import rawpy

    try:
        with rawpy.imread(file) as raw:
            sizes = raw.sizes
            if sizes.raw_width * sizes.raw_height > most_pixels:
                raise ValueError(f"{sizes.raw_width}x{sizes.raw_height} pixels are too many")
            pixels = raw.postprocess(use_camera_wb=True, output_bps=8)
    except rawpy.LibRawError as error:
        raise ValueError("LibRaw cannot read it") from error
    picture = Image.fromarray(pixels)
    file.seek(0)
    picture.info["exif"] = _camera_tags(file)
    return picture


def _camera_tags(file: IO[bytes]) -> bytes:
    """Return the EXIF tags of a raw file that say what it was taken with, empty without any."""
    kept = Image.Exif()
    try:
        said = Image.Exif()
        said.load_from_fp(file)
        kept.update({tag: said[tag] for tag in _CAMERA if tag in said})
        lens = said.get_ifd(_EXIF_IFD)
        kept.get_ifd(_EXIF_IFD).update({tag: lens[tag] for tag in _LENS if tag in lens})
        return bytes(kept.tobytes())
    except Exception:  # Pillow raises whatever a tag of a maker makes it stumble over
        return b""
