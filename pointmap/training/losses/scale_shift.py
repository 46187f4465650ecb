"""MiDaS' losses on maps that are right up to a scale and a shift (arXiv 1907.01341, section 5).

They are meant for disparity, where a network that mixes data sets leaves both open, and hold for
any field. ``predicted``, ``truth``: (B, H, W); ``valid``: (B, H, W) bool. Photos count alike.
"""

from __future__ import annotations

import torch
from torch import Tensor


def ssi_mse_loss(predicted: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    """Return the scale- and shift-invariant mean squared error (eq. 1 with eq. 4).

    (1 / 2M) sum (s p + b - t)^2 over the M valid pixels, s and b by least squares. The gradient
    goes through s and b as well. Scale and shift of p don't matter.
    """
    error = torch.where(valid, _least_squares(predicted, truth, valid) - truth, 0)
    return (error.square().flatten(1).sum(1) / (2 * _count(valid))).mean()


def ssi_mae_loss(
    predicted: Tensor, truth: Tensor, valid: Tensor, *, trimmed: float = 0.0
) -> Tensor:
    """Return the scale- and shift-invariant mean absolute error (eq. 1 with eq. 5 and 6).

    Both maps are brought to median 0 and mean absolute deviation 1 by themselves; (1 / 2M) sum
    |p - t| of them, without the largest ``trimmed`` share of residuals (the paper trims 0.2: ground
    truth from stereo is wrong in places). Scale (above 0) and shift of either map don't matter.
    """
    p, t = _standardised(predicted, valid), _standardised(truth, valid)
    error = torch.where(valid, (p - t).abs(), 0).flatten(1)
    count = _count(valid)
    # Invalid pixels are the zeros at the start: they are never among the largest.
    largest = (trimmed * count).long()
    rank = error.argsort(dim=1, descending=True).argsort(dim=1)
    kept = torch.where(rank >= largest[:, None], error, 0)
    return (kept.sum(1) / (2 * count)).mean()


def gradient_matching_loss(
    predicted: Tensor, truth: Tensor, valid: Tensor, *, scales: int = 4
) -> Tensor:
    """Return the multi-scale gradient matching term (eq. 11; from MegaDepth, arXiv 1804.00607).

    With R = s p + b - t aligned as in :func:`ssi_mse_loss`: the sum over ``scales`` (every pixel,
    every second, every fourth, ...) of the mean of |dR / dx| + |dR / dy| between valid neighbours.
    It puts edges where the truth has them. Scale and shift of p don't matter.
    """
    residual = torch.where(valid, _least_squares(predicted, truth, valid) - truth, 0)
    total = predicted.new_zeros(())
    for scale in range(scales):
        R, use = residual[:, :: 2**scale, :: 2**scale], valid[:, :: 2**scale, :: 2**scale]
        steps = [
            torch.where(use[:, :, 1:] & use[:, :, :-1], R[:, :, 1:] - R[:, :, :-1], 0),
            torch.where(use[:, 1:] & use[:, :-1], R[:, 1:] - R[:, :-1], 0),
        ]
        sums = sum((step.abs().flatten(1).sum(1) for step in steps), predicted.new_zeros(()))
        total = total + (sums / _count(use)).mean()
    return total


def _count(valid: Tensor) -> Tensor:
    return valid.flatten(1).sum(1).clamp(min=1)


def _least_squares(predicted: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    """Return s p + b per photo; a map of one single value is brought to the truth's mean."""
    count = _count(valid)[:, None, None]
    p, t = (torch.where(valid, field, 0) for field in (predicted, truth))
    mean_p, mean_t = (field.sum((1, 2), keepdim=True) / count for field in (p, t))
    dp, dt = (torch.where(valid, f - m, 0) for f, m in ((p, mean_p), (t, mean_t)))
    spread = dp.square().sum((1, 2), keepdim=True)
    slope = (dp * dt).sum((1, 2), keepdim=True) / torch.where(spread > 0, spread, 1)
    return slope * dp + mean_t


def _standardised(field: Tensor, valid: Tensor) -> Tensor:
    """Return (f - median f) / mean |f - median f| per photo, over valid pixels; 0 elsewhere."""
    ordered = torch.where(valid, field, torch.inf).flatten(1).sort(dim=1).values
    middle = ordered.gather(1, ((_count(valid) - 1) // 2)[:, None])[..., None]
    centred = torch.where(valid, field - torch.where(middle.isfinite(), middle, 0), 0)
    spread = centred.abs().sum((1, 2), keepdim=True) / _count(valid)[:, None, None]
    return centred / torch.where(spread > 0, spread, 1)
