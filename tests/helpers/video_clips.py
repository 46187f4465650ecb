"""Pictures for small videos with known content."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]


def numbered(n: int) -> Picture:
    """A picture (96, 160, 3) that holds ``n`` < 256 in black and white cells, and a red corner."""
    picture = np.full((96, 160, 3), 110, np.uint8)
    picture[:16, :24] = 220, 30, 30
    for bit in range(8):
        picture[40:56, 8 + 18 * bit : 22 + 18 * bit] = 230 if n >> bit & 1 else 20
    return picture


def number_of(picture: Picture) -> int:
    """What :func:`numbered` had written into a decoded picture."""
    return sum(int(picture[48, 15 + 18 * bit].mean() > 120) << bit for bit in range(8))


def painting(height: int = 400, width: int = 2000, seed: int = 0) -> Picture:
    """A picture with detail of all sizes everywhere."""
    rng = np.random.default_rng(seed)
    sizes = ((height // k, width // k) for k in (1, 2, 4, 8, 16, 40))
    layers = (cv2.resize(rng.normal(size=(*size, 3)), (width, height)) for size in sizes)
    return np.clip(128 + 26 * sum(layers), 0, 255).astype(np.uint8)


def window(picture: Picture, x: float, *, size: tuple[int, int] = (320, 180)) -> Picture:
    """What a camera sees that has moved by ``x`` pixels along ``picture``."""
    shift = np.array([[1, 0, -x], [0, 1, -40.0]])
    return cv2.warpAffine(picture, shift, size, flags=cv2.INTER_LINEAR)
