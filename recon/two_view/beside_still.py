"""Key points beside what stands still, where that has taken nearly all of them.

The wall behind a turntable, a patterned cloth under a lens that looks down: the strongest corners
of a photo are there, and few are left for the thing that turns. Once the matches have shown that
most key points stand still while others move, key points are looked for beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from pointmap.camera import Mask
from recon.stage_results import PairMatches, PhotoFeatures
from recon.two_view.features import match_features

if TYPE_CHECKING:
    from recon.inputs import Inputs

# Key points stand still that so many of the others compared with have, too: this near (in units of
# their accuracy), and looking the same (cosine of the descriptors). Noise and what passes in front
# take them from some.
_OTHERS, _NEAR, _ALIKE, _MOST = 6, 3.0, 0.9, 0.5
# Photos mostly stand still from this share of their key points on; so few are asked first.
_MOSTLY, _ASKED = 0.5, 3
# Matches that stand still have been dropped, in so many pairs that are asked: others moved far. And
# what moves does so at one place of the pictures, by this share of it, as on a turntable.
_PAIRS, _DROPPED, _IN_PLACE = 8, 0.5, 0.3
# What is this near to a key point that stands still (shares of the long side), and gaps in it: in
# cells, of which so many are the reach, and without the margin so many fewer.
_REACH, _GROWN, _GAP, _MARGIN = 0.015, 4, 5, 3


def still_parts(
    inputs: Inputs, features: Sequence[PhotoFeatures], matches: Sequence[PairMatches]
) -> list[Mask | None] | None:
    """Return where each photo stands still (h, w), coarsely; None where no photo mostly does.

    ``matches``: those that are left once still ones are dropped
    (:func:`recon.two_view.still_matches.without_still_matches`).
    """
    count = len(inputs.photos)
    asked = range(0, count, max(count // _ASKED, 1))
    shares = [_still(inputs, features, k).mean() for k in asked if len(features[k].xy)]
    if not shares or np.median(shares) < _MOSTLY or not _were_dropped(features, matches):
        return None
    parts = [_around(inputs, features, k) for k in range(count)]
    return None if _passes(parts) else parts


def without_margin(parts: Sequence[Mask | None]) -> tuple[Mask | None, ...]:
    """Return what stands still up to the outermost key points of it: with the margin around these
    no key point of it is found again, but some of what moves has no depth.
    """
    import cv2

    kernel = np.ones((2 * _MARGIN + 1, 2 * _MARGIN + 1), np.uint8)
    return tuple(
        None if part is None else cv2.erode(part.astype(np.uint8), kernel).astype(bool)
        for part in parts
    )


def _passes(parts: Sequence[Mask | None]) -> bool:
    """Return whether what moves is somewhere else in each photo: somebody before a camera that
    stands still.
    """
    by_shape: dict[tuple[int, ...], list[Mask]] = {}
    for part in parts:
        if part is not None:
            by_shape.setdefault(part.shape, []).append(~part)
    moving = max(by_shape.values(), key=len)
    everywhere = np.all(moving, axis=0).mean()
    return bool(everywhere < _IN_PLACE * np.mean(moving))


def _were_dropped(features: Sequence[PhotoFeatures], matches: Sequence[PairMatches]) -> bool:
    """Return whether matches that stand still are mostly not among the ``matches``."""
    before = after = 0
    for pair in matches[:: max(len(matches) // _PAIRS, 1)]:
        whole = match_features(features[pair.i], features[pair.j], pair.i, pair.j)
        before += _count_still(whole)
        after += _count_still(pair)
    return after < (1 - _DROPPED) * before


def _count_still(pair: PairMatches) -> int:
    moved = np.linalg.norm(pair.xy_i - pair.xy_j, axis=1)
    return int((moved < _NEAR * pair.sigma_px).sum())


def _still(inputs: Inputs, features: Sequence[PhotoFeatures], k: int) -> NDArray[np.bool_]:
    """Return which key points (K,) of a photo most of some others have at the same place."""
    mine, size = features[k], (inputs.photos[k].width, inputs.photos[k].height)
    alike = [
        j for j, photo in enumerate(inputs.photos) if j != k and (photo.width, photo.height) == size
    ]
    others = alike[:: max(-(-len(alike) // _OTHERS), 1)]
    found = np.zeros(len(mine.xy))
    for j in others:
        there = features[j]
        if len(there.xy) == 0:
            continue
        reach = _NEAR * mine.sigma_px
        apart, nearest = KDTree(there.xy).query(mine.xy, distance_upper_bound=reach)
        near = np.flatnonzero(np.isfinite(apart))
        cosine = (mine.descriptors[near] * there.descriptors[nearest[near]]).sum(axis=1)
        found[near[cosine > _ALIKE]] += 1
    return found >= max(_MOST * len(others), 1)


def _around(inputs: Inputs, features: Sequence[PhotoFeatures], k: int) -> Mask | None:
    """Return what is near to key points that stand still (h, w), in cells."""
    import cv2

    still = _still(inputs, features, k)
    if not still.any():
        return None
    width, height = inputs.photos[k].width, inputs.photos[k].height
    scale = _GROWN / (_REACH * max(width, height))
    part = np.zeros((round(height * scale), round(width * scale)), np.uint8)
    for x, y in features[k].xy[still] * scale:
        cv2.circle(part, (int(x), int(y)), _GROWN, 1, -1)
    gap = np.ones((_GAP, _GAP), np.uint8)
    return np.asarray(cv2.morphologyEx(part, cv2.MORPH_CLOSE, gap), bool)
