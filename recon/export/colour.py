"""Pictures of depth and confidence maps.

Pure functions from one map to one RGB picture of the same size, used by the exporters, the report
and the viewers alike, so that a depth looks the same wherever it is shown.
"""

from __future__ import annotations

from io import BytesIO

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


def confidence_to_rgb(confidence: ArrayLike) -> NDArray[np.uint8]:
    """Return a picture (h, w, 3) uint8 of ``confidence`` (h, w) in [0, 1]: bright is sure.

    The scale is fixed, so that the pictures of two photos compare; values outside are clipped and
    NaN counts as 0.
    """
    return colour_map(np.asarray(confidence, np.float32), "viridis")


def camera_colours(count: int) -> NDArray[np.uint8]:
    """Return one colour (count, 3) uint8 per photo, running through the rainbow in photo order.

    Every picture and page colours a camera this way, so that one photo keeps one colour. All are
    light enough to be seen on a dark ground and strong enough on a white one.
    """
    if count == 1:
        return colour_map([0.25])
    return colour_map(np.linspace(0.12, 0.9, count))


def value_picture(values: ArrayLike, label: str, *, name: str = "inferno") -> NDArray[np.uint8]:
    """Return a picture (h, w + 96, 3) uint8 of ``values`` (h, w) with a labelled colour bar.

    Colours run from the 2nd to the 98th percentile of what is known; NaN is ``UNKNOWN_GREY``. The
    picture is enlarged to at least 160 pixels of height, so that the bar's numbers fit.
    """
    values = np.asarray(values, np.float64)
    known = np.isfinite(values)
    low, high = np.percentile(values[known], [2.0, 98.0]) if known.any() else (0.0, 1.0)
    spread = high - low if high - low > 1e-9 * max(abs(high), 1e-300) else 1.0
    picture = np.full((*values.shape, 3), UNKNOWN_GREY, np.uint8)
    picture[known] = colour_map((values[known] - low) / spread, name)
    enlarged = -(-160 // values.shape[0])
    picture = picture.repeat(enlarged, axis=0).repeat(enlarged, axis=1)
    return np.concatenate([picture, _colour_bar(len(picture), low, high, label, name)], axis=1)


def _colour_bar(height: int, low: float, high: float, label: str, name: str) -> NDArray[np.uint8]:
    """Return the bar (height, 96, 3) with five numbers, the highest at the top."""
    from PIL import Image, ImageDraw

    top, bottom = 26, height - 12
    bar = Image.new("RGB", (96, height), "white")
    ramp = colour_map(np.linspace(1, 0, bottom - top), name)[:, None].repeat(18, axis=1)
    bar.paste(Image.fromarray(ramp), (8, top))
    draw = ImageDraw.Draw(bar)
    draw.text((8, 6), label, fill="black")
    for share in np.linspace(0, 1, 5):
        y = round(bottom + share * (top - bottom))
        draw.line((26, y, 30, y), fill="black")
        draw.text((34, y - 6), f"{low + share * (high - low):.3g}", fill="black")
    return np.asarray(bar)


def normals_to_rgb(normals: ArrayLike) -> NDArray[np.uint8]:
    """Return a picture (h, w, 3) uint8 of unit normals (h, w, 3) in the camera's frame.

    Red grows to the right, green upwards, blue towards the viewer, as in most papers; a zero vector
    is unknown and ``UNKNOWN_GREY``.
    """
    normals = np.asarray(normals, np.float64)
    rgb = np.rint((normals * [1.0, -1.0, -1.0] + 1) * 127.5).astype(np.uint8)
    return np.where((normals != 0).any(-1, keepdims=True), rgb, np.uint8(UNKNOWN_GREY))


def png(picture: NDArray[np.uint8]) -> bytes:
    """Return a picture (h, w, 3) as the bytes of a PNG file."""
    from PIL import Image

    file = BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()
