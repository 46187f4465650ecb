"""Matches of a learned matcher, in the place of SIFT's or where SIFT leaves a question open.

Its key points get numbers after SIFT's, so that they join into tracks as those do.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array
from pointmap.images import ResizedPhoto
from pointmap.masks import eroded
from recon.matchers import FoundMatches, Matcher
from recon.prediction.network_pairs import SURE_MATCHES, unsure_pairs
from recon.progress import Advance, unheard
from recon.stage_results import REFERENCE_LONG_SIDE, PairMatches, PhotoFeatures
from recon.two_view.epipolar import agreeing_px
from recon.two_view.replaced_features import ReplacedFeatures
from recon.work.content_key import content_key

if TYPE_CHECKING:
    from recon.inputs import Inputs

# Of what a matcher says of a pair, for results that were kept.
_VERSION = 2
# Of so few photos every pair counts.
FEW_PHOTOS = 6
# So many matches of a pair that agree on an epipolar geometry tell how accurate they are. They are
# looked for to the first number of pixels of the matched pictures, then to the second of sigmas.
_TELLING, _FIRST_PX, _THEN_SIGMAS = 50, 1.5, 2.5
# Pairs that are asked; what a matcher is taken for till then, and limits of what is believed.
_PAIRS = 40
_UNTIL_THEN_PX, _SIGMA_RANGE_PX = 1.0, (0.2, 2.0)
# Lower quartile of the absolute value of a normal deviate: wrong matches hardly reach it.
_QUARTILE = 0.3186
# Sides of the pictures are multiples of this, which all matchers are made for.
_MULTIPLE = 32


def match_by_model(
    inputs: Inputs,
    features: Sequence[PhotoFeatures],
    matches: Sequence[PairMatches],
    *,
    always: bool,
    advance: Advance = unheard,
) -> tuple[list[PairMatches], Sequence[PhotoFeatures]]:
    """Return the ``matches`` of SIFT with those of ``inputs.matcher`` in the place of some, and the
    ``features`` with its key points, which have no descriptors.

    ``always``: its matches count for all pairs. Else it is asked for all pairs of up to
    :data:`FEW_PHOTOS` photos, of more for those that SIFT leaves open, and its matches count where
    more of them agree on an epipolar geometry and of SIFT's not enough do to be sure.
    """
    matcher = inputs.matcher
    if matcher is None:
        return list(matches), features
    keys, lenses = inputs.photo_keys, inputs.known.lenses
    agreeing = dict.fromkeys(range(len(matches)), 0)
    if not always:
        agreeing = _left_open(inputs, matches)
    asked = list(agreeing)
    found = inputs.work.each(
        [
            content_key(
                "learned matches", _VERSION, matcher.content_key, keys[i], keys[j], lenses[i],
                lenses[j],
            )
            for i, j in ((matches[n].i, matches[n].j) for n in asked)
        ],
        lambda n: _match(inputs, matcher, matches[asked[n]]),
        advance=advance,
    )  # fmt: skip
    # What is kept of a pair has the numbers of whatever run found it.
    named = [replace(m, i=matches[n].i, j=matches[n].j) for n, m in zip(asked, found, strict=True)]
    if matcher.sigma_px is None:
        factor = _sigma_px(inputs, named) / _UNTIL_THEN_PX
        named = [replace(m, sigma_px=factor * m.sigma_px) for m in named]
    chosen = {
        n: learned
        for n, learned in zip(asked, named, strict=True)
        if always or len(agreeing_px(inputs.photos, learned)) > agreeing[n]
    }
    return _numbered(inputs, features, [chosen.get(n, m) for n, m in enumerate(matches)], chosen)


def _left_open(inputs: Inputs, matches: Sequence[PairMatches]) -> dict[int, int]:
    """Return the pairs, by their places in ``matches``, that a learned matcher is asked for, with
    the matches of each that agree on an epipolar geometry.
    """
    count = len(inputs.photos)
    some = {(m.i, m.j) for m in matches}
    if count > FEW_PHOTOS:
        some = unsure_pairs(inputs.photos, matches)
    agreeing = {
        n: len(agreeing_px(inputs.photos, m)) for n, m in enumerate(matches) if (m.i, m.j) in some
    }
    # Key points of SIFT that hold a pair join it to others; two photos have no others.
    return {n: found for n, found in agreeing.items() if found < SURE_MATCHES or count == 2}


def _match(inputs: Inputs, matcher: Matcher, pair: PairMatches) -> PairMatches:
    """Return what the matcher finds of a pair, in original pixels, under its own numbers."""
    pictures = [
        inputs.load(k, long_side=matcher.long_side, multiple=_MULTIPLE) for k in (pair.i, pair.j)
    ]
    found = _counting(matcher.match(pictures[0].pixels, pictures[1].pixels), pictures)
    scales = [np.array([picture.scale_x, picture.scale_y]) for picture in pictures]
    sigma_px = (matcher.sigma_px or _UNTIL_THEN_PX) / float(np.mean(scales))
    xy = []
    for k, side, scale in zip((pair.i, pair.j), (found.xy_i, found.xy_j), scales, strict=True):
        lens = inputs.known.lenses[k]
        xy.append(side / scale if lens is None else lens.to_ideal(side / scale))
    none = np.full(len(xy[0]), -1, np.int64)
    index_i = none if found.index_i is None else found.index_i
    index_j = none if found.index_j is None else found.index_j
    return PairMatches(pair.i, pair.j, xy[0], xy[1], index_i, index_j.copy(), sigma_px)


def _counting(found: FoundMatches, pictures: Sequence[ResizedPhoto]) -> FoundMatches:
    """Return the matches without those of masked or transparent pixels."""
    keep = np.ones(len(found.xy_i), bool)
    for picture, xy in zip(pictures, (found.xy_i, found.xy_j), strict=True):
        if picture.usable is not None:
            height, width = picture.usable.shape
            column, row = np.clip(xy.astype(int), 0, [width - 1, height - 1]).T
            keep &= eroded(picture.usable)[row, column]
    return FoundMatches(
        found.xy_i[keep],
        found.xy_j[keep],
        None if found.index_i is None else found.index_i[keep],
        None if found.index_j is None else found.index_j[keep],
    )


def _sigma_px(inputs: Inputs, found: Sequence[PairMatches]) -> float:
    """Return how accurate a matcher's matches are, in pixels of the matched pictures.

    Matches off by sigma in both photos have Sampson errors of that standard deviation. The median
    over the pairs that tell, :data:`_UNTIL_THEN_PX` pixels being their ``sigma_px``. An
    estimate: with two rounds in place of three XFeat's came out 1.2 to 1.5 times too large on the
    four real scenes that the way was chosen on.
    """
    sigma, within = _UNTIL_THEN_PX, _FIRST_PX
    some = found[:: max(1, len(found) // _PAIRS)]
    for _ in range(3):
        errors = [(m, agreeing_px(inputs.photos, m, sigmas=within / _UNTIL_THEN_PX)) for m in some]
        told = [
            float(np.percentile(np.abs(off), 25)) / _QUARTILE / m.sigma_px * _UNTIL_THEN_PX
            for m, off in errors
            if len(off) >= _TELLING
        ]
        if not told:
            return sigma
        sigma = float(np.clip(np.median(told), *_SIGMA_RANGE_PX))
        within = _THEN_SIGMAS * sigma
    return sigma


def _numbered(
    inputs: Inputs,
    features: Sequence[PhotoFeatures],
    matches: Sequence[PairMatches],
    learned: Container[int],
) -> tuple[list[PairMatches], Sequence[PhotoFeatures]]:
    """Return the matches with the key points of ``learned`` ones, by their places in ``matches``,
    counted after the features', and the features with these.
    """
    used: dict[int, list[tuple[NDArray[np.int64], Array]]] = {}
    for n, m in enumerate(matches):
        if n not in learned:
            continue
        used.setdefault(m.i, []).append((m.index_i, m.xy_i))
        used.setdefault(m.j, []).append((m.index_j, m.xy_j))
    instead, places = {}, {}
    for k, parts in used.items():
        index = np.concatenate([part for part, _ in parts])
        names, first = np.unique(index[index >= 0], return_index=True)
        xy = np.concatenate([part for _, part in parts])[index >= 0][first]
        places[k] = names, len(features[k].xy)
        instead[k] = _with_key_points(features[k], xy, _colours(inputs, k, xy))

    def number(k: int, index: NDArray[np.int64]) -> NDArray[np.int64]:
        names, before = places[k]
        return np.where(index >= 0, before + np.searchsorted(names, index), -1)

    result = [
        replace(m, index_i=number(m.i, m.index_i), index_j=number(m.j, m.index_j))
        if n in learned
        else m
        for n, m in enumerate(matches)
    ]
    return result, ReplacedFeatures(features, instead)


def _with_key_points(
    features: PhotoFeatures, xy: Array, colours: NDArray[np.uint8]
) -> PhotoFeatures:
    """Return the features with more key points; descriptors of zeros are like no other."""
    none = np.zeros((len(xy), features.descriptors.shape[1]), np.float32)
    return replace(
        features,
        xy=np.concatenate([features.xy, xy]),
        descriptors=np.concatenate([features.descriptors, none]),
        colours=np.concatenate([features.colours, colours]),
    )


def _colours(inputs: Inputs, k: int, xy: Array) -> NDArray[np.uint8]:
    """Return the colours (K, 3) of a photo at original pixels (K, 2)."""
    photo = inputs.load(k, long_side=REFERENCE_LONG_SIDE)
    height, width = photo.pixels.shape[:2]
    column, row = np.clip(
        (xy * [photo.scale_x, photo.scale_y]).astype(int), 0, [width - 1, height - 1]
    ).T
    return np.asarray(photo.pixels[row, column])
