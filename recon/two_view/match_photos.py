"""Which photos show the same things, and their feature matches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from recon.prediction.network_pairs import SURE_MATCHES
from recon.prediction.view_graph import Pair, ViewGraphOptions, build_view_graph, further_pairs
from recon.progress import Advance, unheard
from recon.stage_results import PairMatches, PhotoFeatures
from recon.two_view.features import match_features
from recon.two_view.photo_descriptors import photo_descriptors
from recon.work.content_key import content_key, item_key

if TYPE_CHECKING:
    from recon.inputs import Inputs

# Of match_photos, for results that were kept.
_VERSION = 1


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
    descriptors = None
    if similar:
        names = [item_key(features, k) for k in range(count)]
        descriptors = inputs.work.once(
            content_key("photo descriptors", _VERSION, names), lambda: photo_descriptors(features)
        )
    first = build_view_graph(count, descriptors=descriptors, options=options).pairs

    def matched(pairs: Sequence[Pair], before: int, expected: int) -> list[PairMatches]:
        # Kept as of photos 0 and 1: their numbers change when other photos are given, too.
        keys = [
            content_key("matches", _VERSION, item_key(features, i), item_key(features, j))
            for i, j in pairs
        ]
        found = inputs.work.each(
            keys,
            lambda n: match_features(features[pairs[n][0]], features[pairs[n][1]], 0, 1),
            at_once=None,
            advance=lambda done, _: advance(before + done, expected),
        )
        return [replace(m, i=i, j=j) for m, (i, j) in zip(found, pairs, strict=True)]

    matches = matched(first, 0, len(first) + count * further * similar)
    if similar:
        strengths = {(m.i, m.j): _strength(m) for m in matches}
        second = further_pairs(count, strengths, per_photo=further).pairs
        matches += matched(second, len(first), len(first) + len(second))
    return sorted(matches, key=lambda m: (m.i, m.j))


def _strength(matches: PairMatches) -> float:
    """Return how surely a pair shows the same things, in [0, 1]; 0 for too few matches."""
    count = len(matches)
    return float(1 - np.exp(-count / 200)) if count >= SURE_MATCHES else 0.0
