"""Depth maps of other models, scaled and shifted to the solved scene points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from recon.depth.anchored_prior import photo_anchors
from recon.prediction.affine_fit import KINDS, AffineFit, Kind, fit_affine
from recon.stage_results import Alignment, PhotoPrior

if TYPE_CHECKING:
    from pointmap.images import ResizedPhoto
    from recon.prediction.given_maps import PriorMap

# Scene points, some of them wrong, that two numbers are fitted to at least.
_FEWEST_POINTS = 8


def priors_from_scene(
    maps: Sequence[PriorMap],
    frames: Sequence[ResizedPhoto],
    alignment: Alignment,
    before: Sequence[PhotoPrior],
) -> list[PhotoPrior]:
    """Return a prior per photo whose map is scaled and shifted to the solved scene points.

    One kind for all maps: the one that fits the points better. Photos without enough points keep
    the prior of ``before``.
    """
    fits: dict[Kind, dict[int, AffineFit]] = {kind: {} for kind in KINDS}
    for k, (map_, frame) in enumerate(zip(maps, frames, strict=True)):
        if alignment.cam_to_world[k] is None:
            continue
        anchors = photo_anchors(alignment, k, frame)
        values = map_.at(anchors.xy / [frame.scale_x, frame.scale_y], frame.photo)
        use = values != 0
        for kind in KINDS if use.sum() >= _FEWEST_POINTS else ():
            fit = fit_affine(values[use], anchors.z[use], kind=kind)
            if fit is not None:
                fits[kind][k] = fit
    # A kind that fits more photos wins before one that fits them better.
    best = fits[max(KINDS, key=lambda kind: (len(fits[kind]), -_typical_error(fits[kind])))]
    return [
        map_.prior(best[k], float(alignment.intrinsics[k][0, 0]), frame.photo)
        if k in best
        else before[k]
        for k, (map_, frame) in enumerate(zip(maps, frames, strict=True))
    ]


def _typical_error(fits: dict[int, AffineFit]) -> float:
    return float(np.median([fit.error for fit in fits.values()])) if fits else np.inf
