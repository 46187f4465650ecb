"""What moves along with the camera: a bonnet, a tripod, a watermark, a turntable's background."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from pointmap.camera import Array
from recon.stage_results import PairMatches

# Displacements in units of the key points' accuracy, about half a pixel: what keeps its place, and
# what has moved so far that nothing at any distance would have kept its place but by a miracle.
_STILL, _FAR = 3.0, 60.0
# Matches that have to move so far for the others to be suspect, and together with their neighbours:
# two of the three nearest ones go the same way, to this share of it. Two fronts that look alike,
# seen from places that are alike, keep their place, too, and matches that are wrong move anywhere.
_LEAST_MOVING = 15
_NEIGHBOURS, _TOGETHER, _SAME_WAY = 3, 2, 0.25
# Share of all matches that keep their place, from which on their places say something.
_MANY = 0.02


def without_still_matches(matches: Sequence[PairMatches]) -> list[PairMatches]:
    """Return the pairs without the matches of key points that keep their pixels while others move.

    A key point that does so in one pair, between whose photos other matches move far, is taken for
    a part of what moves with the camera, and loses its still matches in all pairs. Where such
    matches are many, those from one of their places to another one go, too: a watermark that
    repeats all over the picture matches itself one tile further.
    """
    still = [_displacement(pair) < _STILL for pair in matches]
    attached: dict[int, set[int]] = {}
    places = []
    for pair, stays in zip(matches, still, strict=True):
        moving = pair.select(~stays)
        far = len(moving) >= _LEAST_MOVING and np.median(_displacement(moving)) > _FAR
        if stays.any() and far and _together(moving) >= _LEAST_MOVING:
            attached.setdefault(pair.i, set()).update(pair.index_i[stays].tolist())
            attached.setdefault(pair.j, set()).update(pair.index_j[stays].tolist())
            places.append(pair.xy_i[stays])
    if not attached:
        return list(matches)
    named = {photo: np.array(sorted(points), np.int64) for photo, points in attached.items()}
    none = np.zeros(0, np.int64)

    def moving_on(pair: PairMatches, stays: NDArray[np.bool_]) -> PairMatches:
        ends = (pair.index_i, pair.i), (pair.index_j, pair.j)
        i, j = (np.isin(index, named.get(photo, none)) for index, photo in ends)
        dropped = stays & (i | j)
        return pair.select(~dropped) if dropped.any() else pair

    kept = [moving_on(pair, stays) for pair, stays in zip(matches, still, strict=True)]
    total, left = (sum(map(len, some)) for some in (matches, kept))
    if left > (1 - _MANY) * total:
        return kept
    return _off_places(kept, np.concatenate(places))


def _off_places(matches: Sequence[PairMatches], places: Array) -> list[PairMatches]:
    """Return the pairs without the matches from one of the ``places`` (K, 2) to another one, where
    something keeps its pixels.
    """
    tree = KDTree(places)

    def off(pair: PairMatches) -> PairMatches:
        reach = _STILL * pair.sigma_px
        near = [np.isfinite(tree.query(xy, distance_upper_bound=reach)[0])
                for xy in (pair.xy_i, pair.xy_j)]  # fmt: skip
        return pair.select(~(near[0] & near[1])) if (near[0] & near[1]).any() else pair

    return [off(pair) if len(pair) else pair for pair in matches]


def _displacement(pair: PairMatches) -> NDArray[np.float64]:
    """Return how far matches (M,) moved, in units of their accuracy."""
    return np.asarray(np.linalg.norm(pair.xy_i - pair.xy_j, axis=1) / pair.sigma_px)


def _together(pair: PairMatches) -> int:
    """Return how many matches move as most of their neighbours in the first photo do."""
    way = pair.xy_j - pair.xy_i
    nearest = KDTree(pair.xy_i).query(pair.xy_i, _NEIGHBOURS + 1)[1][:, 1:]
    apart = np.linalg.norm(way[nearest] - way[:, None], axis=2)
    same = apart < _SAME_WAY * np.linalg.norm(way, axis=1)[:, None]
    return int((same.sum(axis=1) >= _TOGETHER).sum())
