"""One pointmap per photo, gathered from all pairs that predicted it in its own camera frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import pixel_centres
from recon.prediction.pointmap_focal import DEFAULT_FOCAL, weighted_median, weiszfeld_focal
from recon.stage_results import PhotoPrior

if TYPE_CHECKING:
    from pointmap.images import Photo

# Pixels, evenly over the photo, from which its focal length, and a prediction's scale, are found: a
# median of so many is as good as one of all.
_FOCAL_SAMPLES = 20000
_SCALE_SAMPLES = 4000
# Predictions of a pixel agree within so many times their typical disagreement.
_TOLERANCE = 5.0
# And always within 2 % of depth.
_LEAST_TOLERANCE = 0.02


class OwnPoints(Protocol):
    """What a prediction says of photo ``i`` in its own frame, such as
    :class:`pointmap.inference.PairPrediction`.
    """

    @property
    def i(self) -> int:
        """The photo's number."""

    @property
    def points_i(self) -> NDArray[np.float32]:
        """(h, w, 3) points of its pixels."""

    @property
    def confidence_i(self) -> NDArray[np.float32]:
        """(h, w)."""


class PriorAccumulator:
    """Averages the predictions of each photo as they come; memory is linear in photos begun.

    A pixel's depth is that of the heavier of two groups of predictions that agree among themselves.
    Every prediction is brought to the scale of what is there already (weighted median of log depth
    ratios). Points are averaged with weights confidence^2: a network trained with DUSt3R's loss
    expects an error inversely proportional to its confidence, so that this is the inverse variance.
    """

    def __init__(self, photos: Sequence[Photo]) -> None:
        self._photos = photos
        self._running: dict[int, _Running] = {}

    def add(self, prediction: OwnPoints) -> None:
        """Take in what ``prediction`` says of photo i, in whose frame it is."""
        running = self._running.get(prediction.i)
        if running is None:
            running = self._running[prediction.i] = _Running(prediction.confidence_i.shape)
        running.add(prediction.points_i, prediction.confidence_i)

    def finish(self) -> list[PhotoPrior]:
        """Return one prior per photo, in the order of the photos."""
        return [self.prior(number) for number in range(len(self._photos))]

    def prior(self, number: int) -> PhotoPrior:
        """Return the prior of photo ``number`` and forget its predictions."""
        photo = self._photos[number]
        running = self._running.pop(number, _Running((1, 1)))
        points, confidence = running.mean()
        height, width = confidence.shape
        scale = np.array([photo.width / width, photo.height / height])
        pixels = pixel_centres(width, height) * scale - photo.middle
        stride = max(1, int(np.sqrt(confidence.size / _FOCAL_SAMPLES)))
        thin = np.s_[::stride, ::stride]
        focal = weiszfeld_focal(
            points[thin],
            pixels[thin],
            confidence[thin],
            fallback_px=DEFAULT_FOCAL * max(photo.width, photo.height),
        )
        return PhotoPrior(points, confidence, focal.focal_px, running.unit)


class _Running:
    """Robust running averages over the predictions of one photo.

    Each pixel has two candidates, weighted sums of predictions that agree with one another. A
    prediction joins the leading one it agrees with, else the rival, or replaces a weaker rival; the
    heavier candidate leads. So a wrong depth is outvoted whenever it comes, at twice the memory.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shape = shape
        size = shape[0] * shape[1]
        # x, y, z and confidence times weight, and the weight.
        self._leader = np.zeros((size, 5), np.float32)
        self._rival = np.zeros((size, 5), np.float32)
        self._log_scales: list[float] = []

    @property
    def unit(self) -> float:
        """Length of one unit of the average in the predictions' own units (geometric mean)."""
        return float(np.exp(-np.mean(self._log_scales))) if self._log_scales else 1.0

    def add(self, points: NDArray[np.float32], confidence: NDArray[np.float32]) -> None:
        points, confidence = points.reshape(-1, 3), confidence.ravel()
        usable = np.isfinite(points).all(1) & (points[:, 2] > 0) & np.isfinite(confidence)
        if not usable.any():
            return
        weight = np.where(usable, confidence, 0).astype(np.float32) ** 2
        # Zeros and not NaN: a weight of 0 doesn't remove a NaN.
        points = np.where(usable[:, None], points, np.float32(0))
        scale, tolerance = self._scale_of(points, weight)
        self._log_scales.append(float(np.log(scale)))
        new = np.empty((len(points), 5), np.float32)
        np.multiply(points, (scale * weight)[:, None], out=new[:, :3])
        new[:, 3] = weight * np.where(usable, confidence, 0)
        new[:, 4] = weight
        agrees = _agrees(new, self._leader, tolerance) | (self._leader[:, 4] == 0)
        self._leader += new * agrees[:, None]
        others = np.flatnonzero(~agrees & usable)
        if len(others):
            self._vote(others, new[others], tolerance)

    def _vote(self, pixels: NDArray[np.int64], new: NDArray[np.float32], tolerance: float) -> None:
        """Take in predictions ``new`` (P, 5) of ``pixels`` (P,) that the leader disagrees with."""
        rival, leader = self._rival[pixels], self._leader[pixels]
        joins = _agrees(new, rival, tolerance)
        replaces = ~joins & (new[:, 4] > rival[:, 4])
        rival = np.where(replaces[:, None], new, rival + new * joins[:, None])
        overtakes = (rival[:, 4] > leader[:, 4])[:, None]
        self._leader[pixels] = np.where(overtakes, rival, leader)
        self._rival[pixels] = np.where(overtakes, leader, rival)

    def _scale_of(
        self, points: NDArray[np.float32], weight: NDArray[np.float32]
    ) -> tuple[np.float32, float]:
        """Return the factor that brings ``points`` to the running scale (median depth about 1), and
        how far the logarithms of two depths of one surface may then be apart.
        """
        thin = np.flatnonzero(weight)
        thin = thin[:: max(1, len(thin) // _SCALE_SAMPLES)]
        z, weight, leader = points[thin, 2], weight[thin], self._leader[thin]
        both = leader[:, 4] > 0
        if not both.any():
            return np.float32(1 / weighted_median(z, weight)), _LEAST_TOLERANCE
        log_ratio = np.log(leader[both, 2] / leader[both, 4] / z[both])
        shift = weighted_median(log_ratio, weight[both])
        spread = weighted_median(np.abs(log_ratio - shift), weight[both])
        return np.float32(np.exp(shift)), max(_TOLERANCE * spread, _LEAST_TOLERANCE)

    def mean(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return points (h, w, 3) and confidence (h, w) averaged so far.

        Where predictions disagree, what confidence exceeds 1 is cut to the leader's share of them.
        """
        weight = np.maximum(self._leader[:, 4:], np.float32(1e-12))
        mean = self._leader[:, :4] / weight
        share = weight[:, 0] / (weight[:, 0] + self._rival[:, 4])
        confidence = np.where(mean[:, 3] > 1, 1 + (mean[:, 3] - 1) * share, mean[:, 3])
        return (
            mean[:, :3].astype(np.float32).reshape(*self._shape, 3),
            confidence.astype(np.float32).reshape(self._shape),
        )


def _agrees(
    new: NDArray[np.float32], old: NDArray[np.float32], tolerance: float
) -> NDArray[np.bool_]:
    """Return where depths of weighted sums (P, 5) are within a factor exp(``tolerance``)."""
    z_new, z_old = new[:, 2] * old[:, 4], old[:, 2] * new[:, 4]
    factor = np.float32(np.exp(tolerance))
    return (z_new < factor * z_old) & (z_old < factor * z_new)
