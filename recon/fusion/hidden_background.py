"""Surface beside outlines: background that a nearer thing hides from most of the photos.

What stands in front is seen, and confirmed, by all photos. A strip beside it that nothing confirms
mostly belongs to what lies behind (Hirschmueller 2008, section 2.6), and what was inferred there is
mostly as near as the thing in front. The planes of the photo go on behind it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from recon.stereo.piecewise_planes import find_planes

# How far from an outline, as a share of the photo's longer side, a strip reaches, and how far away
# a plane has to be seen to go on in it.
_REACH = 0.02
# Depth is behind another from this relative distance on; a plane farther than the second is not
# guessed; what differs by less than the third from an outline is as near as it.
_BEHIND, _FARTHEST, _AS_NEAR = 0.03, 0.4, 0.05
# A plane is seen where it holds this share of the sure pixels around, each relatively as near to it
# as the second.
_LEAST_SHARE, _ON_PLANE = 0.15, 0.015


def background(
    depth: NDArray[np.float32],
    confidence: NDArray[np.float32],
    unsure: NDArray[np.bool_],
    supported: NDArray[np.bool_],
    contradicted: Callable[[NDArray[np.bool_], NDArray[np.float32]], NDArray[np.bool_]],
) -> NDArray[np.float32]:
    """Return depth (h, w) for ``unsure`` pixels beside the outlines of sure ones: that of the
    nearest plane behind both that goes on there, 0 where none does.

    Those that other photos ``supported`` (h, w) stay, unless they are as near as the outline:
    photos are wrong there alike. ``depth`` (0 = unknown) and ``confidence`` (h, w) are the photo's;
    a lens bends planes too little within so short a reach to count. ``contradicted(where, depth)``
    tells which of the pixels ``where`` (h, w) other photos look past at ``depth`` (P,).
    """
    import cv2

    height, width = depth.shape
    radius = max(1, round(_REACH * max(height, width)))
    window = (2 * radius + 1, 2 * radius + 1)
    found = np.zeros_like(depth)
    own = np.where(depth > 0, 1 / np.maximum(depth, 1e-12), 0).astype(np.float32)
    sure = (depth > 0) & ~unsure
    inverse = np.where(sure, own, 0)
    front = cv2.dilate(inverse, np.ones(window, np.uint8))
    asked = unsure & (~supported | (np.abs(front - own) < _AS_NEAR * own))
    nearest = np.where(asked, np.minimum(front, own) * (1 - _BEHIND), 0)
    if not nearest.any():
        return found
    weight = np.where(sure, confidence, 0).astype(np.float32) ** 2
    planes = find_planes(torch.from_numpy(inverse), torch.from_numpy(weight))
    around = cv2.boxFilter(sure.astype(np.float32), -1, window)
    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    for a, b, c in planes.astype(np.float32):
        plane = a + b * x + c * y
        belongs = (np.abs(plane - inverse) < _ON_PLANE * inverse).astype(np.float32)
        seen = cv2.boxFilter(belongs, -1, window) > np.maximum(_LEAST_SHARE * around, 1e-6)
        fits = seen & (plane < nearest) & (plane > (1 - _FARTHEST) * own)
        # Nearer than what another plane gave.
        fits &= (plane * found > 1) | (found == 0)
        if fits.any():
            fits[fits] = ~contradicted(fits, 1 / plane[fits])
            found[fits] = 1 / plane[fits]
    return found
