"""Training objectives on pairwise pointmaps. Needs torch alone."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class PointmapLoss:
    """``total`` is the objective; ``error1``, ``error2`` are the plain mean distances of view 1 and
    view 2 in normalised units (0 is exact, about 0.5 is a constant mean layout); ``attention`` is
    the cross-entropy of the supervised attention and ``matching`` that of the matcher, nan where
    there is none. Scalars.
    """

    total: Tensor
    error1: Tensor
    error2: Tensor
    attention: Tensor = field(default_factory=lambda: torch.tensor(float("nan")))
    matching: Tensor = field(default_factory=lambda: torch.tensor(float("nan")))


def mean_distance(points1: Tensor, points2: Tensor, valid1: Tensor, valid2: Tensor) -> Tensor:
    """Return the (B,) mean distance to the origin over both views' valid points.

    DUSt3R's normalisation factor (arXiv 2312.14132, eq. 3). ``points``: (B, N, 3) in camera 1's
    frame; ``valid``: (B, N) bool. A pair without a valid point gets 1.
    """
    norms = (points1.norm(dim=-1) * valid1).sum(1) + (points2.norm(dim=-1) * valid2).sum(1)
    count = valid1.sum(1) + valid2.sum(1)
    return torch.where(count > 0, norms / count.clamp(min=1), torch.ones_like(norms)).clamp(
        min=1e-6
    )


def pointmap_loss(
    predicted: tuple[Tensor, Tensor],
    confidence: tuple[Tensor, Tensor],
    truth: tuple[Tensor, Tensor],
    valid: tuple[Tensor, Tensor],
    *,
    alpha: float,
) -> PointmapLoss:
    """Return DUSt3R's confidence-weighted, scale-normalised regression (arXiv 2312.14132, eq. 2-4).

    For each view, the mean over valid pixels of ``conf * |X / z - X_true / z_true| - alpha log
    conf``, where z, z_true are :func:`mean_distance` of the prediction and of the truth: nothing
    changes when either is scaled.

    Args:
        predicted: points of view 1 and view 2, each (B, N, 3), both in camera 1's frame.
        confidence: their confidences, each (B, N), above 1.
        truth: true points, as ``predicted``.
        valid: where truth is known, each (B, N) bool.
        alpha: weight of the confidence regulariser. The paper uses 0.2.
    """
    scale = mean_distance(*predicted, *valid)[:, None]
    true_scale = mean_distance(*truth, *valid)[:, None]
    total = torch.zeros((), device=scale.device)
    errors = []
    for points, conf, true_points, mask in zip(predicted, confidence, truth, valid, strict=True):
        distance = (points / scale[..., None] - true_points / true_scale[..., None]).norm(dim=-1)
        count = mask.sum().clamp(min=1)
        objective = conf * distance - alpha * torch.log(conf)
        total = total + torch.where(mask, objective, torch.zeros_like(objective)).sum() / count
        errors.append((distance.detach() * mask).sum() / count)
    return PointmapLoss(total, errors[0], errors[1])
