"""Photos that one small, flat thing alone joins to the others: a rose of a wallpaper, a window.

What repeats is most often printed on something, or built, side by side on one plane. Where that is
all that two groups of photos match by, they fit as well at the next copy, each match to a tenth of
a pixel, turned as they are and moved aside. What is seen beside it would tell, if anything else of
it matched. Where photos overlap by a small part of the picture in truth, that seldom is one plane.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import breadth_first_order, minimum_spanning_tree

from pointmap.camera import Array, Mask
from pointmap.images import Photo
from recon.stage_results import Alignment, PairEdge

# Of more photos others tell.
_MANY_PHOTOS = 60
# Fewer points say nothing of a plane, and hold a photo so loosely that its expected error tells.
_FEWEST = 10
# Share of a photo that what joins it fills at the most, without a twentieth of its points at each
# edge. Measured: 0.04 to 0.13 in 16 groups of photos that one rose of a wallpaper joined, all of
# which stood at the next one; 0.15 and more in right ones.
_SMALL, _EDGE = 0.14, 0.05
# Share of the points on one plane, and how near to it that is, as a share of their distance.
_FLAT, _NEAR = 0.9, 0.004
# Planes through three points that are tried.
_TRIED = 200


def joined_by_flat(photos: Sequence[Photo], alignment: Alignment) -> Mask:
    """Return which photos (N,) one small, flat thing alone joins to most others; deterministic."""
    joined = np.zeros(len(photos), bool)
    if not 3 <= alignment.placed.sum() <= _MANY_PHOTOS:
        return joined
    for group, points in _joints(alignment):
        small = points.sum() >= _FEWEST and _extent(photos, alignment, group, points) <= _SMALL
        if small and _is_flat(alignment, group, points):
            joined |= group
    return joined


def _joints(alignment: Alignment) -> Iterator[tuple[Mask, Mask]]:
    """Yield the groups (N,) of photos, smaller than the rest, that come off where one of the ties
    is cut by which all photos hang together most firmly; and the points (P,) seen on both sides.
    """
    sees, placed = alignment.sees, alignment.placed
    shared = sparse.coo_array(sparse.triu(sees @ sees.T, 1))
    tree = minimum_spanning_tree(
        sparse.csr_array((1 / shared.data, (shared.row, shared.col)), shape=shared.shape)
    )
    ends = np.transpose(tree.nonzero())
    tied = alignment.pointmap_pairs
    for cut in range(len(ends)):
        kept = np.delete(ends, cut, axis=0)
        ties = sparse.csr_array((np.ones(len(kept)), tuple(kept.T)), shape=tree.shape)
        group = np.zeros(len(placed), bool)
        group[breadth_first_order(ties, ends[cut, 0], directed=False)[0]] = True
        if 2 * group.sum() > placed.sum():
            group = placed & ~group
        across = group[tied[:, 0]] != group[tied[:, 1]]
        if not across.any():
            yield group, (sees[group].sum(axis=0) > 0) & (sees[placed & ~group].sum(axis=0) > 0)


def _extent(photos: Sequence[Photo], alignment: Alignment, group: Mask, points: Mask) -> float:
    """Return which share of a photo of the ``group`` (N,) the ``points`` (P,) fill at the most."""
    shares = [0.0]
    for k in np.flatnonzero(group).tolist():
        rows = alignment.tracks.seen_by(k)
        rows = rows[points[alignment.tracks.point_index[rows]]]
        if len(rows) >= _FEWEST:
            shares.append(_filled(photos[k], alignment.tracks.xy[rows]))
    return max(shares)


def _filled(photo: Photo, xy: Array) -> float:
    """Return which share of a photo places (M, 2) fill, in its pixels."""
    sides = np.ptp(np.quantile(xy, [_EDGE, 1 - _EDGE], axis=0), axis=0)
    return float(sides.prod() / (photo.width * photo.height))


def shows_small_flat_thing(photos: Sequence[Photo], edge: PairEdge) -> bool:
    """Return whether what a pair's verified matches (ten and more) show is one small, flat thing,
    which may be printed elsewhere once more.
    """
    kept = edge.matches.select(edge.pose.inliers)
    return (
        "planar" in edge.pose.flags
        and len(kept) >= _FEWEST
        and max(_filled(photos[k], xy) for k, xy in ((kept.i, kept.xy_i), (kept.j, kept.xy_j)))
        <= _SMALL
    )


def _is_flat(alignment: Alignment, group: Mask, points: Mask) -> bool:
    """Return whether most of the ``points`` (P,) that the ``group`` (N,) sees lie on one plane."""
    places = alignment.tracks.points[points]
    near = _NEAR * _distance(alignment, group, places)
    corners = places[np.random.default_rng(0).integers(len(places), size=(_TRIED, 3))]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    length = np.linalg.norm(normal, axis=1)
    normal, corner = normal[length > 0] / length[length > 0, None], corners[length > 0, 0]
    off = np.abs(places @ normal.T - (normal * corner).sum(axis=1))
    return bool((off < near).mean(axis=0).max(initial=0.0) >= _FLAT)


def _distance(alignment: Alignment, group: Mask, places: Array) -> float:
    poses = [alignment.cam_to_world[k] for k in np.flatnonzero(group).tolist()]
    centres = np.stack([pose[:3, 3] for pose in poses if pose is not None])
    return float(np.median(np.linalg.norm(np.median(places, axis=0) - centres, axis=1)))
