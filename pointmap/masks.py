"""Pixels of a photo that don't count: what a mask file leaves out, or what is transparent.

A mask is a picture of its photo's size, 0 where the photo is to be ignored, as COLMAP and
nerfstudio have it. Where it is white besides, what is darker than half of white is ignored, too:
soft edges, and black as JPEG and films store it. Of masks without white, or in colours, as those of
classes are, anything but 0 counts. At a smaller size a pixel counts only if all that it covers
does, so that nothing of what is ignored gets into it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pointmap.decoding import OPAQUE, mask_of, open_picture, upright
from pointmap.errors import UnusablePicture
from pointmap.exif import read_exif

RIM_PX = 2
"""Pixels beside what is masked that hold some of it, in the way masks are cut out and pictures
compared (windows of 5 x 5)."""

# From this share of the highest level on, white; the share of a mask's cells, so many along a side,
# that is no edge; and levels between channels that compression doesn't make.
_LIGHT, _GREY_SHARE, _CELLS = 0.75, 0.01, 48
_COLOURED = 48
# A mask of another size is the same picture made smaller or larger if its sides agree to a pixel
# of the smaller one, or to this share.
_ASPECT_TOLERANCE = 0.005


def opaque_pixels(image: Image.Image) -> NDArray[np.bool_] | None:
    """Return which pixels (h, w) of an opened, decoded picture are opaque, and kept by a mask
    inside its file, as it is stored.

    None where all are, and where none is: then the channel holds something else.
    """
    opaque = mask_of(image)
    if image.has_transparency_data:
        rgba = image if image.mode in ("RGBA", "LA", "PA") else image.convert("RGBA")
        seen = np.asarray(rgba.getchannel("A")) >= OPAQUE
        opaque = seen if opaque is None else seen & opaque
    return None if opaque is None or not opaque.any() or opaque.all() else opaque


def read_mask(path: Path, size: tuple[int, int], orientation: int) -> NDArray[np.bool_]:
    """Return which pixels (h, w) count by the mask file of a photo, upright, at the mask's size.

    ``size``: the photo's width and height, upright; ``orientation``: what its EXIF says.

    What is 0 does not count, nor, where the mask is white elsewhere, what is darker than half of
    white; of a mask with transparent parts, what is transparent. A mask of the size in which a
    turned photo is stored is turned with it, and one with an EXIF orientation by that. Raises
    ``UnusablePicture`` when it cannot be read, or is of another shape than the photo.
    """
    with open_picture(path) as image:
        counts = opaque_pixels(image)
        if counts is None:
            levels, white = _levels(image)
            counts = levels > 0 if white is None else levels >= white / 2
        counts = upright(counts, read_exif(image).orientation)
    if orientation >= 5 and not _same_shape(counts, size) and _same_shape(counts.T, size):
        counts = upright(counts, orientation)
    if not _same_shape(counts, size):
        raise UnusablePicture(
            f"{counts.shape[1]}x{counts.shape[0]} pixels, but the photo has {size[0]}x{size[1]}: "
            "a mask has its photo's size, or is the same picture at another one"
        )
    return counts


def is_grey(path: Path) -> bool:
    """Return whether a good part of a mask file is darker than half of its white, and not 0."""
    with open_picture(path) as image:
        if opaque_pixels(image) is not None:
            return False
        levels, white = _levels(image)
    if white is None:
        return False
    dark = Image.fromarray(255 * ((levels > 0) & (levels < white / 2)).astype(np.uint8))
    # Edges, soft ones too, fill no cell.
    cell = max(round(max(dark.size) / _CELLS), 4)
    return bool((np.asarray(dark.reduce(cell)) == 255).mean() > _GREY_SHARE)


def _levels(image: Image.Image) -> tuple[NDArray[Any], int | None]:
    """Return the levels (h, w) of an opened mask, the highest of its colours, and which one is
    white; None for that where none of them is as light as white.
    """
    image.load()
    if image.mode in ("L", "I", "1") or image.mode[:2] == "I;":
        values = np.asarray(image)
    else:
        # Over a last axis of three numpy takes eight times as long (1.2 s of 16 megapixels).
        red, green, blue = (np.asarray(channel) for channel in image.convert("RGB").split())
        values = np.maximum(np.maximum(red, green), blue)
        least = np.minimum(np.minimum(red, green), blue)
        if (values - least).max(initial=0) > _COLOURED:
            return values, None  # a colour for each class
    most = int(values.max(initial=0))
    white = 255 if most <= 255 else 65535
    return values, white if most >= _LIGHT * white else None


def _same_shape(counts: NDArray[np.bool_], size: tuple[int, int]) -> bool:
    height, width = counts.shape
    off = abs(width * size[1] - height * size[0])
    return off <= max(_ASPECT_TOLERANCE * height * size[0], *size, width, height)


def resized_mask(counts: NDArray[np.bool_], width: int, height: int) -> NDArray[np.bool_]:
    """Return a mask (h, w) at another size; a pixel counts if all that it covers does."""
    if counts.shape == (height, width):
        return counts
    picture = Image.fromarray(255 * counts.astype(np.uint8))
    return np.asarray(picture.resize((width, height), Image.Resampling.BOX)) == 255


def eroded(usable: NDArray[np.bool_], rim_px: int = RIM_PX) -> NDArray[np.bool_]:
    """Return ``usable`` (h, w) without the pixels within ``rim_px`` of one that is not."""
    import cv2

    kernel = np.ones((2 * rim_px + 1, 2 * rim_px + 1), np.uint8)
    return cv2.erode(usable.astype(np.uint8), kernel).astype(bool)


def continued(pixels: NDArray[np.uint8], usable: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return pixels (h, w, 3) with the colours of ``usable`` ones (h, w) continued over the others.

    Smooth colours have no features, match nothing, and make no edge where a mask ends; nothing of
    what is ignored is left to be seen by anyone. Means are taken over ever larger squares that
    hold something (push-pull, Gortler et al. 1996, section 3.5).
    """
    import cv2

    weight = usable.astype(np.float32)
    levels = [(pixels * weight[..., None], weight)]
    while max(levels[-1][1].shape) > 1:
        colour, weight = levels[-1]
        size = (-(-weight.shape[1] // 2), -(-weight.shape[0] // 2))
        both = np.dstack([colour, weight])
        both = cv2.resize(both, size, interpolation=cv2.INTER_AREA).astype(np.float32)
        both = both.reshape(*size[::-1], 4)
        levels.append((both[..., :3], both[..., 3]))
    filled = np.full((1, 1, 3), 128, np.float32)
    for colour, weight in reversed(levels):
        height, width = weight.shape
        coarse = cv2.resize(filled, (width, height), interpolation=cv2.INTER_LINEAR)
        mean = colour / np.maximum(weight, 1e-6)[..., None]
        filled = np.where(weight[..., None] > 0, mean, coarse).astype(np.float32)
    return np.where(usable[..., None], pixels, np.round(filled).astype(np.uint8))
