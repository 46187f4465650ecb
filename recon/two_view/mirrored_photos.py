"""Photos that were mirrored: selfies, scans of slides from the wrong side.

No camera sees a place mirrored. What symmetrical things leave of the matches would place such a
photo all the same, and wrong. Matched as if mirrored once more, it has many times as many.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from recon.stage_results import PairMatches, PhotoFeatures
from recon.two_view.features import match_count

# A photo with fewer than this share of the matches that photos mostly have is looked at, beside so
# many others: those it matches best, of those that have as many as most.
_FEW, _PARTNERS = 0.5, 3
# Mirrored it has to have this many times the matches, and so many with one of them. Measured on
# facades and rooms: 4 to 8 times where it was mirrored, a tenth where not.
_MORE, _ENOUGH = 2.5, 60


def mirrored_photos(
    features: Sequence[PhotoFeatures], matches: Sequence[PairMatches]
) -> NDArray[np.int64]:
    """Return the numbers of single photos that were mirrored.

    ``matches``: of pairs that were looked at. Where half of the photos were mirrored, neither half
    is told from the other.
    """
    count = len(features)
    ends = np.array([(pair.i, pair.j) for pair in matches], np.int64).reshape(-1, 2)
    number = np.array([len(pair) for pair in matches], np.int64)
    total = sum(np.bincount(side, number, count) for side in ends.T)
    usual = float(np.median(total)) if count else 0.0
    few = total < _FEW * usual
    mirrored = []
    firm = np.flatnonzero(~few)
    for photo in np.flatnonzero(few).tolist():
        # Of those that match it as little, the ones that come next to it.
        found = np.zeros(count, np.int64)
        mine = (ends == photo).any(axis=1)
        found[ends[mine].sum(axis=1) - photo] = number[mine]
        order = np.lexsort((np.abs(firm - photo), -found[firm]))
        partners = firm[order[:_PARTNERS]]
        turned = mirrored_descriptors(features[photo].descriptors)
        now = [match_count(turned, features[k].descriptors) for k in partners.tolist()]
        before = int(found[partners].sum())
        if now and max(now) >= _ENOUGH and sum(now) >= _MORE * before:
            mirrored.append(photo)
    return np.array(mirrored, np.int64)


def mirrored_descriptors(descriptors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return SIFT descriptors (K, 128) as those of the mirrored picture are.

    They are histograms of 8 directions in 4 rows of 4 cells, in a frame along the key point's own
    direction (Lowe 2004, section 6). Mirrored across it, rows are reversed and directions negated.
    """
    row, column, direction = np.mgrid[:4, :4, :8]
    order = ((3 - row) * 4 + column) * 8 + (-direction) % 8
    return np.ascontiguousarray(descriptors[:, order.ravel()])
