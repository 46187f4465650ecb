"""SIFT key points of photos, and their matches between two of them.

All positions are x, y in the ORIGINAL photo, pixel centres at +0.5 (see :mod:`pointmap.camera`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pointmap.images import ResizedPhoto
from pointmap.masks import eroded
from recon.stage_results import SIFT_SIGMA_PX, PairMatches, PhotoFeatures

if TYPE_CHECKING:
    import cv2

FEATURE_LONG_SIDE = 1600
"""Long side, in pixels, at which photos are best handed to :func:`extract_features`."""

FEATURES = 4096
"""Key points of a photo at most, unless told otherwise."""

# A quarter of OpenCV's default, so that a 640 px photo gives thousands of key points.
_CONTRAST = 0.01
# Of many key points those are kept whose contrast times size to this power is largest: fine ones of
# leaves and gravel, of which a sharp photo has ten thousands, are seldom found in another photo.
_SIZE_POWER = 2
# A match's distance is less than this share of that to the second nearest (Lowe 2004, section 7.1).
_RATIO = 0.85
# With fewer pixels a key point that is wanted, few are found beyond those, and to describe them all
# takes less than the second pyramid that OpenCV builds to describe the chosen ones alone.
_ALL_AT_ONCE = 100
# Key points compared with all of another photo at once: the scores stay in the processor's cache.
_ROWS = 256
# Pixels around what is not masked that are searched, too: key points see what is around them. And
# the part begins at a multiple of it, so that its pyramid has the pixels of the whole photo's.
_AROUND = 64


def extract_features(
    photo: ResizedPhoto,
    *,
    limit: int = FEATURES,
    magnify: float = 1.0,
) -> PhotoFeatures:
    """Return the SIFT key points of a photo, RootSIFT descriptors (Arandjelovic 2012).

    ``photo``: resized to about :data:`FEATURE_LONG_SIDE`. At most ``limit`` key points, those of
    the highest contrast and the largest size. A photo without texture gives none (arrays of length
    0), and there is none where the photo is masked or transparent, or right beside that.
    ``magnify`` enlarges the picture first: smaller key points, no more accurate ones.
    """
    import cv2

    height, width = photo.pixels.shape[:2]
    # Without precise up-scaling OpenCV's first octave shifts all positions by a quarter pixel.
    sift = cv2.SIFT_create(  # type: ignore[attr-defined]  # missing from OpenCV's stubs
        contrastThreshold=_CONTRAST, enable_precise_upscale=True
    )
    grey = cv2.cvtColor(np.ascontiguousarray(photo.pixels), cv2.COLOR_RGB2GRAY)
    if magnify != 1:
        size = round(magnify * width), round(magnify * height)
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_CUBIC)
    whole = np.array(grey.shape[::-1])
    where = _where(photo, grey.shape)
    part = _part(where)
    grey, where = grey[part], None if where is None else where[part]
    if grey.size < _ALL_AT_ONCE * limit:
        found, descriptors = sift.detectAndCompute(grey, where)
        chosen = _chosen(found, limit)
        keypoints = [found[k] for k in chosen]
        descriptors = descriptors[chosen] if keypoints else None
    else:
        found = sift.detect(grey, where)
        keypoints, descriptors = sift.compute(grey, [found[k] for k in _chosen(found, limit)])
    scale = np.array([photo.photo.width / width, photo.photo.height / height])
    sigma_px = SIFT_SIGMA_PX * float(scale.mean())
    if not keypoints:
        none = np.zeros((0, 3), np.uint8)
        return PhotoFeatures(np.zeros((0, 2)), np.zeros((0, 128), np.float32), none, sigma_px)
    # OpenCV puts pixel centres at integers; resizing is a pure factor only with centres at +0.5.
    xy = np.array([keypoint.pt for keypoint in keypoints], np.float64) + 0.5
    xy += part[1].start, part[0].start
    xy *= np.array([width, height]) / whole
    column, row = np.clip(xy.astype(int), 0, [width - 1, height - 1]).T
    root = np.sqrt(descriptors / np.maximum(descriptors.sum(1, keepdims=True), 1e-9))
    return PhotoFeatures(xy * scale, root.astype(np.float32), photo.pixels[row, column], sigma_px)


def _chosen(found: Sequence[cv2.KeyPoint], limit: int) -> NDArray[np.int64]:
    """Return the numbers, in their order, of those key points that are kept."""
    worth = np.array([keypoint.response * keypoint.size**_SIZE_POWER for keypoint in found])
    return np.sort(np.argsort(-worth, kind="stable")[:limit])


def match_features(
    features_i: PhotoFeatures, features_j: PhotoFeatures, i: int, j: int
) -> PairMatches:
    """Return the mutual nearest neighbours that pass Lowe's ratio test in both directions.

    ``i`` < ``j`` are the photos' numbers. No match is a result too (length 0).
    """
    index_i, index_j = _mutual_neighbours(features_i.descriptors, features_j.descriptors)
    return PairMatches.of_key_points(i, j, features_i, features_j, index_i, index_j)


def match_count(descriptors_i: NDArray[np.float32], descriptors_j: NDArray[np.float32]) -> int:
    """Return how many matches unit descriptors (K, C) have: as of :func:`match_features`."""
    return len(_mutual_neighbours(descriptors_i, descriptors_j)[0])


def _mutual_neighbours(
    descriptors_i: NDArray[np.float32], descriptors_j: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the numbers in i and in j of matching unit descriptors (K, C)."""
    if min(len(descriptors_i), len(descriptors_j)) < 2:
        none = np.zeros(0, np.int64)
        return none, none
    best_j, distinct_i = _best_and_distinct(descriptors_i, descriptors_j)
    index_i = np.flatnonzero(distinct_i)
    # Looking back only from those that may become matches, a fraction of all, is many times faster.
    asked, place = np.unique(best_j[index_i], return_inverse=True)
    best_i, distinct_j = _best_and_distinct(descriptors_j[asked], descriptors_i)
    keep = (best_i[place] == index_i) & distinct_j[place]
    return index_i[keep], best_j[index_i[keep]]


