"""Photos that were squeezed or stretched beside the others: resampled to another shape.

No camera takes them: their pixels are wider than high. Placed as they are, they stand 30 degrees
and more off, and draw the others along. Points of the others tell: seen in the others' shape, far
more of them fit one pose.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.spatial import KDTree

from pointmap.images import Photo
from recon.alignment.align import align
from recon.alignment.refinement import AlignOptions
from recon.localise.resection import LEAST_POINTS, Sightings, resect_unknown
from recon.stage_results import Alignment, PairEvidence, PairMatches, unit_px

# Shapes (width over height, its logarithm) differ by rounding.
_SAME_SHAPE = 0.02
# Fewer photos of one shape tell no points that are firm, of many it takes too long; of as many of
# another shape, which were squeezed, nobody knows.
_FEWEST, _MOST = 3, 60
# Key points that fit a photo's own shape, as a share of those whose points are known: it has that
# shape. Measured: 0.71 to 0.95 where photos were cut to another one, 0.34 at most where they were
# squeezed.
_FIT = 0.6
# So many times as many have to fit in the others' shape. Measured: 1.7 to 3.3 where photos were
# squeezed, 0.8 at most where they were cut.
_MORE = 1.5
# A key point and a track's observation that are this near are one (pixels of a 640 px photo).
_SAME_PX = 0.5

Size = tuple[int, int]


def odd_shapes(photos: Sequence[Photo]) -> tuple[list[int], list[int]]:
    """Return the photos of the commonest shape, lying or upright, and those of others; none of
    others where EXIF knows their focal lengths: it was written for this shape.
    """
    log_shapes = np.array([abs(np.log(photo.width / photo.height)) for photo in photos])
    alike = np.abs(log_shapes[:, None] - log_shapes) < _SAME_SHAPE
    of_most = alike[int(alike.sum(axis=1).argmax())]
    odd = [k for k in np.flatnonzero(~of_most).tolist() if photos[k].exif_focal_px is None]
    return np.flatnonzero(of_most).tolist(), odd


def squeezed_photos(
    photos: Sequence[Photo], evidence: PairEvidence, options: AlignOptions, *, seed: int = 0
) -> list[Size | None]:
    """Return the width and height that each photo had before it was squeezed or stretched; None for
    one that wasn't.

    ``options``, ``seed``: as in :func:`recon.alignment.align.align`.
    """
    usual, odd = odd_shapes(photos)
    if len(usual) < max(_FEWEST, len(odd) + 1) or len(photos) > _MOST:
        return [None] * len(photos)
    others = [photos[k] for k in usual]
    alignment = align(others, evidence.of_photos(usual), options, seed=seed)
    ((size, _),) = Counter((photo.width, photo.height) for photo in others).most_common(1)
    found: list[Size | None] = [None] * len(photos)
    for k in odd:
        seen = _sightings(k, usual, others, evidence.matches, alignment)
        own = _fitting(seen, photos[k], (photos[k].width, photos[k].height), seed)
        if own >= _FIT * len(np.unique(seen.keypoint)):
            continue
        fitting = {one: _fitting(seen, photos[k], one, seed) for one in (size, size[::-1])}
        best = max(fitting, key=lambda one: fitting[one])
        if fitting[best] >= _MORE * max(own, LEAST_POINTS):
            found[k] = best
    return found


def _fitting(seen: Sightings, photo: Photo, size: Size, seed: int) -> int:
    """Return how many key points of a photo fit one pose if the photo had that size."""
    stretched = replace(seen, xy=seen.xy * [size[0] / photo.width, size[1] / photo.height])
    placed = resect_unknown(stretched, *size, seed=seed)
    return 0 if placed is None else placed.inliers


def _sightings(
    photo: int,
    usual: Sequence[int],
    others: Sequence[Photo],
    matches: Sequence[PairMatches],
    alignment: Alignment,
) -> Sightings:
    """Return which points of the ``others``, numbers ``usual`` of all, a photo shows by its
    matches.
    """
    tracks, place = alignment.tracks, {k: n for n, k in enumerate(usual)}
    keypoint, xy, point = [np.empty(0, np.int64)], [np.empty((0, 2))], [np.empty(0, np.int64)]
    for m in matches:
        if photo not in (m.i, m.j):
            continue
        if m.i == photo:
            other, own, mine, theirs = m.j, m.index_i, m.xy_i, m.xy_j
        else:
            other, own, mine, theirs = m.i, m.index_j, m.xy_j, m.xy_i
        if other not in place or not len(m):
            continue
        rows = tracks.seen_by(place[other])
        if not len(rows):
            continue
        far, nearest = KDTree(tracks.xy[rows]).query(theirs)
        same = far < _SAME_PX * unit_px(others[place[other]])
        keypoint.append(own[same])
        xy.append(mine[same])
        point.append(tracks.point_index[rows[nearest[same]]])
    pairs = np.stack([np.concatenate(keypoint), np.concatenate(point)], axis=1)
    each, first = np.unique(pairs, axis=0, return_index=True)
    return Sightings(each[:, 0], np.concatenate(xy)[first], tracks.points[each[:, 1]])
