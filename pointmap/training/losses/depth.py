"""Losses on depth maps whose scale alone is open, and on the order of depths."""

from __future__ import annotations

import torch
from torch import Tensor

_STEPS = (1, 2, 4, 8, 16)


def silog_loss(predicted: Tensor, truth: Tensor, valid: Tensor, *, share: float = 0.5) -> Tensor:
    """Return Eigen's scale-invariant error in log depth (arXiv 1406.2283, eq. 4).

    Mean over the batch of mean(e^2) - ``share`` mean(e)^2 with e = ln p - ln t over valid pixels.
    ``share`` 1 doesn't see the scale of a photo at all, 0 is plain log depth, 0.5 the paper's.

    Args:
        predicted: depths (B, H, W) above 0 where valid.
        truth: true depths, likewise.
        valid: (B, H, W) bool.
        share: in [0, 1], how much of the scale's error is forgiven.
    """
    p, t = (torch.where(valid, depth, torch.ones_like(depth)) for depth in (predicted, truth))
    error = (p.log() - t.log()).flatten(1)
    count = valid.flatten(1).sum(1).clamp(min=1)
    squares, mean = error.square().sum(1) / count, error.sum(1) / count
    return (squares - share * mean.square()).mean()


def log_depth_loss(predicted: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    """Return the mean absolute error of log depth, each photo at the scale that suits it best.

    Mean of |e - m| over valid pixels, with e = ln p - ln t and m its median in the photo, where the
    sum is least. As :func:`silog_loss` with ``share`` 1, but an edge that is off by a pixel counts
    once, not squared. The scale of either map doesn't matter.

    Args:
        predicted: depths (B, ...) above 0 where valid.
        truth: true depths, likewise.
        valid: (B, ...) bool.
    """
    p, t = (torch.where(valid, depth, torch.ones_like(depth)) for depth in (predicted, truth))
    error = (p.log() - t.log()).flatten(1)
    use = valid.flatten(1)
    middle = torch.where(use, error, float("nan")).nanmedian(dim=1, keepdim=True).values
    apart = torch.where(use, error - middle, 0)
    return apart.abs().sum() / use.sum().clamp(min=1)


def scale_invariant_gradient_loss(predicted: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    """Return DeMoN's scale-invariant gradient loss (arXiv 1612.02401, eq. 9 and 10).

    Sum over steps h = 1, 2, 4, 8, 16 of the mean over pixels of |g_h(p) - g_h(t)|_2, with g_h[f](x,
    y) = ((f(x+h, y) - f(x, y)) / (|f(x+h, y)| + |f(x, y)|), likewise in y). It sharpens edges and
    evens surfaces, and neither the scale of p nor that of t matters. Pixels whose three values
    aren't all valid don't count, nor do steps wider than the map.

    Args:
        predicted: depths or disparities (B, H, W).
        truth: the same of the truth.
        valid: (B, H, W) bool.
    """
    p, t = (torch.where(valid, field, torch.ones_like(field)) for field in (predicted, truth))
    total = predicted.new_zeros(())
    for step in _STEPS:
        if step >= min(p.shape[-2:]):
            break
        use = valid[:, :-step, :-step] & valid[:, :-step, step:] & valid[:, step:, :-step]
        difference = _relative_steps(p, step) - _relative_steps(t, step)
        # The norm of a zero vector has no gradient; its square does.
        squared = torch.where(use, difference.square().sum(-1), 0)
        length = torch.where(squared > 0, squared, 1).sqrt()
        total = total + torch.where(squared > 0, length, 0).sum() / use.sum().clamp(min=1)
    return total


def _relative_steps(field: Tensor, step: int) -> Tensor:
    """Return g_h (B, H - h, W - h, 2)."""
    here = field[:, :-step, :-step]
    there = torch.stack([field[:, :-step, step:], field[:, step:, :-step]], dim=-1)
    here = here[..., None]
    return (there - here) / (there.abs() + here.abs()).clamp(min=1e-12)


def ranking_loss(
    predicted: Tensor, truth: Tensor, valid: Tensor, pairs: Tensor, *, tolerance: float = 0.02
) -> Tensor:
    """Return the ordinal ranking loss of pixel pairs (Chen et al., arXiv 1604.03901; ReDWeb 2018).

    For pixels a, b with true ratio r = t_a / t_b: log(1 + exp(p_b - p_a)) where r > 1 +
    ``tolerance``, log(1 + exp(p_a - p_b)) where r < 1 / (1 + tolerance), else (p_a - p_b)^2; mean
    over pairs of two valid pixels. It sees differences only: a shift of p changes nothing, nor does
    the scale of t. With ordered pairs it falls towards 0 as p spreads in the right order and never
    reaches it; of equal depths it is 0.

    Args:
        predicted: log depth, or any score that grows with depth, (B, H, W).
        truth: true depths (B, H, W).
        valid: (B, H, W) bool.
        pairs: (B, P, 2) int64, positions in the flattened map.
        tolerance: relative difference below which two depths count as equal.
    """
    p, t, use = (
        values.flatten(1).gather(1, pairs.flatten(1)).unflatten(1, (-1, 2))
        for values in (predicted, torch.where(valid, truth, torch.ones_like(truth)), valid)
    )
    ratio = t[..., 0] / t[..., 1]
    order = (ratio > 1 + tolerance).to(p.dtype) - (ratio < 1 / (1 + tolerance)).to(p.dtype)
    difference = p[..., 0] - p[..., 1]
    ordered = torch.nn.functional.softplus(-order * difference)
    loss = torch.where(order == 0, difference.square(), ordered)
    both = use.all(-1)
    return torch.where(both, loss, torch.zeros_like(loss)).sum() / both.sum().clamp(min=1)
