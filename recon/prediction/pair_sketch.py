"""A sketch of a pair's prediction: a grid of pixels that stands for all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array, pixel_centres
from recon.prediction.pointmap_focal import DEFAULT_FOCAL, weiszfeld_focal
from recon.stage_results import PairSketch

if TYPE_CHECKING:
    from pointmap.images import Photo
    from pointmap.inference import PairPrediction


SAMPLE_GRID = 20
"""Rows, and columns, of the grid of pixels that stands for a whole prediction."""

SAMPLES = SAMPLE_GRID**2
"""Pixels of each photo that stand for a whole prediction."""


def sketch_pair(prediction: PairPrediction, photo_i: Photo) -> PairSketch:
    """Return the sketch of a prediction; its size doesn't depend on the prediction's."""
    points_i, confidence_i = _sampled(prediction.points_i, prediction.confidence_i)
    points_j, confidence_j = _sampled(prediction.points_j, prediction.confidence_j)
    confidence_i[points_i[:, 2] <= 0] = 0
    focal = weiszfeld_focal(
        points_i,
        sample_pixels(prediction.confidence_i.shape, photo_i),
        confidence_i,
        fallback_px=DEFAULT_FOCAL * max(photo_i.width, photo_i.height),
    )
    return PairSketch(
        prediction.i,
        prediction.j,
        points_i,
        confidence_i,
        points_j,
        confidence_j,
        focal.focal_px,
    )


def _sampled(
    points: NDArray[np.float32], confidence: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    grid = sample_grid(confidence.shape)
    points, confidence = points[grid].reshape(-1, 3), confidence[grid].ravel()
    usable = np.isfinite(points).all(1) & np.isfinite(confidence) & (points != 0).any(1)
    return (
        np.where(usable[:, None], points, 0).astype(np.float32),
        np.where(usable, confidence, 0).astype(np.float32),
    )


def sample_grid(shape: tuple[int, ...]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return rows and columns that pick :data:`SAMPLES` evenly spread pixels of a map (h, w)."""
    steps = (np.arange(SAMPLE_GRID) + 0.5) / SAMPLE_GRID
    rows, columns = ((steps * side).astype(np.int64) for side in shape[:2])
    return rows[:, None], columns[None]


def sample_pixels(shape: tuple[int, ...], photo: Photo) -> Array:
    """Return the positions (S, 2) of a map's samples in original pixels from the photo's middle."""
    positions = original_pixels(shape[:2], photo)[sample_grid(shape)]
    return positions.reshape(-1, 2) - photo.middle


def original_pixels(shape: tuple[int, ...], photo: Photo) -> Array:
    """Return the positions (h, w, 2) in the original photo of a network-sized map's pixels."""
    height, width = shape
    return pixel_centres(width, height) * [photo.width / width, photo.height / height]
