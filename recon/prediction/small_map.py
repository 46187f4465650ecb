"""A depth map made small, to be compared with other photos' maps at a few hundred places."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pointmap.camera import Array, pixel_centres
from recon.prediction.affine_fit import Kind
from recon.prediction.given_maps import PriorMap

ALIKE = 1 / 8
"""A map's errors are smooth: over this share of its long side they count as one."""
POSITIVE = 0.02
"""Least share of the median value that a shifted value keeps."""
# Long side of the maps that are compared: a few hundred of a scene have to fit into memory.
_LONG_SIDE = 128
# Places along a map's long side that other photos are asked about.
_PLACES = 24


@dataclass(frozen=True)
class SmallMap:
    """A map made small, ``values`` (h, w) over their median, ``level``, 0 = unknown; ``places``
    (S, 2) pixels of it with values (S,) ``at``.

    A line (log a, b) makes of a value v the depth z, or 1 / z of a disparity: a (v + b).
    """

    kind: Kind
    level: float
    values: Array
    places: Array
    at: Array

    @property
    def size(self) -> Array:
        """Width and height (2,)."""
        return np.array(self.values.shape[::-1], np.float64)

    @property
    def sign(self) -> float:
        """By which sign log depth goes with the logarithm of a value."""
        return -1.0 if self.kind == "disparity" else 1.0

    @cached_property
    def share(self) -> float:
        """How many places' errors count as one another's, inverse."""
        spacing = max(self.values.shape) / _PLACES
        return float((spacing / (ALIKE * max(self.values.shape))) ** 2)

    def log_depth(self, values: Array, line: Array) -> Array:
        """Return the logarithm of z (P,) of values (P,); NaN behind the camera."""
        shifted = values + line[1]
        log = np.log(np.maximum(shifted, POSITIVE)) + line[0]
        return np.where(shifted > POSITIVE, self.sign * log, np.nan)

    def slopes(self, values: Array, line: Array) -> Array:
        """Return by how much that changes with the line, (P, 2)."""
        shifted = np.maximum(values + line[1], POSITIVE)
        return self.sign * np.stack([np.ones_like(values), 1 / shifted], axis=1)

    def between_pixels(self, xy: Array) -> tuple[Array, Array]:
        """Return values (P,) at pixels xy (P, 2), NaN outside and beside unknown ones, and how they
        change along x and y (P, 2).
        """
        height, width = self.values.shape
        place = np.nan_to_num(xy, nan=-1.0, posinf=-1.0, neginf=-1.0) - 0.5
        within = (place >= 0) & (place <= [width - 1, height - 1])
        inside = within[:, 0] & within[:, 1]
        place = np.where(inside[:, None], place, 0)
        left, top = np.minimum(place, [width - 2, height - 2]).astype(np.int64).T
        u, v = place.T - [left, top]
        around = np.stack([self.values[top + dy, left + dx] for dy in (0, 1) for dx in (0, 1)])
        parts = np.stack([(1 - u) * (1 - v), u * (1 - v), (1 - u) * v, u * v])
        known = inside & (around != 0).all(axis=0)
        along_x = (around[1] - around[0]) * (1 - v) + (around[3] - around[2]) * v
        along_y = (around[2] - around[0]) * (1 - u) + (around[3] - around[1]) * u
        value = np.where(known, (around * parts).sum(axis=0), np.nan)
        return value, np.stack([along_x, along_y], axis=1)


def made_small(map_: PriorMap, kind: Kind) -> SmallMap:
    """Return a map, whose values are of this kind, made small."""
    height, width = map_.values.shape
    factor = min(1.0, _LONG_SIDE / max(height, width))
    small = map_.resized(max(1, round(height * factor)), max(1, round(width * factor)))
    height, width = small.values.shape
    level = float(np.median(np.abs(small.values[small.values != 0])))
    values = small.values.astype(np.float64) / level
    step = max(1, max(height, width) // _PLACES)
    grid = np.s_[step // 2 :: step, step // 2 :: step]
    known = values[grid] != 0
    places = pixel_centres(width, height)[grid][known]
    return SmallMap(kind, level, values, places, values[grid][known])
