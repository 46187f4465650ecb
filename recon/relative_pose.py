"""Relative pose of two photos: three methods, one result type."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array
from recon.matching import PairMatches


@dataclass(frozen=True)
class RelativePose:
    """Pose of photo j (camera 2) relative to photo i (camera 1).

    ``cam2_to_cam1`` (4, 4) float64. The translation has unit length unless ``metric_scale``: then
    it is in the units of photo i's prediction. ``method``: "essential", "procrustes" or "pnp".
    ``inliers`` (M,) bool over the pair's matches. ``score`` in [0, 1]. ``flags``: any of
    "pure_rotation", "planar", "few_matches", "no_parallax".
    """

    cam2_to_cam1: Array
    method: str
    inliers: NDArray[np.bool_]
    score: float
    flags: frozenset[str] = frozenset()
    metric_scale: bool = False


@dataclass(frozen=True)
class PairEdge:
    """An edge of the pose graph. Later stages use ``matches`` restricted to ``pose.inliers``."""

    matches: PairMatches
    pose: RelativePose
