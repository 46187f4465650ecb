"""Which photos show the same things, and their feature matches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from recon.prediction.network_pairs import SURE_MATCHES
from recon.prediction.view_graph import Pair, ViewGraphOptions, build_view_graph, further_pairs
from recon.progress import Advance, unheard
from recon.stage_results import PairMatches, PhotoFeatures
from recon.two_view.features import match_features
from recon.two_view.photo_descriptors import photo_descriptors
from recon.workers import in_threads

if TYPE_CHECKING:
    from recon.inputs import Inputs


def match_photos(
    inputs: Inputs,
    features: Sequence[PhotoFeatures],
    options: ViewGraphOptions,
    *,
    advance: Advance = unheard,
) -> list[PairMatches]:
    """Return the matches of all pairs that are looked at, sorted by i, then j; some have none.

    ``features``: of :func:`recon.two_view.features.find_features`, asked for photo by photo. All
    pairs of few photos. Of many, each photo's most alike (see :mod:`recon.two_view.
    photo_descriptors`), then a second time those that the matches lead to.
    """
    count, further = len(inputs.photos), options.neighbours // 2
    similar = options.strategy == "auto" and count > options.complete_up_to
    descriptors = photo_descriptors(features) if similar else None
    first = build_view_graph(count, descriptors=descriptors, options=options).pairs

    def matched(pair: Pair) -> PairMatches:
        return match_features(features[pair[0]], features[pair[1]], *pair)

    matches = []
    expected = len(first) + count * further * similar
    for found in in_threads(matched, first):
        matches.append(found)
        advance(len(matches), expected)
    if similar:
        strengths = {(m.i, m.j): _strength(m) for m in matches}
        second = further_pairs(count, strengths, per_photo=further).pairs
        for found in in_threads(matched, second):
            matches.append(found)
            advance(len(matches), len(first) + len(second))
    return sorted(matches, key=lambda m: (m.i, m.j))


def _strength(matches: PairMatches) -> float:
    """Return how surely a pair shows the same things, in [0, 1]; 0 for too few matches."""
    count = len(matches)
    return float(1 - np.exp(-count / 200)) if count >= SURE_MATCHES else 0.0
