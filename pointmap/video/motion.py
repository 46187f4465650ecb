"""How a picture moves from frame to frame: features tracked through a video."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

FEATURES = 250
_REPLENISH_BELOW = 180
_APART_PX = 8
# A feature tracked forth and back that ends this far from its start was lost on the way (Kalal,
# Mikolajczyk and Matas, Forward-Backward Error, ICPR 2010).
_FORTH_AND_BACK_PX = 0.7
_WINDOW_PX, _LEVELS = 15, 3
# With fewer in common, two frames say nothing of how the picture moved between them.
_LEAST_IN_COMMON = 12
# Of the features in common some are tracked wrongly: the last tenth is not looked at.
_RANK_OF_ALL, _RANK_IN_COMMON = 0.7, 0.9


@dataclass(frozen=True)
class TrackedFeatures:
    """Features seen in one frame: ``ids`` (T,) int64, ascending, the same for the same feature in
    every frame, and ``places`` (T, 2) float32, in shares of the picture's width and height.
    """

    ids: NDArray[np.int64]
    places: NDArray[np.float32]


class FeatureTracker:
    """Tracks corners from frame to frame (Lucas and Kanade in pyramids; Bouguet 2000)."""

    def __init__(self) -> None:
        self._grey: NDArray[np.uint8] | None = None
        self._ids = np.zeros(0, np.int64)
        self._xy = np.zeros((0, 2), np.float32)
        self._next_id = 0

    def advance(self, grey: NDArray[np.uint8]) -> TrackedFeatures:
        """Track into the next frame ``grey`` (h, w), about 320 pixels long, and return all seen."""
        if self._grey is not None and len(self._ids):
            self._track(self._grey, grey)
        if len(self._ids) < _REPLENISH_BELOW:
            self._replenish(grey)
        self._grey = grey
        size = np.array(grey.shape[::-1], np.float32)
        return TrackedFeatures(self._ids, self._xy / size)

    def _track(self, before: NDArray[np.uint8], after: NDArray[np.uint8]) -> None:
        forth, seen = _tracked(before, after, self._xy)
        back, returned = _tracked(after, before, forth)
        astray = np.abs(back - self._xy).max(axis=1)
        inside = ((forth >= 0) & (forth < np.array(after.shape[::-1]))).all(axis=1)
        keep = seen & returned & inside & (astray < _FORTH_AND_BACK_PX)
        self._ids, self._xy = self._ids[keep], forth[keep]

    def _replenish(self, grey: NDArray[np.uint8]) -> None:
        free = np.full(grey.shape, 255, np.uint8)
        for x, y in self._xy.tolist():
            cv2.circle(free, (int(x), int(y)), _APART_PX, 0, -1)
        wanted = FEATURES - len(self._ids)
        found = cv2.goodFeaturesToTrack(grey, wanted, 0.01, _APART_PX, mask=free)
        if found is None:
            return
        new = np.arange(self._next_id, self._next_id + len(found))
        self._next_id += len(found)
        self._ids = np.concatenate([self._ids, new])
        self._xy = np.concatenate([self._xy, found.reshape(-1, 2)])


def _tracked(
    before: NDArray[np.uint8], after: NDArray[np.uint8], xy: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return where features (T, 2) went, and whether they were found there (T,)."""
    moved, found, _ = cv2.calcOpticalFlowPyrLK(
        before,
        after,
        xy,
        np.empty_like(xy),
        winSize=(_WINDOW_PX, _WINDOW_PX),
        maxLevel=_LEVELS,
    )
    return np.asarray(moved, np.float32), np.asarray(found).ravel() == 1


def tells_motion(features: TrackedFeatures) -> bool:
    """Return whether a frame shows enough to be tied to others; a covered lens does not."""
    return len(features.ids) >= _LEAST_IN_COMMON


def displacement(one: TrackedFeatures, other: TrackedFeatures) -> float:
    """Return how far the picture moved from ``one`` to ``other``, in shares of its width and
    height; infinity when they have too few features in common to tell.

    70 % of the features of ``one`` moved by no more than that, where those that were lost count as
    having moved furthest. Not half of them: when a camera circles a thing, most of the picture may
    stay where it is. A still picture, in which features get lost as well, remains still.
    """
    place = np.searchsorted(other.ids, one.ids)
    # What would lie behind the last one is not there; the first one is not it, either.
    place[place == len(other.ids)] = 0
    in_one = np.flatnonzero(other.ids[place] == one.ids) if len(other.ids) else place[:0]
    common = len(in_one)
    if common < _LEAST_IN_COMMON:
        return np.inf
    moved = other.places[place[in_one]] - one.places[in_one]
    rank = int(min(_RANK_OF_ALL * len(one.ids), _RANK_IN_COMMON * common))
    return float(np.partition(np.hypot(moved[:, 0], moved[:, 1]), rank)[rank])
