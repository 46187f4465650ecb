"""Depth that other photos confirmed, tried where a search found another.

Where few of a photo's sources see a surface (the floor between two chairs), what a search finds is
left to chance, though other photos have it. Their depth is one more hypothesis, taken where it
matches as well as what was found (propagation between views: Xu and Tao, ACMM, 2019).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from recon.stereo.cross_check import Estimate
from recon.stereo.photo import box_mean
from recon.stereo.plane_sweep import Scorer

# How well it has to match (scores are -1 to 1); by how much worse than what was found where it lies
# behind that, as windows tend to what is in front; and by how much better where it lies before it.
_LEAST_SCORE, _WORSE, _BETTER = 0.3, 0.1, 0.05
# What differs relatively by less is what was found; and what is seen so much farther right beside a
# place makes that an outline, around which windows make what is in front too wide (in the others,
# too, so that they agree).
_OTHER, _OUTLINE = 0.03, 0.05


def with_depth_of_others(scorer: Scorer, inverse: Tensor, seen: Estimate) -> Tensor:
    """Return inverse depth (h, w) with that which others have ``seen`` where it matches as well.

    ``seen``: of what other photos confirmed, at any size of the photo; confidence 0 = nothing.
    """
    known = seen.confidence > 0
    if not bool(known.any()):
        return inverse
    theirs = torch.where(known, 1 / seen.depth.clamp_min(1e-12), 0.0)
    farther = -F.max_pool2d(torch.where(known, -theirs, -torch.inf)[None], 3, 1, 1)[0]
    outline = (farther < (1 - _OUTLINE) * theirs).float()
    both = torch.stack([theirs, outline])[None]
    theirs, outline = F.interpolate(both, inverse.shape, mode="nearest")[0]
    other = (theirs > 0) & ((theirs / inverse - 1).abs() > _OTHER)
    other &= (outline == 0) | (theirs < inverse)
    score = box_mean(scorer(torch.stack([inverse, torch.where(other, theirs, inverse)])), 1)
    margin = torch.where(theirs < inverse, -_WORSE, _BETTER)
    taken = other & (score[1] > _LEAST_SCORE) & (score[1] > score[0] + margin)
    return torch.where(taken, theirs, inverse)
