"""Which planes of a photo's plain regions other photos bear out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from recon.stereo.photo import Photo2D, pixel_terms
from recon.stereo.region_planes import RegionPlanes

_SAME, _EVERY = 0.02, 2
"""Depths that differ relatively by less are one surface; every so many-th pixel is asked."""
_AGREED, _OFTENER = 0.4, 1.5
"""A region's plane is agreed on where this share of its pixels is borne out, and so many times as
many as are contradicted."""
_LEAST_SHARP = 0.01
"""A plane less sharp than this (:class:`RegionPlanes`) is the prior's alone, and so may be the
others' that agree."""
_UNSEEN, _SHARP = 0.3, 0.05
"""A plane that is contradicted at less than the first share of its pixels may stand by itself if it
is as sharp as this."""


def agreed_regions(
    own: RegionPlanes,
    photo: Photo2D,
    others: Sequence[tuple[RegionPlanes, Photo2D, NDArray[np.float32]]],
) -> RegionPlanes:
    """Return the regions whose planes ``others`` bear out: by planes of their own regions there, or
    by depth that they know (inverse (h, w), 0 = unknown).

    Each other photo's regions were found without these, so that planes which agree seldom do so by
    chance.
    """
    labels = own.labels[::_EVERY, ::_EVERY]
    rows, columns = np.nonzero(labels)
    label = labels[rows, columns]
    inverse = own.inverse(*own.labels.shape)[::_EVERY, ::_EVERY][rows, columns]
    at = np.stack([columns * _EVERY + 0.5, rows * _EVERY + 0.5, np.ones(len(rows))], axis=1)
    votes = np.zeros(len(label))
    for regions, other, known in others:
        A, b = (term.double().cpu().numpy() for term in pixel_terms(photo, other))
        u, v, z = (at @ A.T + inverse[:, None] * b).T
        height, width = known.shape
        with np.errstate(divide="ignore", invalid="ignore"):
            u, v = u / z, v / z
            inside = (z > 0) & (inverse > 0) & (u >= 0) & (u < width) & (v >= 0) & (v < height)
        place = np.where(inside, v, 0).astype(int), np.where(inside, u, 0).astype(int)
        # Inverse depth over the plane's: of what the other's regions have there, and what it knows.
        scale = np.where(inside, z / np.maximum(inverse, 1e-12), 0)
        planes, sure = regions.inverse(height, width)[place] * scale, known[place] * scale
        there = np.where(planes > 0, planes, sure)
        votes += (there > 0) & (np.abs(there - 1) < _SAME)
        # What is known nearer hides the plane; a region's plane that differs speaks against it.
        votes -= ((planes > 0) & (np.abs(planes - 1) >= _SAME)) | (
            (planes == 0) & (sure > 0) & (sure <= 1 - _SAME)
        )
    count = len(own.planes) + 1
    pixels = np.maximum(np.bincount(label, minlength=count), 1)
    good, bad = (
        (np.bincount(label, side, minlength=count) / pixels)[1:] for side in (votes > 0, votes < 0)
    )
    agreed = (good >= _AGREED) & (good > _OFTENER * bad) & (own.sharpness >= _LEAST_SHARP)
    alone = (bad < _UNSEEN) & (own.sharpness >= _SHARP)
    return own.only(agreed | alone)
