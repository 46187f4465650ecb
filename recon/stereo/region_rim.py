"""What is known around the outline of a region."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array
from recon.stereo.known_pixels import Pixels, evenly

ON_PLANE = 0.012
"""A pixel whose inverse depth is off by less than this share is on a plane; up to twice that it
counts less and less."""
_OCCLUDED = 0.3
"""How much of a rim that is nearer than a plane, something in front of it, is no reason against
it."""
_ON_OUTLINE, _RIM = 150, 4
"""Pixels of the outline whose surroundings tell the rim, at most; how far to either side of it
known depth is the rim's, in pixels."""
_TRIALS, _SPREAD = 150, 40
"""Planes through three pixels that are tried one after the other, and twice the area, in pixels, of
the smallest triangle that tells one."""
_MOST_PLANES, _LEAST_LEFT, _LEAST_ON = 4, 20, 15
"""Planes found at most; pixels below which none is looked for, and that one has at least."""


@dataclass(frozen=True)
class Rim:
    """Known pixels around an outline, in order of the pixel of the outline that each is near:
    ``starts`` (K,) of the ones near the same; ``share``: of the outline near which any is.
    """

    pixels: Pixels
    starts: NDArray[np.int64]
    outline: int

    @property
    def share(self) -> float:
        """Of the outline, the share near which anything is known."""
        return len(self.starts) / self.outline

    def costs(self, planes: Array) -> Array:
        """Return costs (C,) in [0, 1]: how much of the rim is not on planes (C, 3)."""
        if not len(self.starts):
            return np.ones(len(planes))
        ratio = self.pixels.ratio(planes)
        held = self.held(ratio)
        nearer = np.logical_and.reduceat(ratio < 1 - 2 * ON_PLANE, self.starts, axis=1)
        hidden = nearer.sum(axis=1) / self.outline
        # A rim of a few pixels proves nothing.
        return np.asarray(1 - held / (self.share - _OCCLUDED * hidden + 0.05))

    def held(self, ratio: Array) -> Array:
        """Return the share (C,) of the outline that surfaces hold, by the ``ratio`` (C, N) of their
        inverse depth to that of the pixels.
        """
        on = (1 - np.abs(ratio - 1) / (2 * ON_PLANE)).clip(0, 1)
        return np.asarray(np.maximum.reduceat(on, self.starts, axis=1).sum(axis=1) / self.outline)

    @cached_property
    def planes(self) -> list[Array]:
        """Planes (3,) through many of its pixels, found one after the other."""
        at, v = self.pixels.at, self.pixels.v
        rng = np.random.default_rng(0)
        left = np.ones(len(v), bool)
        found: list[Array] = []
        while len(found) < _MOST_PLANES and left.sum() >= _LEAST_LEFT:
            corners = rng.choice(np.flatnonzero(left), (_TRIALS, 3))
            corners = corners[np.abs(np.linalg.det(at[corners])) > _SPREAD]
            if not len(corners):
                break
            tried = np.linalg.solve(at[corners], v[corners][..., None])[..., 0]
            on = left & (np.abs(self.pixels.ratio(tried) - 1) < ON_PLANE)
            best = on[on.sum(axis=1).argmax()]
            if best.sum() < _LEAST_ON:
                break
            plane = self.pixels.fitted(best.astype(float))
            found.append(plane)
            left &= np.abs(self.pixels.ratio(plane[None])[0] - 1) >= 1.5 * ON_PLANE
        return found


def rim_of(
    outline: NDArray[np.bool_],
    mask: NDArray[np.uint8],
    known: NDArray[np.bool_],
    inverse: NDArray[np.float32],
) -> Rim:
    """Return the rim of a region, all (h, w): of its ``mask``, what is ``known`` outside and on its
    ``outline``, at ``inverse`` depth.
    """
    import cv2
    from scipy.spatial import cKDTree

    border = evenly(outline, _ON_OUTLINE)
    around = cv2.dilate(mask, np.ones((2 * _RIM + 1,) * 2, np.uint8)) > 0
    numbers = np.flatnonzero(around & known)
    if not len(border) or len(numbers) <= 10:
        return Rim(Pixels.of(numbers[:0], inverse), np.zeros(0, np.int64), max(len(border), 1))
    width = inverse.shape[1]
    places = [np.stack(np.divmod(n, width), axis=1) for n in (border, numbers)]
    distance, nearest = cKDTree(places[0]).query(places[1])
    close = distance <= _RIM + 2
    order = np.argsort(nearest[close], kind="stable")
    nearest, numbers = nearest[close][order], numbers[close][order]
    starts = np.flatnonzero(np.diff(nearest, prepend=-1))
    return Rim(Pixels.of(numbers, inverse), starts, len(border))
