"""Pictures that show all around: no camera with one focal length takes them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# Google's Photo Sphere metadata: https://developers.google.com/streetview/spherical-metadata
_PROJECTION, _ALL_AROUND = b"ProjectionType", b"equirectangular"
LOOKED_AT = (128, 256)
"""Height and width at which a picture is looked at."""
# Columns at the two ends differ hardly more than neighbours, and far less than others, and their
# details over so many rows are alike (correlation), which those of a frame or a sky are not; the
# rows at the poles show one point each, or hardly more. Four panoramas: 1.5 and 0.37 at most, 0.85
# at least; none of 787 wide cuttings of 76 photos is taken for one.
_LIKE_NEIGHBOURS, _NOISE, _LIKE_OTHERS, _DETAIL_ROWS, _ALIKE, _POLES = 1.6, 2.0, 0.45, 17, 0.6, 0.5
# Widths over heights: of a whole sphere, of which software rounds sizes; without the poles, wider
# than films are.
_WHOLE, _ROUNDED, _WITHOUT_POLES = 2.0, 0.01, 2.5


def says_panorama(image: Image.Image) -> bool:
    """Return whether an opened picture's metadata calls it an equirectangular panorama."""
    said = image.info.get("xmp", b"")
    said = said.encode(errors="replace") if isinstance(said, str) else said
    return isinstance(said, bytes) and _PROJECTION in said and _ALL_AROUND in said


def may_be_panorama(width: int, height: int) -> bool:
    """Return whether a picture of that size is as wide as those that show all around."""
    return width / height > _WITHOUT_POLES or _is_whole(width / height)


def looks_like_panorama(pixels: NDArray[np.uint8], aspect: float) -> bool:
    """Return whether a picture (:data:`LOOKED_AT`, 3) of that width over height closes up all
    around: it goes on at its other side, and, where it is of a whole sphere, twice as wide as high,
    its first and last rows are the poles.
    """
    levels = pixels.astype(np.float64)
    neighbours = np.abs(np.diff(levels, axis=1)).mean()
    ends = np.abs(levels[:, 0] - levels[:, -1]).mean()
    # What lies a quarter turn away is something else.
    others = np.abs(levels - np.roll(levels, levels.shape[1] // 4, axis=1)).mean()
    spread = levels.std(axis=1).mean()
    # What is below the camera is not always plain.
    poles = min(levels[row].std(axis=0).mean() for row in (0, -1))
    closes = ends < _LIKE_NEIGHBOURS * neighbours + _NOISE and ends < _LIKE_OTHERS * others
    whole = poles < _POLES * spread or not _is_whole(aspect)
    return bool(closes and whole and _details_alike(levels[:, [0, -1]]) > _ALIKE)


def _details_alike(columns: NDArray[np.float64]) -> float:
    """Return the correlation of the details of two columns (h, 2, 3); 0 where one has none."""
    import cv2

    details = columns - cv2.blur(columns, (1, _DETAIL_ROWS))
    first, second = details[:, 0].ravel(), details[:, 1].ravel()
    lengths = float(np.linalg.norm(first)) * float(np.linalg.norm(second))
    return float(first @ second) / max(lengths, 1e-9)


def _is_whole(aspect: float) -> bool:
    return abs(aspect / _WHOLE - 1) < _ROUNDED
