"""Parts of a photo whose colour hardly changes: the front of a cupboard, a wall, a floor; and parts
between edges on which photos agree on nothing: what is dark, shines, or lies in a narrow gap.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BLUR = 1.0
"""Standard deviation, in pixels, of the blur that takes the noise from a photo's colours."""
_STEP = 1.5
"""Colours of a region change by less from pixel to pixel, in grey levels of the blurred photo."""
_WEAK_STEP, _REACH = 3.0, 40
"""A region goes on where they change by less than this, twice as much (hysteresis, as Canny 1986
has it), up to so many pixels away."""
LEAST = 0.004
"""Share of the photo that a region takes at least."""
_EDGE, _LEAST_UNKNOWN = 10.0, 0.008
"""Unknown parts end where colours change by so much from pixel to pixel; share of the photo that
one takes at least."""
_GAPS = 7
"""Noise leaves holes in a region; those that are less wide, in pixels, are closed."""


def plain_regions(colours: NDArray[np.float32]) -> NDArray[np.int16]:
    """Return the number (h, w) of the region that each pixel is in, from 1, the largest; 0 = none.

    ``colours`` (h, w, 3): grey levels, 0 to 255, blurred by ``BLUR``.
    """
    import cv2

    plain = _steps(colours) < _STEP
    _, labels, stats, _ = cv2.connectedComponentsWithStats(plain.astype(np.uint8), connectivity=4)
    area = stats[:, cv2.CC_STAT_AREA]
    area[0] = 0
    order = np.argsort(-area, kind="stable")
    found = np.zeros(labels.shape, np.int16)
    for number, label in enumerate(order[area[order] >= LEAST * labels.size], start=1):
        x, y, width, height, _ = stats[label]
        at = np.s_[y : y + height, x : x + width]
        its = (labels[at] == label).astype(np.uint8)
        # Closed with a border of nothing: the picture's edge is no reason to fill up to it.
        its = cv2.morphologyEx(
            np.pad(its, _GAPS),
            cv2.MORPH_CLOSE,
            np.ones((_GAPS, _GAPS), np.uint8),
        )[_GAPS:-_GAPS, _GAPS:-_GAPS]
        free = found[at] == 0
        found[at][free & (its > 0)] = number
    return found


def with_unknown_parts(
    labels: NDArray[np.int16], known: NDArray[np.bool_], colours: NDArray[np.float32]
) -> NDArray[np.int16]:
    """Return ``labels`` (h, w) of plain regions with numbers, larger than theirs, of the parts
    between edges of ``colours`` (h, w, 3) in which nothing is ``known`` (h, w).
    """
    import cv2

    free = (labels == 0) & ~known & (_steps(colours) < _EDGE)
    opened = cv2.morphologyEx(free.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    _, parts, stats, _ = cv2.connectedComponentsWithStats(opened, connectivity=4)
    area = stats[:, cv2.CC_STAT_AREA]
    area[0] = 0
    found = labels.copy()
    order = np.argsort(-area, kind="stable")
    for number, part in enumerate(order[area[order] >= _LEAST_UNKNOWN * labels.size], start=1):
        found[parts == part] = labels.max() + number
    return found


def spread_regions(
    labels: NDArray[np.int16], which: NDArray[np.bool_], colours: NDArray[np.float32]
) -> NDArray[np.int16]:
    """Return ``labels`` (h, w), regions of which ``which`` (R,) is true spread to pixels of none
    around them, up to where ``colours`` (h, w, 3) change more.
    """
    import cv2

    free = (labels == 0) & (_steps(colours) < _WEAK_STEP)
    spread = np.where(np.concatenate([[False], which])[labels], labels, 0).astype(np.int16)
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    for _ in range(_REACH):
        new = np.where(free & (spread == 0), cv2.dilate(spread, cross), 0)
        if not new.any():
            break
        spread += new.astype(np.int16)
    return np.where(labels > 0, labels, spread).astype(np.int16)


def _steps(colours: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return by how many levels (h, w) colours change from pixel to pixel, in any channel."""
    import cv2

    # Scharr's weights add up to 16 and its pixels are two apart.
    across, down = (cv2.Scharr(colours, -1, *axis) / 32 for axis in ((1, 0), (0, 1)))
    return np.asarray(np.sqrt((across**2 + down**2).max(axis=-1)), np.float32)
