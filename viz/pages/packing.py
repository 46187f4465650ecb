"""Columns of whole numbers as text inside a page, small: steps from one to the next, deflated.

Read by ``viz/pages/viewer/decoding.js``.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LEVEL = 7  # of deflate: above it takes twice as long for a hundredth less


def packed(columns: Sequence[NDArray[np.integer[Any]]], *, widths: Sequence[int]) -> str:
    """Return ``columns``, each (N,) of so many ``widths`` bytes a number, as base64 text.

    Neighbours are alike where rows are in the order of places: steps are then small. A step's sign
    goes to its lowest bit, and the lowest bytes of a column's steps stand before the next ones.
    """
    planes = [_planes(column, width) for column, width in zip(columns, widths, strict=True)]
    return base64.b64encode(zlib.compress(b"".join(planes), _LEVEL)).decode("ascii")


def _planes(column: NDArray[np.integer[Any]], width: int) -> bytes:
    """Return the bytes of a column's steps, modulo 2 to the ``width`` bytes."""
    bits = 8 * width
    values = column.astype(np.int64)
    steps = values - np.concatenate([[0], values[:-1]])
    half = 1 << (bits - 1)
    steps = np.mod(steps + half, 2 * half) - half
    folded = ((steps << 1) ^ (steps >> 63)).astype("<u8")
    return folded.view(np.uint8).reshape(-1, 8)[:, :width].T.tobytes()
