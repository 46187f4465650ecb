"""Depth that nothing confirms, where several photos inferred it: what most of them agree on.

Each photo infers a plain wall by itself, from its own prior and from planes through what it knows.
Their errors differ, so that those that agree are likelier right than any one of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from recon.stage_results import CONFIRMED
from recon.stereo.cross_check import DeviceDepth, Estimate, seen_from
from recon.stereo.photo import Photo2D

# Log depths that differ by about so much agree.
_SAME = 0.025
# What differs by more than this is another surface.
_REACH = 0.12


def agreed_depth(own: Estimate, others: Sequence[DeviceDepth], photo: Photo2D) -> Estimate:
    """Return the depth of a ``photo``, where it is not confirmed the mean of those that agree best
    among its own and what the ``others`` make of the same place (mean shift's kernel, one step).
    """
    unsure = (own.depth > 0) & (own.confidence <= CONFIRMED)
    if not others or not bool(unsure.any()):
        return own
    log_own = own.depth[unsure].log()
    votes = [log_own, *(_filled_in(seen_from(photo, other))[unsure].log() for other in others)]
    off = torch.stack(votes) - log_own
    counts = off.abs() < _REACH
    off = torch.where(counts, off, 0.0)
    most = torch.zeros_like(log_own)
    chosen = torch.zeros_like(log_own)
    for n in range(len(off)):
        near = torch.exp(-0.5 * ((off - off[n]) / _SAME).square()) * counts
        total = near.sum(0) * counts[n]
        more = total > most
        most = torch.where(more, total, most)
        chosen = torch.where(more, (near * off).sum(0) / near.sum(0), chosen)
    depth = own.depth.clone()
    depth[unsure] = (log_own + chosen).exp()
    return Estimate(depth, own.confidence)


def _filled_in(depth: Tensor) -> Tensor:
    """Return depth (h, w) with the nearest of the 8 neighbours where a pixel is inf: between those
    of a photo that was farther away.
    """
    nearest = -F.max_pool2d(-depth[None, None], 3, stride=1, padding=1)[0, 0]
    return torch.where(depth.isinf(), nearest, depth)
