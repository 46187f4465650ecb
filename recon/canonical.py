"""One pointmap per photo, gathered from all pairs that predicted it in its own camera frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import pixel_centres
from recon.intrinsics import DEFAULT_FOCAL, weighted_median, weiszfeld_focal

if TYPE_CHECKING:
    from pointmap.images import Photo
    from pointmap.inference import PairPrediction

_FOCAL_SAMPLES = 20000


@dataclass(frozen=True)
class PhotoPrior:
    """What the network says of one photo alone.

    ``points`` (h, w, 3) float32 in the photo's own camera frame, scale arbitrary per photo;
    ``confidence`` (h, w) float32, >= 1 where something was predicted and 0 (with a point of zeros)
    where nothing usable was; ``focal_px`` in original pixels (Weiszfeld), 1.2 x the long side where
    the points don't tell. A photo that no pair predicted has one single pixel of confidence 0.
    """

    points: NDArray[np.float32]
    confidence: NDArray[np.float32]
    focal_px: float


class PriorAccumulator:
    """Averages the predictions of each photo as they come; memory is linear in photos.

    Every prediction is brought to the scale of what is there already (weighted median of log depth
    ratios). Points are averaged with weights confidence^2: a network trained with DUSt3R's loss
    expects an error inversely proportional to its confidence, so that this is the inverse variance.
    """

    def __init__(self, photos: Sequence[Photo]) -> None:
        self._photos = photos
        self._running: dict[int, _Running] = {}

    def add(self, prediction: PairPrediction) -> None:
        """Take in what ``prediction`` says of photo i, in whose frame it is."""
        running = self._running.get(prediction.i)
        if running is None:
            running = self._running[prediction.i] = _Running(prediction.confidence_i.shape)
        running.add(prediction.points_i, prediction.confidence_i)

    def finish(self) -> list[PhotoPrior]:
        """Return one prior per photo, in the order of the photos."""
        return [self._prior(number, photo) for number, photo in enumerate(self._photos)]

    def _prior(self, number: int, photo: Photo) -> PhotoPrior:
        running = self._running.get(number, _Running((1, 1)))
        points, confidence = running.mean()
        height, width = confidence.shape
        scale = np.array([photo.width / width, photo.height / height])
        pixels = pixel_centres(width, height) * scale - [photo.width / 2, photo.height / 2]
        stride = max(1, int(np.sqrt(confidence.size / _FOCAL_SAMPLES)))
        thin = np.s_[::stride, ::stride]
        focal = weiszfeld_focal(
            points[thin],
            pixels[thin],
            confidence[thin],
            fallback_px=DEFAULT_FOCAL * max(photo.width, photo.height),
        )
        return PhotoPrior(points, confidence, focal.focal_px)


class _Running:
    """Weighted sums over the predictions of one photo."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._points = np.zeros((*shape, 3), np.float32)
        self._weight = np.zeros(shape, np.float32)
        self._confidence = np.zeros(shape, np.float32)

    def add(self, points: NDArray[np.float32], confidence: NDArray[np.float32]) -> None:
        usable = np.isfinite(points).all(-1) & (points[..., 2] > 0) & np.isfinite(confidence)
        if not usable.any():
            return
        weight = np.where(usable, confidence, 0).astype(np.float32) ** 2
        scale = self._scale_of(points, weight)
        # Zeros and not NaN: a weight of 0 doesn't remove a NaN.
        points = np.where(usable[..., None], points, 0)
        self._points += weight[..., None] * scale * points
        self._weight += weight
        self._confidence += weight * np.where(usable, confidence, 0)

    def _scale_of(self, points: NDArray[np.float32], weight: NDArray[np.float32]) -> np.float32:
        """Return the factor that brings ``points`` to the running scale (median depth about 1)."""
        both = (weight > 0) & (self._weight > 0)
        if both.any():
            ratio = self._points[both][:, 2] / self._weight[both] / points[both][:, 2]
            return np.float32(np.exp(weighted_median(np.log(ratio), weight[both])))
        there = weight > 0
        return np.float32(1 / weighted_median(points[there][:, 2], weight[there]))

    def mean(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return points (h, w, 3) and confidence (h, w) averaged so far."""
        weight = np.maximum(self._weight, np.float32(1e-12))
        points = (self._points / weight[..., None]).astype(np.float32)
        return points, (self._confidence / weight).astype(np.float32)
