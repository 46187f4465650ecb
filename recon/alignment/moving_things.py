"""Who walks through: places of photos that show things which move while the cameras do.

A walker is matched from photo to photo, against the cameras that all the rest agrees on: of what is
seen there, most matches contradict. By chance some agree (a walk along the epipolar line), and
become points of the scene that other photos then miss; and pairs of photos may be verified by the
walker alone. Wrong matches lie among right ones, and each is of two photos only; those of a walker
lie side by side, in one photo after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from pointmap.camera import Array, Mask
from pointmap.images import Photo
from recon.alignment.explained import PairFits, fits_of, match_fits
from recon.stage_results import Alignment

# A feature moves if matches to so many photos contradict the cameras, and more than fit. Of the so
# many features next to a place, more than this share.
_PHOTOS, _NEIGHBOURS, _MOSTLY = 3, 8, 0.6
# Share of all features that may move: of more the cameras are wrong rather than all that is seen.
_MOST = 0.3


@dataclass(frozen=True)
class MovingThings:
    """The matched features of each photo, and which of them (F,) move; None where none does."""

    features: tuple[tuple[cKDTree, Mask] | None, ...]

    @staticmethod
    def of(photos: Sequence[Photo], alignment: Alignment) -> MovingThings:
        """Find what moves in the photos of an alignment."""
        places: list[list[Array]] = [[] for _ in photos]
        against: list[list[Mask]] = [[] for _ in photos]
        for matches, fits in match_fits(photos, alignment):
            for photo, xy in ((matches.i, matches.xy_i), (matches.j, matches.xy_j)):
                places[photo].append(xy)
                against[photo].append(~fits)
        found = [_features(*told) for told in zip(places, against, strict=True)]
        moves = np.concatenate([np.zeros(0, bool), *(told[1] for told in found if told)])
        if not moves.any() or moves.mean() > _MOST:
            found = [None] * len(photos)
        return MovingThings(tuple(found))

    def shown_at(self, photo: int, xy: Array) -> Mask:
        """Return at which places (M, 2) of a photo, in its pixels, a moving thing is seen."""
        found = self.features[photo]
        if found is None or len(xy) == 0:
            return np.zeros(len(xy), bool)
        tree, moves = found
        _, near = tree.query(xy, _NEIGHBOURS)
        return np.asarray(moves[near].mean(axis=1) > _MOSTLY)

    def observations(self, alignment: Alignment) -> Mask:
        """Return which rows of the alignment's tracks (M,) show a moving thing."""
        tracks = alignment.tracks
        moving = np.zeros(len(tracks.view_index), bool)
        for photo in range(len(self.features)):
            rows = tracks.seen_by(photo)
            moving[rows] = self.shown_at(photo, tracks.xy[rows])
        return moving

    def fits_without(self, photos: Sequence[Photo], alignment: Alignment) -> PairFits:
        """Return what the verified matches of what stands say of the scene."""

        def stands(pair: tuple[int, int], xy_i: Array, xy_j: Array) -> Mask:
            i, j = pair
            return ~(self.shown_at(i, xy_i) | self.shown_at(j, xy_j))

        return fits_of(photos, alignment, stands)


def _features(places: Sequence[Array], against: Sequence[Mask]) -> tuple[cKDTree, Mask] | None:
    """Return the features of a photo from the places (M, 2) of its matches with others, and which
    of them (F,) move, those whose matches are mostly ``against`` (M,) the cameras.
    """
    if not places:
        return None
    xy, feature = np.unique(np.concatenate(places), axis=0, return_inverse=True)
    contradicting = np.bincount(feature.ravel(), np.concatenate(against), minlength=len(xy))
    count = np.bincount(feature.ravel(), minlength=len(xy))
    moves = (contradicting >= _PHOTOS) & (2 * contradicting > count)
    return (cKDTree(xy), moves) if len(xy) >= _NEIGHBOURS else None
