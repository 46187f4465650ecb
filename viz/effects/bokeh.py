"""Blur by distance, as a wide lens makes it: sharp at the focus, discs of light elsewhere."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from viz.effects.photo_depth import JUMP, PhotoDepth, hidden_behind, place_in_photo

_GAMMA = 2.2
_LARGEST_PX = 40.0


def bokeh(photo: PhotoDepth, *, focus: tuple[float, float], blur: float = 1.5) -> NDArray[np.uint8]:
    """Return ``photo`` (h, w, 3) as a lens with a wide opening would take it.

    ``focus``: the place (x, y), in shares of the picture, that is sharp. ``blur``: radius of the
    disc of what is infinitely far, in hundredths of the long side. A thin lens's
    radius grows with the difference of inverse depths (Potmesil and Chakravarty, SIGGRAPH 1981).
    A blurred near edge lets the background that is hidden behind it shine through; a sharp one
    keeps its background off. Raises ``InputError`` for a focus outside the picture.
    """
    from viz.effects.loops import discs

    h, w = photo.depth.shape
    depth = float(photo.depth[place_in_photo(photo, focus)])
    strength = blur / 100 * max(h, w)
    hidden = hidden_behind(photo, int(np.ceil(2 * min(_LARGEST_PX, strength))))

    def radii(of: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.minimum(strength * np.abs(1 - depth / of), _LARGEST_PX).astype(np.float32)

    light = [((p / 255.0) ** _GAMMA).astype(np.float32) for p in (photo.pixels, hidden.pixels)]
    # What is behind a small step comes in by and by: a threshold would draw lines along steps.
    apart = np.clip((hidden.depth / photo.depth - 1 - JUMP) / (2 * JUMP), 0, 1)
    behind = np.where(hidden.there, apart, 0).astype(np.float32)
    base = photo.depth + behind * (hidden.depth - photo.depth)
    seen = discs(
        np.stack(light),
        np.stack([photo.depth, hidden.depth]),
        np.stack([radii(photo.depth), radii(hidden.depth)]),
        behind,
        base,
        radii(base),
        np.float32(JUMP),
    )
    return np.rint(255 * np.clip(seen, 0, 1) ** (1 / _GAMMA)).astype(np.uint8)
