"""How much better or worse other cameras fit the same matches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pointmap.camera import Array
from pointmap.images import Photo
from recon.alignment.explained import match_errors_px
from recon.stage_results import Alignment, PairEdge

# Where the loss of a match (Cauchy) leaves the square, and from where on it is a wrong one, in
# pixels at 640 px.
_LOSS_PX, _WRONG_PX = 0.5, 4.0
_WRONG = np.log1p((_WRONG_PX / _LOSS_PX) ** 2)
# A pair's matches weigh as independent ones up to so many.
_ENOUGH = 200
# How often all of a pair's matches are wrong, as where a wallpaper matches with itself.
_WRONG_PAIRS = 0.01


class MissedShare:
    """What the matches of ``edges`` miss other cameras by, as a share of what they miss those of an
    ``alignment`` by; those of photos that it placed, ``placed`` (N,).
    """

    def __init__(
        self, photos: Sequence[Photo], edges: Sequence[PairEdge], alignment: Alignment
    ) -> None:
        self.placed = alignment.placed
        self._photos = photos
        self._edges = tuple(
            edge for edge in edges if self.placed[edge.matches.i] and self.placed[edge.matches.j]
        )
        numbers = np.array([len(edge.matches) for edge in self._edges], np.int64)
        self._pair = np.repeat(np.arange(len(numbers)), numbers)
        self._weights = np.repeat(np.minimum(1.0, _ENOUGH / np.maximum(numbers, 1)), numbers)
        self._before = self._losses(alignment)

    def left(self, trial: Alignment) -> float:
        """Return the share; infinite where a photo has lost its place, or nothing is seen."""
        if self._lost(trial):
            return np.inf
        after = self._losses(trial)
        # Wrong matches fit nothing, and would hide what right ones tell.
        right = np.minimum(self._before, after) < _WRONG
        before = float((self._weights * self._before)[right].sum())
        return float((self._weights * after)[right].sum()) / before if before else np.inf

    def gain(self, trial: Alignment) -> float:
        """Return how much likelier (natural logarithm) the matches are by the cameras of a trial;
        minus infinity where a photo has lost its place, or nothing is seen.

        Each pair may be wrong altogether, so that none says more than the logarithm of how seldom
        that is: by cameras that have become whatever two wrong pairs ask for, thousands of right
        matches of others hardly fit worse.
        """
        if self._lost(trial):
            return -np.inf
        losses = (np.minimum(px, _WRONG) for px in (self._before, self._losses(trial)))
        before, after = (np.bincount(self._pair, self._weights * loss) for loss in losses)
        most = -np.log(_WRONG_PAIRS)
        return float(np.clip(before - after, -most, most).sum())

    def _lost(self, trial: Alignment) -> bool:
        return bool((self.placed & ~trial.placed).any()) or not len(trial.tracks.points)

    def _losses(self, alignment: Alignment) -> Array:
        errors = match_errors_px(self._photos, replace(alignment, edges=self._edges))
        return np.log1p((np.concatenate([np.zeros(0), *errors]) / _LOSS_PX) ** 2)
