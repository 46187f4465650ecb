"""What narrow gaps show: planes that go on behind what a search found.

Windows in a gap a few pixels wide, between the boards of a bench or beside a pot, show more of what
is in front, and so do most sources: a search ends in front. What lies behind is mostly a plane that
the photo shows again nearby, and the one source that looks through the gap tells it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from pointmap.camera import Array
from recon.stage_results import CONFIRMED
from recon.stereo.cross_check import Estimate
from recon.stereo.photo import Photo2D, box_mean
from recon.stereo.piecewise_planes import find_planes
from recon.stereo.plane_sweep import scorer_of

# Planes count from this share behind what was found; confirmed depth off by less is on the plane.
_BEHIND, _ON_PLANE = 0.03, 0.01
# A plane goes on where it holds this share of the pixels up to so far to either side, a share of
# the photo's longer side. Planes tried everywhere are right in half of what they take, not in 0.8.
_NEARBY, _HELD = 0.05, 0.08
# How well a plane has to match (scores are -1 to 1), and by how much better than what was found.
_LEAST_SCORE, _BETTER = 0.5, 0.1


def with_planes_behind(
    photo: Photo2D, sources: Sequence[Photo2D], inverse: Tensor, guess: Estimate
) -> Tensor:
    """Return inverse depth (h, w) with that of planes behind it where they match clearly better.

    ``guess``: depth at any size, whose confirmed pixels tell the planes. A pixel counts by the
    source in which it matches best, as the others see what is in front (planes of known depth as
    hypotheses: Xu and Tao 2020, ACMP).
    """
    known = guess.confidence > CONFIRMED
    measured = torch.where(known, 1 / guess.depth.clamp_min(1e-12), 0.0)
    planes = find_planes(measured, guess.confidence * known)
    if not len(planes) or not sources:
        return inverse
    size = inverse.shape
    on = known & ((_surfaces(planes, known, known.shape) - measured).abs() < _ON_PLANE * measured)
    held = box_mean(on.float(), round(_NEARBY * max(known.shape)))
    nearby = F.interpolate(held[None], size, mode="nearest")[0] > _HELD
    surfaces, least = _surfaces(planes, known, size), float(inverse.min()) / 2
    possible = nearby & (surfaces < (1 - _BEHIND) * inverse) & (surfaces > least)
    tried = possible.flatten(1).any(1)
    if not bool(tried.any()):
        return inverse
    surfaces, possible = surfaces[tried], possible[tried]
    stacked = torch.cat([inverse[None], surfaces]).clamp_min(least)
    best_source = torch.stack([scorer_of(photo, [source])(stacked) for source in sources]).amax(0)
    score = box_mean(best_source, 1)
    best, which = torch.where(possible, score[1:], -1.0).max(0)
    better = (best > _LEAST_SCORE) & (best > score[0] + _BETTER)
    return torch.where(better, surfaces.gather(0, which[None])[0], inverse)


def _surfaces(planes: Array, found_in: Tensor, size: Sequence[int]) -> Tensor:
    """Return the inverse depth (K, h, w) at a photo's ``size`` of planes (K, 3) that were found
    (:func:`recon.stereo.piecewise_planes.find_planes`) at the size of ``found_in``.
    """
    y, x = (
        (torch.arange(side, device=found_in.device) + 0.5) * (was / side) - 0.5
        for side, was in zip(size, found_in.shape, strict=True)
    )
    return torch.stack([a + b * x + c * y[:, None] for a, b, c in planes.tolist()])
