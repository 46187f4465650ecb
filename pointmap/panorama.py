"""Pictures that show all around: no camera with one focal length takes them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# Google's Photo Sphere metadata: https://developers.google.com/streetview/spherical-metadata
_PROJECTION, _ALL_AROUND = b"ProjectionType", b"equirectangular"
LOOKED_AT = (128, 256)
"""Height and width at which a picture is looked at."""
# Columns at the two ends differ hardly more than neighbours, and far less than others; the rows at
# the poles show one point each.
_LIKE_NEIGHBOURS, _NOISE, _LIKE_OTHERS, _POLES = 2.0, 2.0, 0.35, 0.5


def says_panorama(image: Image.Image) -> bool:
    """Return whether an opened picture's metadata calls it an equirectangular panorama."""
    said = image.info.get("xmp", b"")
    said = said.encode(errors="replace") if isinstance(said, str) else said
    return isinstance(said, bytes) and _PROJECTION in said and _ALL_AROUND in said


def looks_like_panorama(pixels: NDArray[np.uint8]) -> bool:
    """Return whether a picture (:data:`LOOKED_AT`, 3), which is twice as wide as high, closes up
    all around: it goes on at its other side, and its first and last rows are the poles.
    """
    levels = pixels.astype(np.float64)
    neighbours = np.abs(np.diff(levels, axis=1)).mean()
    ends = np.abs(levels[:, 0] - levels[:, -1]).mean()
    # What lies a quarter turn away is something else.
    others = np.abs(levels - np.roll(levels, levels.shape[1] // 4, axis=1)).mean()
    spread = levels.std(axis=1).mean()
    poles = max(levels[row].std(axis=0).mean() for row in (0, -1))
    closes = ends < _LIKE_NEIGHBOURS * neighbours + _NOISE and ends < _LIKE_OTHERS * others
    return bool(closes and poles < _POLES * spread)
