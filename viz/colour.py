"""Pictures of depth and confidence maps.

Pure functions from one map to one RGB picture of the same size, used by the exporters, the report
and the viewers alike, so that a depth looks the same wherever it is shown.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

UNKNOWN_GREY = 110
"""Grey level of pixels without a depth: neither end of any colour map comes near it."""


def colour_map(values: ArrayLike, name: str = "turbo") -> NDArray[np.uint8]:
    """Return the matplotlib colours (..., 3) uint8 of ``values`` (...) in [0, 1], clipped."""
    from matplotlib import colormaps

    levels = np.clip(np.nan_to_num(np.asarray(values, np.float32)), 0.0, 1.0)
    table = colormaps[name](np.arange(256), bytes=True)[:, :3]
    picture: NDArray[np.uint8] = table[np.rint(levels * 255).astype(np.intp)]
    return picture


def depth_to_rgb(depth: ArrayLike, *, name: str = "turbo") -> NDArray[np.uint8]:
    """Return a picture (h, w, 3) uint8 of ``depth`` (h, w): near is warm, far is cold.

    Colours follow inverse depth between its 2nd and 98th percentile, so that near parts keep
    contrast and one stray pixel does not flatten the rest. Unknown depth (0, negative or not
    finite) is ``UNKNOWN_GREY``. A map of one depth gets one colour; one of none is all grey.
    """
    depth = np.asarray(depth, np.float32)
    known = np.isfinite(depth) & (depth > 0)
    picture = np.full((*depth.shape, 3), UNKNOWN_GREY, np.uint8)
    if not known.any():
        return picture
    inverse = 1.0 / depth[known].astype(np.float64)
    low, high = np.percentile(inverse, [2.0, 98.0])
    spread = high - low
    flat = spread <= 1e-9 * high
    levels = np.full(inverse.shape, 0.5) if flat else (inverse - low) / spread
    # Turbo's two ends are almost black: keep to the part of the map that has colour.
    picture[known] = colour_map(0.06 + 0.88 * np.clip(levels, 0.0, 1.0), name)
    return picture


def confidence_to_rgb(confidence: ArrayLike, *, name: str = "viridis") -> NDArray[np.uint8]:
    """Return a picture (h, w, 3) uint8 of ``confidence`` (h, w) in [0, 1]: bright is sure.

    The scale is fixed, so that the pictures of two photos compare; values outside are clipped and
    NaN counts as 0.
    """
    return colour_map(np.asarray(confidence, np.float32), name)


def camera_colours(count: int) -> NDArray[np.uint8]:
    """Return one colour (count, 3) uint8 per photo, running through the rainbow in photo order.

    Every picture and page colours a camera this way, so that one photo keeps one colour. All are
    light enough to be seen on a dark ground and strong enough on a white one.
    """
    if count == 1:
        return colour_map([0.25])
    return colour_map(np.linspace(0.12, 0.9, count))
