"""Beside plain regions: what windows that see an outline make too near.

A window that sees the outline of a thing in front matches at the thing's depth, also where its
middle shows the plain surface behind; and it does so in every photo, so that they agree (foreground
fattening; Scharstein and Szeliski 2002). The colour of the pixel says which of both it shows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recon.stereo.region_planes import RegionPlanes

_REACH = 6
"""How far from a region, in pixels, it may go on: a region ends where colours begin to change, and
windows at half the size reach four pixels."""
_LIKE = 6 / 255
"""A pixel that differs by less, in each channel, from the region beside it is the region's."""
_OTHER = 12 / 255
"""By so much the colour of the thing in front differs at least, which has to be as near."""


def beside_regions(regions: RegionPlanes, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return inverse depth (h, w) on the planes of regions that pixels beside them belong to by
    their colour, 0 elsewhere.

    ``pixels`` (h, w, 3): the photo in [0, 1].
    """
    import cv2

    height, width = pixels.shape[:2]
    labels = regions.labels_at(height, width)
    labels[~np.concatenate([[False], regions.have_plane])[labels]] = 0
    inside = labels > 0
    if not inside.any():
        return np.zeros((height, width), np.float32)
    # Of every pixel the nearest one in a region.
    distance, nearest = cv2.distanceTransformWithLabels(
        (~inside).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    place = np.zeros(nearest.max() + 1, np.int64)
    place[nearest[inside]] = np.flatnonzero(inside)
    extended = labels.ravel()[place[nearest]]
    size = (2 * _REACH + 1,) * 2
    weight = cv2.blur(inside.astype(np.float32), size)
    total = cv2.blur(pixels * inside[..., None].astype(np.float32), size)
    mean = (total / np.maximum(weight, 1e-6)[..., None]).reshape(-1, 3)
    off = np.abs(pixels - mean[place[nearest]]).max(axis=-1)
    other = cv2.dilate((off > _OTHER).astype(np.uint8), np.ones(size, np.uint8)) > 0
    its = ~inside & (distance <= _REACH) & (off < _LIKE) & other
    # A speck of that colour is not the region.
    its &= cv2.blur((its | inside).astype(np.float32), (3, 3)) > 0.5
    return np.where(its, regions.on_planes(extended), 0).astype(np.float32)
