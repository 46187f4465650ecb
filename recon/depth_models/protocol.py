"""What any model that sees depth in one photo looks like to the pipeline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from recon.prediction.affine_fit import MapKind


@dataclass(frozen=True)
class DepthPrediction:
    """What a model says of one photo.

    ``values`` (h, w) float32 over the whole photo, at any size of its shape, of the model's
    ``kind``; 0 and values that are not finite are unknown. ``confidence`` (h, w) in [0, 1), or None
    where the model is as sure everywhere; ``focal_px``: of the photo as it was given, or None.
    """

    values: NDArray[np.float32]
    confidence: NDArray[np.float32] | None = None
    focal_px: float | None = None


class DepthModel(Protocol):
    """A model that sees depth in one photo; attributes as they are, no more is asked of it."""

    @property
    def name(self) -> str:
        """What people call it, for run.json and messages."""

    @property
    def kind(self) -> MapKind:
        """What its maps hold."""

    @property
    def licence(self) -> str:
        """Of its weights, as their publisher calls it; "unknown" where that is not said."""

    @property
    def content_key(self) -> str:
        """Equal for models that say the same of the same photo: a digest of weights and settings.

        What is kept in a work folder depends on it.
        """

    def predict(self, pixels: NDArray[np.uint8]) -> DepthPrediction:
        """Return what the model says of a photo (h, w, 3), RGB, upright."""


@runtime_checkable
class PromptedDepthModel(DepthModel, Protocol):
    """A model that also takes what is known of a photo's depth, and asks for it where it can be
    had: once the cameras are solved.
    """

    def predict_prompted(
        self, pixels: NDArray[np.uint8], depth: NDArray[np.float32]
    ) -> DepthPrediction:
        """Return what the model says of a photo (h, w, 3) of which a coarse ``depth`` (h', w') over
        the whole photo is known, along z, in any unit; of the same kind as without it.
        """
