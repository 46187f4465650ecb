"""Ramps of brightness, and how far off a map shows them that hands on what it sees."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray


def ramps(height: int, width: int) -> Iterator[NDArray[np.float64]]:
    """Yield a ramp (h, w) of 0 to 1 along the rows, and one along the columns."""
    yield np.repeat(np.linspace(0, 1, width)[None], height, 0)
    yield np.repeat(np.linspace(0, 1, height)[:, None], width, 1)


def assert_in_place(found: NDArray[np.floating], ramp: NDArray[np.float64]) -> None:
    """Assert that a map (h, w), affine in what it saw of ``ramp``, has it within half a pixel.

    The ramp is rounded to whole levels, the networks' grids are coarser than the photo: single
    pixels are further off. But a grid that is off by a pixel, or stretched, is off on one side.
    """
    height, width = ramp.shape
    assert found.shape == ramp.shape
    inner = np.s_[height // 10 : -height // 10, width // 10 : -width // 10]
    slope, shift = np.polyfit(found[inner].ravel(), ramp[inner].ravel(), 1)
    step = np.abs(np.diff(ramp, axis=1 if ramp[0, 0] != ramp[0, -1] else 0)).mean()
    off = (slope * found + shift - ramp)[inner] / step
    rows, columns = (side // 4 for side in off.shape)
    for part in (off[:rows], off[-rows:], off[:, :columns], off[:, -columns:]):
        assert abs(part.mean()) < 0.5
