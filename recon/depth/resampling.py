"""Depth at the resolution of the photo: its edges follow the photo's edges.

Smooth depth is interpolated. Beside discontinuities the depth of one side is taken, the side whose
photo colours are like the pixel's: joint bilateral weights (Kopf et al. 2007), but the strongest
group instead of their mean, which would lie between the surfaces.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recon.depth.derived_maps import on_edge
from recon.stage_results import DepthMap

# Standard deviation of the weights, in levels of a colour and in pixels of the small depth.
_COLOUR, _DISTANCE = 20.0, 1.5
# A step of inverse depth, as a share of it, that is a discontinuity.
_JUMP = 0.03
# Depth predictions that differ relatively by less are one surface.
_SAME = 0.02
# Pixels of the photo handled at once, for bounded memory.
_CHUNK = 200_000


def upsample_depth(depth: DepthMap, photo: NDArray[np.uint8]) -> DepthMap:
    """Return ``depth`` at the size of ``photo`` (H, W, 3), which shows the same field of view.

    Pixels whose nearest depth is unknown stay unknown. A photo that is no larger comes back with
    the depth as it is.
    """
    import cv2

    height, width = photo.shape[:2]
    h, w = depth.depth.shape
    if (height, width) == (h, w):
        return depth
    known = np.isfinite(depth.depth) & (depth.depth > 0)
    inverse = np.where(known, 1 / np.where(known, depth.depth, 1), 0).astype(np.float32)
    size = (width, height)
    smooth = cv2.resize(inverse, size, interpolation=cv2.INTER_LINEAR)
    there = cv2.resize(known.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
    edge = on_edge(np.where(known, depth.depth, 0).astype(np.float32), _JUMP) | ~known
    beside = cv2.dilate(edge.astype(np.uint8), np.ones((5, 5), np.uint8))
    near = (cv2.resize(beside, size, interpolation=cv2.INTER_NEAREST) > 0) & there
    rows, columns = np.nonzero(near)
    gradients = _gradients(inverse)
    for start in range(0, len(rows), _CHUNK):
        part = slice(start, start + _CHUNK)
        smooth[rows[part], columns[part]] = _of_one_side(
            inverse, gradients, photo, rows[part], columns[part]
        )
    confidence = cv2.resize(
        depth.confidence.astype(np.float32), size, interpolation=cv2.INTER_NEAREST
    )
    good = there & (smooth > 0)
    return DepthMap(
        np.where(good, 1 / np.where(good, smooth, 1), 0).astype(np.float32),
        np.where(good, confidence, 0).astype(np.float32),
    )


def _gradients(inverse: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the slopes (h, w) of inverse depth along x and y, on the flatter side of each pixel:
    the other one may lie across an edge. 0 where neither neighbour is known.
    """
    slopes = []
    for axis in (1, 0):
        step = np.diff(inverse, axis=axis)
        first, second = (slice(None, -1), slice(1, None))
        before, after = (
            (inverse[first], inverse[second])
            if axis == 0
            else (inverse[:, first], inverse[:, second])
        )
        step[(before == 0) | (after == 0)] = np.inf
        pad = [(1, 0), (0, 0)] if axis == 0 else [(0, 0), (1, 0)]
        back = np.pad(step, pad, constant_values=np.inf)
        ahead = np.pad(step, [side[::-1] for side in pad], constant_values=np.inf)
        slope = np.where(np.abs(back) < np.abs(ahead), back, ahead)
        slopes.append(np.where(np.isfinite(slope), slope, 0).astype(np.float32))
    return slopes[0], slopes[1]


def _of_one_side(
    inverse: NDArray[np.float32],
    gradients: tuple[NDArray[np.float32], NDArray[np.float32]],
    photo: NDArray[np.uint8],
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
) -> NDArray[np.float32]:
    """Return the inverse depth (P,) of pixels (P,) of the photo from the 4 x 4 small ones around.

    Each of those extends its own slope to the pixel; the group of those that agree with the most
    weight decides, by its weighted mean.
    """
    (h, w), (height, width) = inverse.shape, photo.shape[:2]
    y, x = (rows + 0.5) * h / height - 0.5, (columns + 0.5) * w / width - 0.5
    steps = np.arange(-1, 3)
    i = np.clip(np.floor(y).astype(int)[:, None] + steps.repeat(4), 0, h - 1)
    j = np.clip(np.floor(x).astype(int)[:, None] + np.tile(steps, 4), 0, w - 1)
    dy, dx = y[:, None] - i, x[:, None] - j
    found = inverse[i, j]
    extended = found + gradients[0][i, j] * dx + gradients[1][i, j] * dy
    # The large photo itself at the small pixels' centres: shrunk colours mix both sides.
    v, u = ((i + 0.5) * height / h).astype(int), ((j + 0.5) * width / w).astype(int)
    colour = photo[v, u].astype(np.float32) - photo[rows, columns].astype(np.float32)[:, None]
    unlike = (colour**2).sum(-1) / _COLOUR**2 + (dx**2 + dy**2) / _DISTANCE**2
    # Where no colour is alike, the nearest still counts most.
    weight = np.exp(-0.5 * np.minimum(unlike, 60)) * (found > 0)
    same = np.abs(extended[:, :, None] - extended[:, None]) < _SAME * extended[:, None]
    support = np.einsum("pij,pi->pj", same, weight)
    best = support.argmax(axis=1)
    weight = weight * same[np.arange(len(rows)), :, best]
    total = weight.sum(axis=1)
    mean = (weight * extended).sum(axis=1) / np.maximum(total, 1e-30)
    return np.where(total > 0, mean, 0).astype(np.float32)
