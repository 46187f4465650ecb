"""One pointmap per photo, gathered from all pairs that predicted it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class PhotoPrior:
    """What the network says of one photo alone.

    ``points`` (h, w, 3) float32 in the photo's own camera frame, scale arbitrary per photo;
    ``confidence`` (h, w) float32, >= 1 where something was predicted and 0 where nothing usable
    was; ``focal_px`` in original pixels (Weiszfeld).
    """

    points: NDArray[np.float32]
    confidence: NDArray[np.float32]
    focal_px: float
