"""What stereo takes: a posed photo with its prior, and its options."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array
from recon.stage_results import DepthMap


@dataclass(frozen=True)
class StereoView:
    """One registered photo at the resolution of its depth map.

    ``pixels`` (h, w, 3) uint8 RGB; ``intrinsics`` (3, 3) at this resolution, of a pinhole:
    photos of other lenses are resampled first (:mod:`recon.depth.undistorted`);
    ``cam_to_world`` (4, 4); ``prior`` is the depth to start from and to fall back to (0 = unknown);
    ``points`` (P, 3) world are the scene points seen in this photo, ``point_ids`` (P,) their
    identity across photos. Both may be empty. ``usable`` (h, w): where there may be depth, None for
    everywhere.
    """

    pixels: NDArray[np.uint8]
    intrinsics: Array
    cam_to_world: Array
    prior: DepthMap
    points: Array
    point_ids: NDArray[np.int64]
    usable: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class StereoOptions:
    """How depth is refined."""

    sources: int = 5
    """How many neighbouring photos each photo is compared with."""
    max_planes: int = 192
    """Most depth hypotheses of the full sweep; fewer are used when the baselines are short."""
    tolerance: float = 0.015
    """Relative depth difference up to which another photo confirms a depth."""
    tolerance_px: float = 1.5
    """How far a pixel may land from where it started, there and back, to be confirmed."""
    planes: bool = True
    """Let plain surfaces and gaps follow planes through confirmed depth; most of the work on small
    maps."""
    prior_weight: float = 0.1
    """Say of the prior against the photos; their scores span 0 to 1."""
