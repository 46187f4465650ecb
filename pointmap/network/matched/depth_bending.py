"""Bends a photo's depth to where its matches say that it is."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from pointmap.network.matched.cell_matches import CELL

_REACH = 3.0
"""Standard deviation, in cells, of the Gaussian with which a match speaks for what is around it."""
_DOUBT = 0.01
"""Weight of the depth as it was."""
_ROBUST, _STEPS = 0.2, 5
_MOST = 0.7
"""A factor of two: what differs more is a wrong match."""


def bent(log_z: Tensor, told: Tensor, trust: Tensor) -> Tensor:
    """Return logarithms of depth (B, H, W), bent to those ``told`` of cells (B, H/8, W/8).

    Normalised convolution (Knutsson and Westin 1993) of the differences: cells that are told little
    (``trust``, 0 to 1) take over what is told around them. The scales of both may differ by any
    factor, the robust mean of the differences; the scale of ``log_z`` stays.
    """
    off = told - F.avg_pool2d(log_z[:, None], CELL)[:, 0]
    middle = _robust_mean(off, trust)[:, None, None]
    weighed = torch.stack([trust * (off - middle).clamp(-_MOST, _MOST), trust], dim=1)
    spread, weight = _blurred(weighed).split(1, dim=1)
    change = F.interpolate(
        spread / (weight + _DOUBT), log_z.shape[-2:], mode="bilinear", align_corners=False
    )
    return log_z + change[:, 0]


@torch.no_grad()
def _robust_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Return the means (B,) of maps by iteratively reweighted least squares (Cauchy's weights)."""
    robust = weights
    for _ in range(_STEPS):
        total = robust.sum(dim=(1, 2)).clamp(min=1e-9)
        mean = (robust * values).sum(dim=(1, 2)) / total
        robust = weights / (1 + ((values - mean[:, None, None]) / _ROBUST).square())
    return mean


def _blurred(maps: Tensor) -> Tensor:
    """Maps (B, C, h, w) through a Gaussian, nothing beyond their borders."""
    step = torch.arange(-9, 10, device=maps.device, dtype=maps.dtype)
    kernel = torch.exp(-0.5 * (step / _REACH).square())
    kernel = (kernel / kernel.sum()).expand(maps.shape[1], 1, 1, -1)
    across = F.conv2d(maps, kernel, padding=(0, 9), groups=len(kernel))
    return F.conv2d(across, kernel.mT, padding=(9, 0), groups=len(kernel))
