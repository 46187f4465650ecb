"""Photos that were cut out of others that are there, too: edited copies, as phones keep them.

Straightened, cut to another shape, enlarged again: the picture's centre is no longer where the lens
looked, so that such a copy is worse than none beside its original. Whatever a copy shows lies where
a similarity of the plane has it in the original, without parallax and without the perspective of a
turn; and it shows nothing finer, as a zoom does, nor other noise.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pointmap.errors import number_of, some_of
from pointmap.images import Photo
from recon.stage_results import PairMatches, PhotoFeatures
from recon.two_view.fewer_photos import Found, without_photos
from recon.two_view.similarity import fitted_similarity

if TYPE_CHECKING:
    from recon.inputs import Inputs

logger = logging.getLogger(__name__)

# So many matches, of which this share lies within so many times the key points' accuracy of where
# the similarity has them, and half within fewer: copies are at 0.5 and less, two zooms of a camera
# that turned by a degree between them at 0.65, by two at 0.87 and more. Wrong matches are the rest.
_ENOUGH, _SHARE, _REACH, _HALF = 60, 0.85, 3.0, 0.6
# What is finer than so many pixels of the original correlates by more: copies 0.957 and more, zooms
# made of one rendered picture up to 0.923.
_FINE_PX, _SAME_DETAILS = 1.5, 0.94
# At what size pixels are compared.
_LONG_SIDE = 1600
# Cut out of the middle (shares of the long side), it is like a photo of a longer focal length, and
# may be one; and a copy ends inside its original, to so many pixels.
_CENTRED, _INSIDE_PX = 0.015, 3.0


def without_cut_outs(
    inputs: Inputs, features: Sequence[PhotoFeatures], matches: Sequence[PairMatches]
) -> Found:
    """Return what there is without photos that were cut out of others; warn of these.

    Photos whose cameras are known stay.
    """
    known = inputs.known
    copies = {
        copy: original
        for copy, (original, turn, shift) in cut_outs(inputs.photos, matches).items()
        if known.lenses[copy] is None
        and known.cam_to_world[copy] is None
        and _same_details(inputs, copy, original, turn, shift)
    }
    if copies:
        names = [f"{inputs.photos[k].name} of {inputs.photos[j].name}" for k, j in copies.items()]
        count = number_of(len(copies), "photo is", "photos are")
        logger.warning("%s left out, as cut out of others: %s", count, some_of(names))
    return without_photos(inputs, features, matches, copies)


def cut_outs(
    photos: Sequence[Photo], matches: Sequence[PairMatches]
) -> dict[int, tuple[int, complex, complex]]:
    """Return {photo: (original, turn, shift)} of those that lie in another one as if they were cut
    out of it, though not of its middle: at ``turn z + shift``, positions as complex numbers.
    """
    found: dict[int, tuple[int, complex, complex]] = {}
    for pair in matches:
        if len(pair) < _ENOUGH:
            continue
        fit = fitted_similarity(pair)
        if fit is None or np.mean(fit.off < _REACH) < _SHARE or np.median(fit.off) > _HALF:
            continue
        to_j, to_i = (fit.turn, fit.shift), (1 / fit.turn, -fit.shift / fit.turn)
        for copy, original, map_ in ((pair.j, pair.i, to_i), (pair.i, pair.j, to_j)):
            if copy not in found and _lies_off_centre(photos[copy], photos[original], *map_):
                found[copy] = original, *map_
                break
    return dict(sorted(found.items()))


def _lies_off_centre(copy: Photo, original: Photo, a: complex, b: complex) -> bool:
    """Return whether a copy lies inside its original, and not around its middle.

    ``a``, ``b``: positions in the original are ``a z + b`` of those in the copy.
    """
    corners = np.array([0, copy.width, 1j * copy.height, copy.width + 1j * copy.height])
    at = a * corners + b
    x, y = at.real, at.imag
    inside = (
        min(x.min(), y.min()) > -_INSIDE_PX
        and x.max() < original.width + _INSIDE_PX
        and y.max() < original.height + _INSIDE_PX
    )
    off = abs(at.mean() - (original.width + 1j * original.height) / 2)
    return bool(inside and off > _CENTRED * max(original.width, original.height))


def _same_details(inputs: Inputs, copy: int, original: int, turn: complex, shift: complex) -> bool:
    """Return whether the finest that a copy shows is that of the original, enlarged."""
    import cv2

    grey = []
    for k in (copy, original):
        pixels = inputs.load(k, long_side=_LONG_SIDE).pixels
        grey.append(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float32))
    sizes = [inputs.photos[k].width for k in (copy, original)]
    scale_copy, scale_original = (g.shape[1] / w for g, w in zip(grey, sizes, strict=True))
    a, b = turn * scale_original / scale_copy, shift * scale_original
    # OpenCV has pixel centres at integers.
    b += (0.5 + 0.5j) * (a - 1)
    to_original = np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])
    shown = cv2.warpAffine(
        grey[1],
        to_original,
        grey[0].shape[::-1],
        flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    sigma = _FINE_PX * max(1 / abs(a), 1.0)
    rim = math.ceil(2 * sigma)
    first, second = (
        (g - cv2.GaussianBlur(g, (0, 0), sigma))[rim:-rim, rim:-rim] for g in (grey[0], shown)
    )
    lengths = float(np.linalg.norm(first)) * float(np.linalg.norm(second))
    return float((first * second).sum()) > _SAME_DETAILS * lengths
