"""Camera raw files, developed by LibRaw through rawpy: pip install 'pointmap[raw]'."""

from __future__ import annotations

import importlib.util
import os
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
_ORIENTATION = 0x0112


def is_raw(path: Path) -> bool:
    """Return whether the file's name ends as that of a camera raw file."""
    return path.suffix.lower() in RAW_EXTENSIONS


@lru_cache(maxsize=1)
def reads_raw() -> bool:
    """Return whether rawpy is installed."""
    return importlib.util.find_spec("rawpy") is not None


def develop(file: IO[bytes], most_pixels: float) -> Image.Image:
    """Return the upright picture of a raw file in 8 bits and sRGB, as the camera balanced white.

    With the EXIF of files that are TIFF inside, as most are, but for the orientation, which is
    applied. Raises ``ValueError`` for more than ``most_pixels``, and whatever LibRaw does for a
    file that it cannot read.
    """
    import rawpy

    with rawpy.imread(file) as raw:
        sizes = raw.sizes
        if sizes.raw_width * sizes.raw_height > most_pixels:
            raise ValueError(f"{sizes.raw_width}x{sizes.raw_height} pixels are too many")
        pixels = raw.postprocess(use_camera_wb=True, output_bps=8)
    picture = Image.fromarray(pixels)
    file.seek(os.SEEK_SET)
    try:
        # The same file as a picture is its thumbnail; only what it says of itself is read.
        with Image.open(file, formats=("TIFF",)) as tiff:  # noqa: TID251
            exif = tiff.getexif()
            exif[_ORIENTATION] = 1
            picture.info["exif"] = exif.tobytes()
    except Exception:  # Pillow raises whatever a tag of a maker makes it stumble over
        picture.info.pop("exif", None)
    return picture
