"""Bars of one colour around a picture: letterboxes, pictures padded to squares, white frames.

They are no part of what the camera saw. They stay in their place while the picture changes, and
their edge is as sharp as nothing else: key points lie along it that match those of every other
photo, and the network takes the bars for walls.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# A line of pixels belongs to a bar if nearly all are within so many levels of its colour: beside
# the edge JPEG leaves waves.
_ALIKE, _NEARLY_ALL = 16, 0.98
# Bars lie on two sides that face each other, are so wide at least, and end in one straight edge: a
# line or two further most pixels have quite another colour, by so many levels. A white backdrop
# ends in an outline, a clear sky at roofs and trees, or fades.
_NARROWEST, _MIXED, _EDGE, _ANOTHER = 0.01, 2, 0.5, 32


def inside_bars(pixels: NDArray[np.uint8]) -> tuple[int, int, int, int] | None:
    """Return between which rows and columns (top, bottom, left, right) of a photo (h, w, 3) the
    picture is that has bars of one colour around it; None where there are none.

    Pixels on the edge, which hold something of both, count as the bar's.
    """
    whole = np.array([[0, side] for side in pixels.shape[:2]])
    found = [_bars(pixels.swapaxes(0, axis)) for axis in (0, 1)]
    # Bars on all sides shorten each other's edges.
    inner = np.array([w if b is None else b for b, w in zip(found, whole, strict=True)])
    straight = [0 if b is None else _straight_edges(pixels, inner, n) for n, b in enumerate(found)]
    # A white frame shows no edge where the sky is white; two of its edges make it one.
    needed = 1 if max(straight) == 2 else 2
    rows, columns = (inner[n] if straight[n] >= needed else whole[n] for n in (0, 1))
    if np.array_equal([rows, columns], whole):
        return None
    return int(rows[0]), int(rows[1]), int(columns[0]), int(columns[1])


def _bars(pixels: NDArray[np.uint8]) -> tuple[int, int] | None:
    """Return between which rows a picture is that has bars of one colour above and below it."""
    colour = np.median(pixels[0], axis=0).astype(np.int16)

    def mixed(rows: NDArray[np.uint8]) -> NDArray[np.bool_]:
        alike = np.abs(rows.astype(np.int16) - colour).max(axis=2) <= _ALIKE
        return np.asarray(alike.mean(axis=1) < _NEARLY_ALL)

    # Of most photos two lines tell.
    if mixed(pixels[[0, -1]]).any():
        return None
    rows = np.flatnonzero(mixed(pixels))
    if not len(rows):
        return None
    first, last = int(rows[0]), int(rows[-1])
    if min(first, len(pixels) - 1 - last) < max(2.0, _NARROWEST * len(pixels)):
        return None
    # The outermost row of the picture is mixed with the bar.
    return (first + 1, last) if last - first > 2 * _MIXED else None


def _straight_edges(pixels: NDArray[np.uint8], inner: NDArray[np.int64], axis: int) -> int:
    """Return how many of the two bars along an axis end in a straight edge; ``inner`` (2, 2): rows
    and columns between which the picture is.
    """
    across = pixels.swapaxes(0, axis)
    colour = np.median(across[0], axis=0).astype(np.int16)
    (first, last), others = inner[axis], slice(*inner[1 - axis])
    ends = across[first : first + _MIXED, others], across[last - _MIXED : last, others]
    differs = [np.abs(end.astype(np.int16) - colour).max(axis=(0, 2)) > _ANOTHER for end in ends]
    return sum(bool(each.mean() > _EDGE) for each in differs)
