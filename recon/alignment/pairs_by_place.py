"""Pairs of photos that, where they stand, would see the same things, and that nothing joins yet;
and photos that their own pairs contradict, with all others: these may stand elsewhere.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from pointmap.camera import Array, Mask, invert_rigid, project, transform_points
from pointmap.images import Photo
from recon.alignment.cameras import sizes_px
from recon.alignment.explained import pair_fits
from recon.prediction.view_graph import Pair, reached
from recon.stage_results import Alignment, PairEdge, PairMatches, PhotoFeatures
from recon.two_view.features import match_features
from recon.two_view.relative_pose import verify_pair
from recon.two_view.still_matches import without_still_matches
from recon.work.threads import in_threads

# Pairs by place that each photo is matched in.
_PER_PHOTO = 3
# Points of a photo that are looked for in the others.
_POINTS = 128
# Photos next to each one, of those that nothing joins with it, that are tried.
_NEAR = 48
# Cameras that a long way has led astray: a point counts that is seen this share of the picture
# outside, from this much further or nearer, and under this angle.
_MARGIN = 0.25
_NEARER = 2.5
_ANGLE_DEG = 75.0
# Of the points of either photo, this share has to be seen by the other.
_LEAST_SHARE = 0.08
# A photo of whose verified matches less than this share fits may stand where what looks alike put
# it, and photos that see it from there are all that it was matched with. Of so many photos at most,
# one in so many is matched with all others: of more contradicted ones the scene is at fault, or
# things move.
_CONTRADICTED, _MANY_PHOTOS, _ONE_IN = 0.8, 100, 10
# An edge is news where so many matches agree on it, and less than this share of them on the scene.
_SURE_INLIERS, _AGREEING_SHARE = 60, 0.6


def edges_by_place(
    photos: Sequence[Photo],
    features: Sequence[PhotoFeatures],
    matches: Sequence[PairMatches],
    alignment: Alignment,
    focals_px: Sequence[float],
) -> list[PairEdge]:
    """Return edges (sorted) of pairs that the cameras lead to, or those that contradict them, and
    that are not in ``matches``; none where no sure one contradicts the cameras: they say what is
    known.

    ``features`` of all photos, ``focals_px`` (N,) in original pixels.
    """
    looked_at = {(m.i, m.j) for m in matches}
    by_place = pairs_by_place(photos, alignment, looked_at, per_photo=_PER_PHOTO)
    pairs = sorted({*by_place, *pairs_of_contradicted(photos, alignment, looked_at)})

    def matched(pair: Pair) -> PairMatches:
        i, j = pair
        return match_features(features[i], features[j], i, j)

    found = without_still_matches(list(in_threads(matched, pairs)))
    verified = in_threads(lambda pair: verify_pair(photos, pair, None, focals_px), found)
    edges = [edge for edge in verified if edge is not None]
    fits = pair_fits(photos, replace(alignment, edges=tuple(edges)))
    news = (fits.matches >= _SURE_INLIERS) & (fits.share < _AGREEING_SHARE)
    return edges if news.any() else []


def pairs_by_place(
    photos: Sequence[Photo],
    alignment: Alignment,
    looked_at: Collection[Pair],
    *,
    per_photo: int,
) -> list[Pair]:
    """Return pairs (i < j, sorted) that have not been looked at: for each photo the ``per_photo``
    that most likely see the same things, of those that three steps along used edges don't reach.

    A walk that comes back to a place from another side is closed there. What stands between two
    photos is not known; such pairs cost a matching.
    """
    poses, tracks = alignment.cam_to_world, alignment.tracks
    count = len(poses)
    order = np.argsort(tracks.view_index, kind="stable")
    ends = np.searchsorted(tracks.view_index[order], np.arange(count + 1))
    seen = {
        k: tracks.points[tracks.point_index[order[_spread(ends[k], ends[k + 1])]]]
        for k, pose in enumerate(poses)
        if pose is not None and ends[k + 1] > ends[k]
    }
    placed = np.array(list(seen), np.int64)
    if len(placed) < 2:
        return []
    used = {
        (edge.matches.i, edge.matches.j): 1.0
        for edge, fits in zip(alignment.edges, alignment.used_edges, strict=True)
        if fits
    }
    near = reached(count, used)
    cameras = {k: pose for k, pose in enumerate(poses) if pose is not None}
    centres = np.stack([cameras[k][:3, 3] for k in placed.tolist()])
    shares: dict[Pair, float] = {}
    sizes = sizes_px(photos)
    found = KDTree(centres).query(centres, k=min(len(placed), 4 * _NEAR))[1]
    for i, row in zip(placed.tolist(), placed[found], strict=True):
        close = set(near.indices[near.indptr[i] : near.indptr[i + 1]].tolist()) | {i}
        for j in [j for j in row.tolist() if j not in close][:_NEAR]:
            pair = min(i, j), max(i, j)
            if pair not in looked_at and pair not in shares:
                shares[pair] = min(
                    _share_seen(seen[a], cameras[a], cameras[b], alignment.intrinsics[b], sizes[b])
                    for a, b in (pair, pair[::-1])
                )
    best: set[Pair] = set()
    by_photo: dict[int, list[tuple[float, Pair]]] = {}
    for pair, share in shares.items():
        if share >= _LEAST_SHARE:
            for k in pair:
                by_photo.setdefault(k, []).append((-share, pair))
    for mine in by_photo.values():
        best.update(pair for _, pair in sorted(mine)[:per_photo])
    return sorted(best)


def pairs_of_contradicted(
    photos: Sequence[Photo], alignment: Alignment, looked_at: Collection[Pair]
) -> list[Pair]:
    """Return pairs (i < j, sorted) that have not been looked at, of the few photos that their own
    pairs contradict most, if any do, with every other photo.
    """
    count = len(photos)
    if count > _MANY_PHOTOS:
        return []
    share = np.nan_to_num(pair_fits(photos, alignment).of_photos(count), nan=1.0)
    worst = np.argsort(share, kind="stable")[: -(-count // _ONE_IN)]
    worst = worst[share[worst] < _CONTRADICTED]
    every = {(min(i, j), max(i, j)) for i in worst.tolist() for j in range(count) if i != j}
    return sorted(every.difference(looked_at))


def _spread(start: int, end: int) -> NDArray[np.int64]:
    """Return at most :data:`_POINTS` numbers from ``start`` up to ``end``, evenly spread."""
    return np.linspace(start, end - 1, min(end - start, _POINTS)).astype(np.int64)


def _share_seen(points: Array, from_i: Array, from_j: Array, K_j: Array, size_j: Array) -> float:
    """Return the share of photo i's ``points`` (P, 3) that photo j would see, if nothing hid them;
    ``from_i``, ``from_j`` (4, 4) cam_to_world; ``size_j`` (2,): its width and height in pixels.
    """
    local = transform_points(invert_rigid(from_j), points)
    ahead: Mask = local[:, 2] > 0
    xy = project(np.where(ahead[:, None], local, [0.0, 0.0, 1.0]), K_j)
    inside = ahead & ((xy > -_MARGIN * size_j) & (xy < (1 + _MARGIN) * size_j)).all(axis=1)
    ray_i, ray_j = points - from_i[:3, 3], points - from_j[:3, 3]
    length_i, length_j = np.linalg.norm(ray_i, axis=1), np.linalg.norm(ray_j, axis=1)
    inside &= (length_i < _NEARER * length_j) & (length_j < _NEARER * length_i)
    cosine = (ray_i * ray_j).sum(axis=1) / np.maximum(length_i * length_j, 1e-12)
    return float((inside & (cosine > np.cos(np.radians(_ANGLE_DEG)))).mean())
