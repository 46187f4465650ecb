"""Which photos show the same things, and their feature matches."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from recon.prediction.network_pairs import SURE_MATCHES
from recon.prediction.view_graph import (
    Pair,
    ViewGraphOptions,
    build_view_graph,
    further_pairs,
    more_similar_pairs,
    pairs_beyond,
)
from recon.progress import Advance, unheard
from recon.stage_results import PairMatches, PhotoFeatures
from recon.two_view.features import match_features
from recon.two_view.photo_descriptors import photo_descriptors
from recon.two_view.shared_key_points import key_point_likeness
from recon.two_view.still_matches import without_still_matches
from recon.work.content_key import content_key, item_key
from recon.work.pieces import Needs

if TYPE_CHECKING:
    from recon.inputs import Inputs

logger = logging.getLogger(__name__)

# Of match_photos, for results that were kept.
_VERSION = 1
_NEEDS = Needs("Matching", memory_mb=900, per_task=16)
# Share of matches that keep their place, from which on a warning says so: a few do by chance.
_STILL_WORTH_TELLING = 0.05


def match_photos(
    inputs: Inputs,
    features: Sequence[PhotoFeatures],
    options: ViewGraphOptions,
    *,
    again: bool = False,
    advance: Advance = unheard,
) -> list[PairMatches]:
    """Return the matches of all pairs that are looked at, sorted by i, then j; some have none.

    ``features`` are asked for photo by photo. All pairs of few photos. Of many, each photo's most
    alike (see :mod:`recon.two_view.photo_descriptors`), then more of these where few of them match,
    those that matches don't lead to, and those that they do. Of photos in the order of shooting,
    pairs along it in place of these. Matches of what moves along with the camera are left out, with
    a warning but where photos are matched ``again`` for it.
    """
    count = len(inputs.photos)
    descriptors = None
    if options.strategy == "auto" and count > options.complete_up_to:
        names = [item_key(features, k) for k in range(count)]
        descriptors = inputs.work.once(
            content_key("photo descriptors", _VERSION, names), lambda: photo_descriptors(features)
        )
    graph = build_view_graph(count, descriptors=descriptors, options=options)
    further = 0 if descriptors is None or graph.in_order else options.neighbours // 2

    def joined(before: list[PairMatches], pairs: Sequence[Pair], to_come: int) -> list[PairMatches]:
        # Kept as of photos 0 and 1: their numbers change when other photos are given, too.
        keys = [
            content_key("matches", _VERSION, item_key(features, i), item_key(features, j))
            for i, j in pairs
        ]
        expected = len(before) + len(pairs) + to_come
        found = inputs.work.each(
            keys,
            lambda pair: match_features(features[pair[0]], features[pair[1]], 0, 1),
            of=pairs,
            at_once=None,
            needs=_NEEDS,
            photos=lambda n: [str(inputs.photos[k].path) for k in pairs[n]],
            advance=lambda done, _: advance(len(before) + done, expected),
        )
        return [*before, *(replace(m, i=i, j=j) for m, (i, j) in zip(found, pairs, strict=True))]

    matches = joined([], graph.pairs, count * further)
    if descriptors is not None:
        likeness = inputs.work.once(
            content_key("key point likeness", _VERSION, names),
            lambda: key_point_likeness(features),
        )
        more = more_similar_pairs(likeness, _strengths(matches), neighbours=options.neighbours)
        matches = joined(matches, more.pairs, count * further)
    if descriptors is not None and further:
        beyond = pairs_beyond(
            likeness, _strengths(matches), per_photo=max(options.neighbours // 4, 1)
        )
        matches = joined(matches, beyond.pairs, count * further)
        more = further_pairs(count, _strengths(matches), per_photo=further)
        matches = joined(matches, more.pairs, 0)
    moving = without_still_matches(sorted(matches, key=lambda m: (m.i, m.j)))
    left_out = 1 - sum(map(len, moving)) / max(sum(map(len, matches)), 1)
    if left_out > _STILL_WORTH_TELLING and not again:
        logger.warning(
            "%.0f %% of the matches keep their place in the picture while others move: a part of "
            "what moves with the camera (a bonnet, a tripod, a watermark), or the background of a "
            "turntable; they are left out",
            100 * left_out,
        )
    return moving


def _strengths(matches: Iterable[PairMatches]) -> dict[Pair, float]:
    """Return how surely pairs show the same things, in [0, 1]; 0 for too few matches."""
    return {
        (m.i, m.j): float(1 - np.exp(-len(m) / 200)) if len(m) >= SURE_MATCHES else 0.0
        for m in matches
    }
