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
        scale, R, t = fit_similarity_torch(points2, points1, base * robust)
        moved = scale[:, None, None] * points2 @ R.transpose(1, 2) + t[:, None]
        error = (moved - points1).norm(dim=-1) / reach
        width = (1.5 * error.median(dim=1).values).clamp(min=tolerance / 5)
        robust = (1 + (error / width[:, None]).square()).pow(-2)
    pose = torch.eye(4, dtype=points1.dtype, device=points1.device).repeat(len(points1), 1, 1)
    pose[:, :3, :3], pose[:, :3, 3] = R, t
    return pose


def fit_similarity_torch(
    source: Tensor, target: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return scale (B,), R (B, 3, 3), t (B, 3) with target ~ scale R source + t, differentiable.

    :func:`pointmap.camera.fit_similarity` of a batch: points (B, N, 3) with weights (B, N).
    """
    # Here and not above: it takes a second to import, and runs that don't train need none of it.
    import roma

    share = (weights / weights.sum(1, keepdim=True))[..., None]
    centre_s, centre_t = (share * source).sum(1), (share * target).sum(1)
    s, t = source - centre_s[:, None], target - centre_t[:, None]
    # Not its rigid_points_registration, whose scale is NaN where all points are one.
    rotation, stretch = roma.special_procrustes((share * t).mT @ s, return_singular_values=True)
    scale = stretch.sum(1) / (share * s * s).sum((1, 2)).clamp_min(1e-12)
    shift = centre_t - scale[:, None] * (rotation @ centre_s[..., None])[..., 0]
    return scale, rotation, shift
