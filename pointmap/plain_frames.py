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
# Where a picture between two bars is as plain beyond an outline at both its other ends, it may be a
# thing before a backdrop (a carton, a book): its bars have to end in an edge nearly as long as it.
_WHOLE_EDGE = 0.9
# What is written into a frame leaves this share of a line in its colour.
_BESIDE_WRITING = 0.75


def inside_bars(pixels: NDArray[np.uint8]) -> tuple[int, int, int, int] | None:
    """Return between which rows and columns (top, bottom, left, right) of a photo (h, w, 3) the
    picture is that has bars of one colour around it; None where there are none.

    Pixels on the edge, which hold something of both, count as the bar's.
    """
    whole = np.array([[0, side] for side in pixels.shape[:2]])
    found = [_bars(pixels.swapaxes(0, axis)) for axis in (0, 1)]
    # Bars on all sides shorten each other's edges.
    inner = np.array([w if b is None else b for b, w in zip(found, whole, strict=True)])
    edges = [np.zeros(2) if b is None else _edges(pixels, inner, n) for n, b in enumerate(found)]
    straight = [edge > _EDGE for edge in edges]
    for n in (0, 1):
        if found[1 - n] is not None and not straight[1 - n].any():
            straight[n] = edges[n] > _WHOLE_EDGE
    for n in (0, 1):
        if straight[n].sum() == 1 and straight[1 - n].all():
            _pass_writing(pixels, inner, n, straight[n])
    # A white frame shows no edge where the sky is white; two of its edges make it one.
    needed = 1 if any(each.all() for each in straight) else 2
    rows, columns = (inner[n] if straight[n].sum() >= needed else whole[n] for n in (0, 1))
    if np.array_equal([rows, columns], whole):
        return None
    return int(rows[0]), int(rows[1]), int(columns[0]), int(columns[1])


def _pass_writing(
    pixels: NDArray[np.uint8], inner: NDArray[np.int64], axis: int, straight: NDArray[np.bool_]
) -> None:
    """Move the end of ``inner`` (2, 2) along an axis at which the picture has no straight edge to
    where it has one beyond what is written into the frame, if it has.
    """
    within = pixels.swapaxes(0, axis)[:, slice(*inner[1 - axis])]
    beyond = _bars(within, _BESIDE_WRITING)
    if beyond is None:
        return
    moved = inner.copy()
    moved[axis] = beyond
    side = int(np.argmin(straight))
    # Writing keeps away from the picture; a white sky does not.
    start, end = beyond
    margin = (
        within[end + _MIXED : end + 2 * _MIXED]
        if side
        else within[max(start - 2 * _MIXED, 0) : max(start - _MIXED, 0)]
    )
    plain = _of_colour(margin, np.median(within[0], axis=0)) >= _NEARLY_ALL
    if _edges(pixels, moved, axis)[side] > _EDGE and plain.all():
        inner[axis, side] = beyond[side]


def _bars(pixels: NDArray[np.uint8], nearly_all: float = _NEARLY_ALL) -> tuple[int, int] | None:
    """Return between which rows a picture is that has bars of one colour above and below it, of
    whose lines ``nearly_all`` pixels have it.
    """
    colour = np.median(pixels[0], axis=0)
    # Of most photos two lines tell.
    if (_of_colour(pixels[[0, -1]], colour) < nearly_all).any():
        return None
    rows = np.flatnonzero(_of_colour(pixels, colour) < nearly_all)
    if not len(rows):
        return None
    first, last = int(rows[0]), int(rows[-1])
    if min(first, len(pixels) - 1 - last) < max(2.0, _NARROWEST * len(pixels)):
        return None
    # The outermost row of the picture is mixed with the bar.
    return (first + 1, last) if last - first > 2 * _MIXED else None


def _of_colour(rows: NDArray[np.uint8], colour: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return which share of each row's pixels (h,) is of a colour (3,)."""
    alike = np.abs(rows.astype(np.int16) - colour.astype(np.int16)).max(axis=2) <= _ALIKE
    return np.asarray(alike.mean(axis=1))


def _edges(pixels: NDArray[np.uint8], inner: NDArray[np.int64], axis: int) -> NDArray[np.float64]:
    """Return over which share of its length each of the two bars along an axis ends in another
    colour; ``inner`` (2, 2): rows and columns between which the picture is.
    """
    across = pixels.swapaxes(0, axis)
    colour = np.median(across[0], axis=0).astype(np.int16)
    (first, last), others = inner[axis], slice(*inner[1 - axis])
    ends = across[first : first + _MIXED, others], across[last - _MIXED : last, others]
    differs = [np.abs(end.astype(np.int16) - colour).max(axis=(0, 2)) > _ANOTHER for end in ends]
    return np.array([each.mean() for each in differs])
