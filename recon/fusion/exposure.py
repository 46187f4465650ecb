"""Gains that level the exposures of photos, from what they see in common."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array

# Below and above these levels a pixel says nothing of exposure: black, or overexposed.
_BLACK, _WHITE = 10, 245
# Places that a photo has to share with others for its gain to be told.
_FEWEST = 100
# A factor of root 2 either way: what differs more is light, not exposure.
_LEAST, _MOST = 0.7, 1.4
# Levels below white within which a gain fades: what is overexposed stays white.
_FADE = 64


def well_exposed(colours: NDArray[np.uint8] | NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return which colours (..., 3), in levels of 255, tell of exposure."""
    return np.all((colours > _BLACK) & (colours < _WHITE), axis=-1)


def photo_gains(
    samples: Sequence[tuple[NDArray[np.int64], NDArray[np.uint8]]], count: int, rounds: int = 5
) -> Array:
    """Return one factor per photo and colour (K, 3) with which the photos agree on ``count``
    places, of which each photo has ``samples``: numbers (N,) of places, and their well exposed
    colours (N, 3).
    """
    gains = np.ones((len(samples), 3))
    for _ in range(rounds):
        total, seen = np.zeros((count, 3)), np.zeros(count)
        for gain, (number, colour) in zip(gains, samples, strict=True):
            total[number] += gain * colour
            seen[number] += 1
        for k, (number, colour) in enumerate(samples):
            shared = seen[number] > 1
            if shared.sum() > _FEWEST:
                mean = total[number[shared]] / seen[number[shared], None]
                gains[k] = np.median(mean / colour[shared], axis=0)
        gains /= np.exp(np.log(gains).mean(axis=0))
    return np.clip(gains, _LEAST, _MOST)


def levelled(colours: NDArray[np.uint8], gain: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return colours (..., 3), 0 to 255, under a photo's gain (3,)."""
    levels = colours.astype(np.float32)
    fade = ((255 - levels) * (1 / _FADE)).clip(0, 1)
    return (levels * (1 + (gain.astype(np.float32) - 1) * fade)).clip(0, 255)
