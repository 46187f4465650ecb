"""Poses of many pairs at once, from points that are known in both cameras' frames."""

from __future__ import annotations

import torch
from torch import Tensor


def register_frames(
    points1: Tensor, points2: Tensor, weights: Tensor, *, tolerance: float = 0.05
) -> Tensor:
    """Return cam2_to_cam1 (B, 4, 4) that registers points (B, N, 3) of both frames best.

    The batched form of ``recon.two_view.pose_from_pointmaps.procrustes`` (which may not be imported
    here): robust similarity in closed form (Umeyama, PAMI 1991), re-weighted 15 times with errors
    relative to the distance from camera 1. ``weights`` (B, N). The translation is in the units of
    ``points1``.
    """
    reach = points1.norm(dim=-1).clamp(min=1e-9)
    base = weights / reach.square()
    robust = torch.ones_like(base)
    for _ in range(15):
        scale, R, t = _similarity(points2, points1, base * robust)
        moved = scale[:, None, None] * points2 @ R.transpose(1, 2) + t[:, None]
        error = (moved - points1).norm(dim=-1) / reach
        width = (1.5 * error.median(dim=1).values).clamp(min=tolerance / 5)
        robust = (1 + (error / width[:, None]).square()).pow(-2)
    pose = torch.eye(4, dtype=points1.dtype, device=points1.device).repeat(len(points1), 1, 1)
    pose[:, :3, :3], pose[:, :3, 3] = R, t
    return pose


def _similarity(source: Tensor, target: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return scale (B,), R (B, 3, 3), t (B, 3) of the weighted best fit."""
    w = (weights / weights.sum(1, keepdim=True))[..., None]
    mean_s, mean_t = (w * source).sum(1), (w * target).sum(1)
    s, t = source - mean_s[:, None], target - mean_t[:, None]
    u, values, vt = torch.linalg.svd((w * t).transpose(1, 2) @ s)
    sign = torch.ones_like(values)
    sign[:, 2] = torch.linalg.det(u @ vt).sign()
    R = (u * sign[:, None]) @ vt
    scale = (values * sign).sum(1) / (w * s.square()).sum((1, 2)).clamp(min=1e-12)
    return scale, R, mean_t - scale[:, None] * (R @ mean_s[..., None])[..., 0]
