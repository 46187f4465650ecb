"""Photos that few features hold are matched again at twice the size, once the others are in place.

Key points of the magnified photo are many more and smaller. They are matched, added to those found
at first, and where a pose shows, guided matching (:mod:`recon.two_view.guided_matching`) confirms
it and finds the rest.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from pointmap.camera import Array
from recon.stage_results import Alignment, PairEdge, PairMatches, PhotoFeatures, unit_px
from recon.two_view.epipolar import inlier_threshold_px
from recon.two_view.features import FEATURE_LONG_SIDE, extract_features, match_features
from recon.two_view.guided_matching import Region, guided_matches, joined_matches
from recon.two_view.relative_pose import FEW_MATCHES, essential, surer
from recon.two_view.replaced_features import ReplacedFeatures
from recon.two_view.still_matches import without_still_matches
from recon.work.threads import in_threads
from recon.work.visiting_order import visiting_order

if TYPE_CHECKING:
    from pointmap.images import Photo

logger = logging.getLogger(__name__)

# Where a photo sees fewer scene points than the first, all that see fewer than the second are
# matched again. A pose has six numbers: a hundred points with wrong ones among them hold it barely.
_HANGING, _FIRM = 100, 150
# Photos that each of those is matched with again, those it matched best: a few hold it.
_PARTNERS = 5
# Pairs per photo of the scene at most: bounds the time of a scene that is loose all over.
_PAIRS_PER_PHOTO = 2
# Key points per magnified photo. All are compared with all: 0.3 GB of scores for a pair.
_LIMIT = 8192
# Beyond twice its size a photo gains pixels, not detail.
_MAGNIFY = 2.0
# A fine key point is the same as a coarse one this near (pixels of a 640 px photo).
_SAME_PX = 1.0
# Shares of the matches that agree with a pose: from the first it counts by itself, from the second
# where guided matching confirms it.
_SURE_SHARE, _LEAST_SHARE = 0.25, 0.1


@dataclass(frozen=True)
class MatchedAgain:
    """``features`` of all photos, those found at first first, those of photos that were looked at
    again without descriptors; the pairs' ``edges``, and whether any of them ``changed``.
    """

    features: Sequence[PhotoFeatures]
    edges: list[PairEdge]
    changed: bool


def photos_with_few_matches(alignment: Alignment) -> NDArray[np.int64]:
    """Return the photos (P,) that see too few scene points to be held firmly, loosest first;
    none unless one of them nearly hangs in the air.
    """
    counts = np.bincount(alignment.tracks.view_index, minlength=len(alignment.cam_to_world))
    hanging = counts.min(initial=_FIRM) < _HANGING
    loose = np.flatnonzero(counts < _FIRM) if hanging else np.zeros(0, np.int64)
    return loose[np.argsort(counts[loose], kind="stable")]


def firm_pairs(alignment: Alignment) -> set[tuple[int, int]]:
    """Return the pairs (i, j) of photos without a place that hold each other firmly: what such
    photos lack is something that ties them to the scene.
    """
    lost = set(np.flatnonzero(~alignment.placed).tolist())
    return {
        (edge.matches.i, edge.matches.j)
        for edge in alignment.edges
        if {edge.matches.i, edge.matches.j} <= lost and edge.pose.inliers.sum() >= _FIRM
    }


def pairs_to_match_again(
    loose: NDArray[np.int64],
    matches: Sequence[PairMatches],
    count: int,
    *,
    firm: Container[tuple[int, int]] = (),
    ties: Container[tuple[int, int]] = (),
) -> list[PairMatches]:
    """Return the pairs that are ``ties``, and those of the ``loose`` photos, each with the few that
    it matches best, but those that are ``firm``.

    Two pairs per photo of the scene at most, ties and the loosest photos' first; in an order in
    which those of one photo come close together.
    """
    chosen = {(m.i, m.j): m for m in matches if (m.i, m.j) in ties}
    by_photo: dict[int, list[PairMatches]] = {photo: [] for photo in loose.tolist()}
    for found in matches:
        for photo in by_photo.keys() & {found.i, found.j}:
            by_photo[photo].append(found)
    for mine in by_photo.values():
        mine.sort(key=lambda m: (-len(m), m.i, m.j))
        best = {(m.i, m.j): m for m in mine[:_PARTNERS]}
        chosen.update({pair: m for pair, m in best.items() if pair not in firm})
    pairs = list(chosen.values())[: _PAIRS_PER_PHOTO * count]
    partners: list[list[int]] = [[] for _ in range(count)]
    for m in pairs:
        partners[m.i].append(m.j)
        partners[m.j].append(m.i)
    place = {photo: n for n, photo in enumerate(visiting_order(partners))}
    return sorted(pairs, key=lambda m: sorted((place[m.i], place[m.j])))


def magnified_features(photo: Photo, *, long_side: int = FEATURE_LONG_SIDE) -> PhotoFeatures:
    """Return the key points of the photo at up to twice the size of the first time, when its
    ``long_side`` had so many pixels.
    """
    from pointmap.images import load_photo

    size = int(_MAGNIFY * long_side)
    picture = load_photo(photo, long_side=size)
    magnify = size / max(picture.pixels.shape[:2])
    return extract_features(picture, limit=_LIMIT, magnify=min(_MAGNIFY, max(1.0, magnify)))


def match_again(
    photos: Sequence[Photo],
    features: Sequence[PhotoFeatures],
    finer: Callable[[int], PhotoFeatures],
    matches: Sequence[PairMatches],
    edges: Sequence[PairEdge],
    focals_px: Sequence[float],
) -> MatchedAgain:
    """Return the edges with those of the pairs of ``matches`` that finer features give.

    ``finer`` returns the finer key points of a photo in ``matches``, the pairs to match again; a
    photo is asked for as often as it is matched, by several threads. An edge stays as it is where
    fewer of the new matches agree.
    """
    every: dict[int, PhotoFeatures] = {}
    numbers: dict[int, NDArray[np.int64]] = {}

    def numbered(found: PairMatches) -> PairMatches:
        index_i, index_j = numbers[found.i][found.index_i], numbers[found.j][found.index_j]
        return replace(
            found,
            xy_i=every[found.i].xy[index_i],
            xy_j=every[found.j].xy[index_j],
            index_i=index_i,
            index_j=index_j,
        )

    def again(first: PairMatches) -> PairEdge | None:
        i, j = first.i, first.j
        K_i, K_j = (photos[k].pinhole(focals_px[k]) for k in (i, j))
        fine_i, fine_j = finer(i), finer(j)
        for k, fine in ((i, fine_i), (j, fine_j)):
            if k not in every:
                numbers[k] = _numbers(features[k], fine, unit_px(photos[k]))
                every[k] = _joined(features[k], fine)
        (second,) = without_still_matches([numbered(match_features(fine_i, fine_j, i, j))])
        return _edge(joined_matches(first, second), fine_i, fine_j, K_i, K_j, numbered)

    result = {(edge.matches.i, edge.matches.j): edge for edge in edges}
    changed = False
    for first, edge in zip(matches, in_threads(again, matches), strict=True):
        i, j = first.i, first.j
        before = result.get((i, j))
        if before is None and edge is not None and edge.pose.alternative is not None:
            continue  # one of two poses: a photo could end up in the wrong one
        best = surer(before, edge)
        if best is not None and best is not before:
            result[i, j], changed = best, True
            logger.debug("photos %d and %d: %d inliers now", i, j, best.pose.inliers.sum())
    edges_now = [result[pair] for pair in sorted(result)]
    return MatchedAgain(ReplacedFeatures(features, every), edges_now, changed)


def _edge(
    matches: PairMatches,
    finer_i: PhotoFeatures,
    finer_j: PhotoFeatures,
    K_i: Array,
    K_j: Array,
    numbered: Callable[[PairMatches], PairMatches],
) -> PairEdge | None:
    """Return the edge of ``matches`` and of those that their pose leads to, None without a pose.

    A pose counts that :data:`FEW_MATCHES` matches agree with, a quarter of all, or a tenth if it
    leads to convincingly more matches than chance does.
    """
    pose = essential(matches, K_i, K_j) if len(matches) >= FEW_MATCHES else None
    if pose is None or "few_matches" in pose.flags or pose.inliers.mean() < _LEAST_SHARE:
        return None
    band_px = 2 * inlier_threshold_px(matches, K_i, K_j)
    region = Region(pose.cam2_to_cam1, K_i, K_j, band_px)
    found = guided_matches(finer_i, finer_j, matches.i, matches.j, region)
    if found.convincing:
        matches = joined_matches(matches, numbered(found.matches))
        pose = essential(matches, K_i, K_j)
        return None if pose is None else PairEdge(matches, pose)
    return PairEdge(matches, pose) if pose.inliers.mean() >= _SURE_SHARE else None


def _numbers(coarse: PhotoFeatures, fine: PhotoFeatures, unit: float) -> NDArray[np.int64]:
    """Return the numbers (K,) of fine key points: that of a coarse one in the same place, if any,
    or one of their own after all coarse ones.
    """
    own = len(coarse.xy) + np.arange(len(fine.xy))
    if not len(coarse.xy) or not len(fine.xy):
        return own
    distance, nearest = KDTree(coarse.xy).query(fine.xy)
    return np.where(distance < _SAME_PX * unit, nearest, own)


def _joined(coarse: PhotoFeatures, fine: PhotoFeatures) -> PhotoFeatures:
    """Return the key points of both, which are matched by now: without descriptors."""
    return replace(
        coarse,
        xy=np.concatenate([coarse.xy, fine.xy]),
        descriptors=np.zeros((len(coarse.xy) + len(fine.xy), 0), np.float32),
        colours=np.concatenate([coarse.colours, fine.colours]),
    )
