"""Photos that were mirrored: selfies, scans of slides from the wrong side.

No camera sees a place mirrored. What symmetrical things leave of the matches would place such a
photo all the same, and wrong. Matched as if mirrored once more, it has many times as many.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from recon.stage_results import PairMatches, PhotoFeatures
from recon.two_view.features import match_count
from recon.two_view.fewer_photos import Found, without_photos
from recon.work.content_key import content_key, item_key

if TYPE_CHECKING:
    from recon.inputs import Inputs

logger = logging.getLogger(__name__)

# Of mirrored_photos, for results that were kept.
_VERSION = 1
# A photo with fewer than this share of the matches that photos mostly have is looked at, at most so
# many of them, beside so many others: those it matches best, and as many that come next to it.
_FEW, _MOST, _PARTNERS = 0.75, 32, 2
# Mirrored once more it has to have this many times the matches of its best pair, and so many.
# Measured: 1.6 and 2.1 times on a front that is nearly symmetrical, 5 to 12 elsewhere; as they were
# taken, photos have 0.1 to 0.5 times as many.
_MORE, _ENOUGH = 1.4, 60
# Every so many-th descriptor is matched first.
_SAMPLED = 4


def without_mirrored(
    inputs: Inputs, features: Sequence[PhotoFeatures], matches: Sequence[PairMatches]
) -> Found:
    """Return what there is without photos that were mirrored; warn of these."""
    names = [item_key(features, k) for k in range(len(features))]
    key = content_key("mirrored photos", _VERSION, names, matches)
    mirrored = inputs.work.once(key, lambda: mirrored_photos(features, matches)).tolist()
    for photo in mirrored:
        name = inputs.photos[photo].name
        logger.warning("%s is mirrored, as its matches tell: it is left out; flip it", name)
    return without_photos(inputs, features, matches, mirrored)


def tell_mirrored_group(
    inputs: Inputs, features: Sequence[PhotoFeatures], group: Sequence[int], scene: Sequence[int]
) -> None:
    """Warn if a ``group`` of photos that nothing ties to those of the ``scene`` matches them once
    it is mirrored. Which of the two was mirrored, and whether the thing itself is symmetrical,
    nobody can tell.
    """
    names = [item_key(features, k) for k in range(len(features))]
    key = content_key("mirrored group", 1, names, list(group), list(scene))
    if inputs.work.once(key, lambda: _is_mirrored_group(features, group, scene)):
        logger.warning(
            "%d photos, %s among them, match the scene when they are mirrored: flip them, or the "
            "others, whichever were mirrored",
            len(group),
            inputs.photos[group[0]].name,
        )


def _is_mirrored_group(
    features: Sequence[PhotoFeatures], group: Sequence[int], scene: Sequence[int]
) -> bool:
    """Return whether some of a group have many times as many matches with photos of the scene when
    they are mirrored.
    """
    turned = as_taken = 0
    placed = np.asarray(scene)
    for photo in group[:: -(-len(group) // _PARTNERS**2)]:
        partners = placed[np.argsort(np.abs(placed - photo), kind="stable")[: _PARTNERS**2]]
        own = features[photo].descriptors
        turned += _most_matches(mirrored_descriptors(own), features, partners)
        as_taken += _most_matches(own, features, partners)
    return turned >= max(_ENOUGH, _MORE * as_taken)


def _most_matches(
    descriptors: NDArray[np.float32], features: Sequence[PhotoFeatures], photos: Iterable[int]
) -> int:
    """Return how many matches descriptors (K, D) have with one of the ``photos`` at most."""
    counts = (match_count(descriptors, features[k].descriptors) for k in photos)
    return max(counts, default=0)


def mirrored_photos(
    features: Sequence[PhotoFeatures], matches: Sequence[PairMatches]
) -> NDArray[np.int64]:
    """Return the numbers (P,) of single photos that were mirrored.

    ``matches``: of pairs that were looked at. Where half of the photos were mirrored, neither half
    is told from the other.
    """
    count = len(features)
    ends = np.array([(pair.i, pair.j) for pair in matches], np.int64).reshape(-1, 2)
    number = np.array([len(pair) for pair in matches], np.int64)
    total = np.bincount(ends.ravel(), np.repeat(number, 2), count)
    usual = float(np.median(total)) if count else 0.0
    few = total < _FEW * usual
    firm = np.flatnonzero(~few)
    weakest = np.flatnonzero(few)[np.argsort(total[few], kind="stable")[:_MOST]]
    mirrored = []
    for photo in weakest.tolist():
        found = np.zeros(count, np.int64)
        mine = (ends == photo).any(axis=1)
        found[ends[mine].sum(axis=1) - photo] = number[mine]
        best = firm[np.argsort(-found[firm], kind="stable")[:_PARTNERS]]
        next_to = firm[np.argsort(np.abs(firm - photo), kind="stable")[:_PARTNERS]]
        partners = {*best.tolist(), *next_to.tolist()}
        own = features[photo].descriptors
        as_mirrored = mirrored_descriptors(own)
        if not _may_match(as_mirrored, features, partners, _MORE * found.max()):
            continue
        turned = _most_matches(as_mirrored, features, partners)
        # What stands still was dropped from the matches, and is among the features.
        as_taken = max(int(found.max()), _most_matches(own, features, partners))
        if turned >= max(_ENOUGH, _MORE * as_taken):
            mirrored.append(photo)
    return np.array(sorted(mirrored), np.int64)


def _may_match(
    descriptors: NDArray[np.float32],
    features: Sequence[PhotoFeatures],
    partners: Iterable[int],
    wanted: float,
) -> bool:
    """Return whether descriptors (K, 128) may have so many matches with one of the ``partners``:
    some of them tell nearly always that there are by far too few.
    """
    some = _most_matches(descriptors[::_SAMPLED], features, partners)
    return 2 * _SAMPLED * some >= max(_ENOUGH, wanted)


def mirrored_descriptors(descriptors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return SIFT descriptors (K, 128) as those of the mirrored picture are.

    They are histograms of 8 directions in 4 rows of 4 cells, in a frame along the key point's own
    direction (Lowe 2004, section 6). Mirrored across it, rows are reversed and directions negated.
    """
    row, column, direction = np.mgrid[:4, :4, :8]
    order = ((3 - row) * 4 + column) * 8 + (-direction) % 8
    return np.ascontiguousarray(descriptors[:, order.ravel()])
