"""One look at each photo before the work: those that show too little to be of use are named, and of
pictures in a frame the middle is found.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pointmap.errors import number_of, some_of
from pointmap.images import ResizedPhoto
from recon.work.content_key import content_key

if TYPE_CHECKING:
    from recon.inputs import Inputs

logger = logging.getLogger(__name__)

# Of what is measured, for results that were kept.
_VERSION = 3
_LONG_SIDE = 640
# Nineteen pixels of twenty below this level of 255.
_BLACK, _QUANTILE = 25.0, 0.95
# Blur from which a photo counts as blurred, if it has so much more than the others: sharp photos
# of seven scenes have 0.27 to 0.48 and the worst of a hand-held video 0.64; a mean over 9 of 640
# pixels makes 0.67 to 0.74 of them. Some things are smooth, so that others have to be compared.
_BLURRED, _MORE = 0.66, 0.15
# A picture's middle is its file's unless it is so far off, in shares of the file's long side: bars
# that are as wide on both sides are found to a pixel.
_ASIDE = 0.01


def looked_at(inputs: Inputs) -> Inputs:
    """Return the inputs with the middles of pictures in frames; warn of these, and of photos that
    are nearly black or blurred beside the others.

    A camera looks through the middle of what it took, wherever a print lies on the scanner or an
    app puts its buttons.
    """

    def look(k: int) -> tuple[float, float, bool, float, float]:
        photo = inputs.load(k, long_side=_LONG_SIDE)
        return *brightness_and_blur(photo), photo.picture is not None, *_aside(photo)

    found = inputs.work.each(
        [content_key("brightness and blur", _VERSION, key) for key in inputs.photo_keys],
        look,
        at_once=None,
    )
    brightness, blur, barred, *aside = np.array(list(found)).T
    names = [photo.name for photo in inputs.photos]
    black = brightness < _BLACK
    blurred = (blur > _BLURRED) & (blur > np.median(blur) + _MORE) & ~black
    if black.any():
        logger.warning("%s nearly black: %s", _photos_are(black), some_of(_chosen(names, black)))
    if blurred.any():
        logger.warning(
            "%s blurred beside the others: %s",
            _photos_are(blurred),
            some_of(_chosen(names, blurred)),
        )
    if barred.any():
        logger.warning(
            "%s bars of one colour around the picture, which are ignored: %s",
            number_of(int(barred.sum()), "photo has", "photos have"),
            some_of(_chosen(names, barred > 0)),
        )
    photos = tuple(
        replace(photo, picture_middle=(photo.width / 2 + x, photo.height / 2 + y))
        if np.hypot(x, y) > _ASIDE * max(photo.width, photo.height)
        else photo
        for photo, x, y in zip(inputs.photos, *(a.tolist() for a in aside), strict=True)
    )
    return replace(inputs, photos=photos)


def _aside(photo: ResizedPhoto) -> tuple[float, float]:
    """Return how far right of its file's middle and below it a picture's is, in original pixels."""
    if photo.picture is None:
        return 0.0, 0.0
    top, bottom, left, right = photo.picture
    height, width = photo.pixels.shape[:2]
    return ((left + right - width) / 2 / photo.scale_x, (top + bottom - height) / 2 / photo.scale_y)


def _photos_are(chosen: NDArray[np.bool_]) -> str:
    return number_of(int(chosen.sum()), "photo is", "photos are")


def brightness_and_blur(photo: ResizedPhoto) -> tuple[float, float]:
    """Return the level (0 to 255) that nearly all of a photo is below, and how blurred it is, from
    0 to 1: the share of its differences between neighbours that blurring it once more leaves
    (Crete et al., "The blur effect", 2007), in the direction in which that is more.
    """
    import cv2

    grey: NDArray[Any] = cv2.cvtColor(photo.pixels, cv2.COLOR_RGB2GRAY).astype(np.float32)
    counted = grey if photo.usable is None else grey[photo.usable]
    brightness = float(np.quantile(counted, _QUANTILE)) if counted.size else 255.0
    # Noise is no sharpness.
    grey = cv2.GaussianBlur(grey, (0, 0), 0.7)
    blur = 0.0
    for axis, kernel in ((1, (9, 1)), (0, (1, 9))):
        step = np.abs(np.diff(grey, axis=axis))
        smooth = np.abs(np.diff(cv2.blur(grey, kernel), axis=axis))
        left = 1 - np.maximum(step - smooth, 0).sum() / max(float(step.sum()), 1e-6)
        blur = max(blur, float(left))
    return brightness, blur


def _chosen(names: Sequence[str], which: NDArray[np.bool_]) -> list[str]:
    return [name for name, is_one in zip(names, which, strict=True) if is_one]
