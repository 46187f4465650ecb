"""MoGe's loss on point maps that are right up to a scale and a shift along the view."""

from __future__ import annotations

import torch
from torch import Tensor


def affine_invariant_loss(
    predicted: Tensor, truth: Tensor, valid: Tensor, *, anchors: int = 256
) -> Tensor:
    """Return the affine-invariant L1 of points (MoGe, arXiv 2410.19115, eq. 3).

    Mean over valid points of |s p + (0, 0, b) - t|_1 / z(t) with the robust optimum s, b of
    :func:`fit_scale_and_z_shift`. Scale (above 0) of p and a shift of its z don't matter. The
    gradient goes through the two points that fix s and b, too, so that it is that of the minimum.

    Args:
        predicted: points (B, N, 3) of each photo in its own camera's frame.
        truth: true points, z above 0 where valid.
        valid: (B, N) bool.
        anchors: see :func:`fit_scale_and_z_shift`.
    """
    scale, shift = fit_scale_and_z_shift(predicted, truth, valid, anchors=anchors)
    aligned = scale[:, None, None] * predicted
    aligned = aligned + torch.nn.functional.pad(shift[:, None, None], (2, 0))
    error = (aligned - truth).abs().sum(-1)
    weight = 1 / torch.where(valid, truth[..., 2], 1)
    weighted = torch.where(valid, weight * error, 0).sum(1)
    return (weighted / valid.sum(1).clamp(min=1)).mean()


def fit_scale_and_z_shift(
    predicted: Tensor, truth: Tensor, valid: Tensor, *, anchors: int = 256
) -> tuple[Tensor, Tensor]:
    """Return scale (B,) and shift (B,) that minimise sum |s p + (0, 0, b) - t|_1 / z(t).

    An optimum passes through some point's z exactly (it is a vertex of a linear programme), so that
    each point in turn is taken as this anchor, b = z_k(t) - s z_k(p), which leaves one unknown; its
    optimum is a weighted median of ratios, exact. All points are tried when there are at most
    ``anchors``, else that many evenly spaced ones, whose best is a near-optimum: a third of points
    that are wrong in any way don't move it. No valid point gives 1 and 0.
    """
    scales, shifts = [], []
    for p, t, use in zip(predicted, truth, valid, strict=True):
        p, t = p[use], t[use]
        if not len(p):
            scales.append(p.new_ones(()))
            shifts.append(p.new_zeros(()))
            continue
        chosen = torch.linspace(0, len(p) - 1, min(anchors, len(p)), device=p.device).long()
        with torch.no_grad():
            _, cost = _best_scale(p, t, chosen)
        best = chosen[cost.argmin()]
        scale, _ = _best_scale(p, t, best[None])
        scales.append(scale[0])
        shifts.append(t[best, 2] - scale[0] * p[best, 2])
    return torch.stack(scales), torch.stack(shifts)


def _best_scale(p: Tensor, t: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor]:
    """Return the best scale (K,) of points (N, 3) when z of anchor (K,) fits exactly, and its cost.

    min over s of sum w |s a - b|: the weighted median of b / a with weights w |a|; s is held above
    0, as a scale must be.
    """
    along = torch.nn.functional.pad(torch.ones_like(p[:1, :1]), (2, 0))
    a, b = ((q - q[anchors, None, 2:] * along).flatten(1) for q in (p, t))
    weight = (1 / t[:, 2]).repeat_interleave(3)
    mass = (weight * a.abs()).detach()
    ratio = torch.where(mass > 0, b / torch.where(mass > 0, a, 1), 0)
    ordered, order = ratio.sort(dim=1)
    reached = mass.gather(1, order).cumsum(1)
    middle = (reached < reached[:, -1:] / 2).sum(1, keepdim=True).clamp(max=a.shape[1] - 1)
    scale = ordered.gather(1, middle).clamp(min=1e-6)
    return scale[:, 0], (weight * (scale * a - b).abs()).sum(1)
