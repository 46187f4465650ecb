"""Plain regions that are two faces of a body, told apart by their rims.

Two faces of a box that light hardly tells apart are one region of colour, and no plane is right for
both. What is known around them is: each face has the depth of its own part of the rim. Where two
planes through the rim, of which the farther one counts at each pixel (a body that bulges towards
the camera), hold clearly more of it than any one plane, the region ends at the edge in which they
meet. Edges that bend the other way are left alone: where a region touches the ground or what stands
beside it, its rim is on their planes, too.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from recon.stereo.plain_regions import LEAST
from recon.stereo.region_rim import rim_of

_MORE, _MOST = 0.075, 0.4
"""Two planes hold so much more of a region's outline than the best one, and so much of that near
which anything is known."""
_PART = 0.1
"""Share of a region that each of its faces takes at least."""


def with_faces_apart(
    labels: NDArray[np.int16], known: NDArray[np.float32], mostly: float
) -> NDArray[np.int16]:
    """Return ``labels`` (h, w) of plain regions, 0 = none, with the faces of bodies apart: the
    larger one keeps its number, the other has a new one.

    ``known`` (h, w): inverse depth, 0 = unknown; regions of which more than the share ``mostly`` is
    known are left as they are.
    """
    found = labels.copy()
    number = 1
    while number <= found.max():
        its = found == number
        other = None
        if its.any() and (known[its] > 0).mean() <= mostly:
            other = _other_face(its, known)
        if other is None:
            number += 1
        else:
            # Both parts are looked at again: a box may show three faces.
            found[other] = found.max() + 1
    return found


def _other_face(its: NDArray[np.bool_], known: NDArray[np.float32]) -> NDArray[np.bool_] | None:
    """Return the smaller face (h, w) of the region ``its`` (h, w), None where it is one."""
    import cv2

    mask = its.astype(np.uint8)
    inner = cv2.erode(mask, np.ones((3, 3), np.uint8)) > 0
    rim = rim_of(its & ~inner, mask, (known > 0) & ~inner, known)
    if len(rim.planes) < 2:
        return None
    planes = np.stack(rim.planes)
    ratio = rim.pixels.ratio(planes)
    row, column = np.nonzero(its)
    inverse = planes @ np.stack([np.ones(len(row)), column, row])
    best, chosen = max(rim.held(ratio)) + _MORE, None
    for one, two in combinations(range(len(planes)), 2):
        farther = inverse[one] < inverse[two]
        share = min(farther.mean(), 1 - farther.mean())
        if share < _PART or share * len(row) < LEAST * its.size:
            continue
        held = rim.held(np.minimum(ratio[one], ratio[two])[None])[0]
        if held > max(best, _MOST * rim.share):
            best, chosen = held, farther
    if chosen is None:
        return None
    smaller = chosen if 2 * chosen.sum() <= len(chosen) else ~chosen
    other = np.zeros(its.shape, bool)
    other[row[smaller], column[smaller]] = True
    return other
