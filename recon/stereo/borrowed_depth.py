"""Depth of a photo that is not searched: what its neighbours' confirmed depth makes of it."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from recon.stereo.cross_check import DeviceDepth, reproject_confirmed
from recon.stereo.fill_unconfirmed import close_gaps
from recon.stereo.photo import Photo2D, box_mean
from recon.stereo.plane_sweep import scorer_of

# A borrowed depth that matches worse than this (scores are -1 to 1) is hidden in this photo by
# something nearer that no neighbour confirmed, or moved.
_LEAST_SCORE = 0.0
# Pixels to either side over which that is judged.
_JUDGED_PX = 2


def borrowed_depth(
    photo: Photo2D, sources: Sequence[Photo2D], neighbours: Sequence[DeviceDepth]
) -> DeviceDepth:
    """Return the nearest confirmed depth of ``neighbours`` seen from ``photo``, 0 where none is.

    The small gaps that the neighbours' pixels leave between them are closed. The depth is scored
    against the ``sources`` as a searched one is; what the photo itself speaks against is left out.
    """
    seen = close_gaps(reproject_confirmed(photo, neighbours))
    known = seen.depth > 0
    inverse = torch.where(known, 1 / seen.depth.clamp_min(1e-12), 0.0)
    score = scorer_of(photo, sources)(inverse[None])[0]
    fits = box_mean(torch.where(known, score, 0.0), _JUDGED_PX) > _LEAST_SCORE
    keep = known & fits
    return DeviceDepth(torch.where(keep, seen.depth, 0.0), torch.where(keep, score, 0.0), photo)