def _where(photo: ResizedPhoto, size: tuple[int, ...]) -> NDArray[np.uint8] | None:
    """Return where key points may be, (h, w) of that size, None for everywhere."""
    import cv2

    if photo.usable is None:
        return None
    # Colours are continued over what is masked, but what they meet there is no corner of a thing.
    inner = eroded(photo.usable).astype(np.uint8)
    return cv2.resize(inner, size[::-1], interpolation=cv2.INTER_NEAREST).astype(np.uint8)


def _part(where: NDArray[np.uint8] | None) -> tuple[slice, slice]:
    """Return the rows and columns of the picture that key points need, as they may be ``where``
    (h, w): a thing that was cut out is often a small part of it.
    """
    if where is None or not where.any():
        return np.s_[0:, 0:]
    sides = (np.flatnonzero(where.any(axis=axis)) for axis in (1, 0))
    first_last = [(int(side[0]), int(side[-1])) for side in sides]
    rows, columns = (
        slice(max(first - _AROUND, 0) // _AROUND * _AROUND, last + _AROUND + 1)
        for first, last in first_last
    )
    return rows, columns


def _best_and_distinct(
    queries: NDArray[np.float32], others: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return for each query (Q, C) the number of the nearest of ``others`` (K, C), and whether the
    second nearest is clearly further.
    """
    import torch

    best = np.zeros(len(queries), np.int64)
    top = np.zeros((len(queries), 2))
    asked, columns = torch.from_numpy(queries), torch.from_numpy(others).T
    scores = torch.empty(_ROWS, len(others))
    for start in range(0, len(queries), _ROWS):
        block = np.s_[start : start + _ROWS]
        # By torch, which one thread can be told to do alone while others match other photos.
        found = torch.mm(asked[block], columns, out=scores[: len(asked[block])]).numpy()
        rows, nearest = np.arange(len(found)), found.argmax(axis=1)
        best[block], top[block, 0] = nearest, found[rows, nearest]
        found[rows, nearest] = -np.inf
        top[block, 1] = found.max(axis=1)
    # Squared distance of unit vectors is 2 - 2 cos.
    distance = np.maximum(2 - 2 * top, 0)
    return best, distance[:, 0] < _RATIO**2 * distance[:, 1]
