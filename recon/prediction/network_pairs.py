"""Which of the matched pairs the network looks at: few, as a pass of it costs many matchings.

One good partner or, of few photos, three give a photo its depth. Beyond that the network is asked
where features leave a question: photos that few others match, and groups of photos that no sure
pair joins. Of many photos, whose questions are many, the matches of such pairs are first asked
whether they agree on an epipolar geometry, at a hundredth of the cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from recon.prediction.photo_graph import component_labels
from recon.prediction.view_graph import Pair
from recon.stage_results import PairMatches
from recon.two_view.epipolar import agreeing_px
from recon.work.threads import in_threads

if TYPE_CHECKING:
    from pointmap.images import Photo
    from recon.inputs import Inputs
    from recon.two_view.chosen_pose import PoseFrom

SURE_MATCHES = 60
"""Feature matches from which a pair most likely shows the same things: unrelated photos of 4,096
key points each gave at most 55."""

# Partners of a photo that the network sees it with: of few photos more, they cost little. A second
# one of a hundred photos takes 5 % off the error of the prior's depth, and half of the time.
_PARTNERS, _PARTNERS_OF_FEW = 1, 3
_FEW_PHOTOS = 20
# Of a photo's best score: from this share on a partner is good enough.
_GOOD = 0.5
# Unsure pairs per photo of many.
_UNSURE = 4
# Of many photos a pair is sure, too, where so many matches agree on an epipolar geometry. Measured
# on 135 photos, each found at 800 pixels: of 364 pairs without a pose two have more, of 24 with one
# sixteen.
_AGREEING = 20
# From this displacement on, as a share of the long side, more doesn't tell more about depth.
_ENOUGH_SHIFT = 0.15


def network_pairs(
    inputs: Inputs,
    matches: Sequence[PairMatches],
    pose_from: PoseFrom = "auto",
    *,
    partners: int | None = None,
) -> tuple[Pair, ...]:
    """Return the pairs (i < j, sorted) to predict of those that were looked at, ``matches``.

    All of them where each one's prediction counts: of a network with local features, which match
    what features of photos don't, and where the poses are to come from pointmaps (``pose_from``,
    see :func:`recon.two_view.gather_evidence.gather_evidence`). Otherwise each photo has about so
    many ``partners``; None: as many as pay. One without any pair is paired with itself, (k, k).
    """
    photos = inputs.photos
    every = pose_from in ("procrustes", "pnp") or inputs.network.config.descriptor_dim > 0
    chosen = {(m.i, m.j) for m in matches} if every else _needed(photos, matches, partners)
    alone = set(range(len(photos))) - {k for pair in chosen for k in pair}
    return tuple(sorted(chosen | {(k, k) for k in alone}))


def _needed(
    photos: Sequence[Photo], matches: Sequence[PairMatches], partners: int | None
) -> set[Pair]:
    few = len(photos) <= _FEW_PHOTOS
    wanted = partners or (_PARTNERS_OF_FEW if few else _PARTNERS)
    sure = _sure(matches)
    chosen = _best_partners(sure, [_telling(m, photos) for m in sure], wanted)
    unsure = _unsure(photos, matches, sure, wanted)
    if not few:
        numbers = in_threads(lambda m: len(agreeing_px(photos, m)), unsure)
        also = [m for m, number in zip(unsure, numbers, strict=True) if number >= _AGREEING]
        unsure = _unsure(photos, matches, sure + also, wanted)
    likely = [float(len(m)) for m in unsure]
    return chosen | _best_partners(unsure, likely, len(photos) if few else _UNSURE)


def unsure_pairs(photos: Sequence[Photo], matches: Sequence[PairMatches]) -> set[Pair]:
    """Return the likeliest of the pairs that their feature matches leave open."""
    unsure = _unsure(photos, matches, _sure(matches), _PARTNERS)
    return _best_partners(unsure, [float(len(m)) for m in unsure], _UNSURE)


def _sure(matches: Sequence[PairMatches]) -> list[PairMatches]:
    return [m for m in matches if len(m) >= SURE_MATCHES]


def _unsure(
    photos: Sequence[Photo],
    matches: Sequence[PairMatches],
    sure: Sequence[PairMatches],
    wanted: int,
) -> list[PairMatches]:
    """Return the pairs, not among ``sure`` ones, that would join groups of photos which none of
    these does, or are of photos with fewer sure partners than ``wanted``.
    """
    known = {(m.i, m.j) for m in sure}
    group = component_labels(len(photos), [(m.i, m.j) for m in sure])
    partners = np.bincount([k for m in sure for k in (m.i, m.j)], minlength=len(photos))
    return [
        m
        for m in matches
        if (m.i, m.j) not in known
        and (group[m.i] != group[m.j] or min(partners[m.i], partners[m.j]) < wanted)
    ]


def _best_partners(
    matches: Sequence[PairMatches], scores: Sequence[float], wanted: int
) -> set[Pair]:
    """Return few pairs so that each photo has ``wanted`` partners of high scores.

    Best pairs first: those of two photos that both lack partners, as far as they are at least
    :data:`_GOOD` of either one's best, then those that give one of the two a partner still lacking.
    """
    order = sorted(range(len(matches)), key=lambda n: (-scores[n], matches[n].i, matches[n].j))
    best: dict[int, float] = {}
    for number in order:
        for k in (matches[number].i, matches[number].j):
            best.setdefault(k, scores[number])
    partners = dict.fromkeys(best, 0)
    chosen: set[Pair] = set()
    for lacking in (2, 1):
        for number in order:
            i, j = matches[number].i, matches[number].j
            good = lacking == 1 or scores[number] >= _GOOD * max(best[i], best[j])
            lack = (partners[i] < wanted) + (partners[j] < wanted)
            if good and lack >= lacking and (i, j) not in chosen:
                chosen.add((i, j))
                partners[i] += 1
                partners[j] += 1
    return chosen


def _telling(matches: PairMatches, photos: Sequence[Photo]) -> float:
    """Return how much a pair says of depth: by overlap, and by the photos' displacement."""
    sides = [max(photos[k].width, photos[k].height) for k in (matches.i, matches.j)]
    shift = np.median(np.linalg.norm(matches.xy_i - matches.xy_j, axis=1)) / np.mean(sides)
    return min(len(matches), 300) * min(float(shift), _ENOUGH_SHIFT)
