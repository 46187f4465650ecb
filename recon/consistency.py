"""Agreement of depth maps between photos, and what takes the place of depth that has none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from recon.depth import DepthMap
from recon.sweep import Photo2D, box_mean, epipolar_terms, plane_fit


@dataclass(frozen=True)
class DeviceDepth:
    """A photo's depth (h, w), 0 = unknown, and its match score (h, w) in [-1, 1], as tensors."""

    depth: Tensor
    score: Tensor
    photo: Photo2D


def confirm(
    reference: DeviceDepth,
    others: Sequence[DeviceDepth],
    *,
    tolerance: float,
    tolerance_px: float,
) -> tuple[Tensor, Tensor]:
    """Return depth (h, w) averaged over agreeing photos, and confidence, 0 where none agrees.

    A pixel goes to the other photo by its own depth and comes back by the depth found there; the
    two agree when it returns within ``tolerance_px`` and at a relative depth within ``tolerance``.
    """
    depth = reference.depth
    known = depth > 0
    inverse = torch.where(known, 1 / depth.clamp_min(1e-12), 0.0)
    total, count = inverse.clone(), torch.zeros_like(depth)
    for other in others:
        back, distance_px = _there_and_back(reference.photo, other, inverse)
        agrees = known & (distance_px < tolerance_px) & ((back * depth - 1).abs() < tolerance)
        total += torch.where(agrees, back, 0.0)
        count += agrees
    averaged = torch.where(known, (1 + count) / total.clamp_min(1e-12), 0.0)
    # One witness may agree by chance; two hardly do. A plain surface scores low even when right.
    witnesses = torch.where(count >= 2, 1.0, 0.55) * (count > 0)
    confidence = witnesses * (0.5 + 0.5 * (reference.score / 0.7).clamp(0, 1))
    # Chance agreement comes in specks, surfaces in patches.
    supported = box_mean((count > 0).float(), 3) > 0.3
    return averaged, confidence * supported


def _there_and_back(
    reference: Photo2D, other: DeviceDepth, inverse: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the inverse depth (h, w) with which pixels come back, and how far off they land."""
    A, b = epipolar_terms(reference, other.photo)
    there = A + inverse[..., None] * b
    u, v, z = _dehomogenise(there)
    height, width = other.depth.shape
    shown_u, shown_v = other.photo.through_lens(u, v)
    grid = torch.stack([shown_u * (2 / width) - 1, shown_v * (2 / height) - 1], -1)[None]
    other_inverse = torch.where(other.depth > 0, 1 / other.depth.clamp_min(1e-12), 0.0)
    found = F.grid_sample(other_inverse[None, None], grid, mode="bilinear", align_corners=False)[
        0, 0
    ]
    inside = (z > 0) & (shown_u >= 0) & (shown_u <= width) & (found > 0)
    inside &= (shown_v >= 0) & (shown_v <= height)
    ones = torch.ones_like(u)
    back_A, back_b = _pixel_terms(other.photo, reference)
    back = torch.stack([u, v, ones], -1) @ back_A.T + found[..., None] * back_b
    x, y, z_ratio = _dehomogenise(back)
    x, y = reference.through_lens(x, y)
    h, w = inverse.shape
    rows = torch.arange(h, device=u.device)[:, None] + 0.5
    columns = torch.arange(w, device=u.device)[None] + 0.5
    distance = torch.hypot(x - columns, y - rows)
    nowhere = ~inside | (z_ratio <= 0)
    distance[nowhere] = torch.inf
    # Homogeneous z is depth in the reference per unit of depth in the other photo.
    return found / z_ratio.clamp_min(1e-6), distance


def _pixel_terms(source: Photo2D, target: Photo2D) -> tuple[Tensor, Tensor]:
    """Return A (3, 3), b (3,): pixel x of source at inverse depth r is at A x + r b in target."""
    relative = torch.linalg.inv(target.cam_to_world) @ source.cam_to_world
    A = target.intrinsics @ relative[:3, :3] @ torch.linalg.inv(source.intrinsics)
    return A.float(), (target.intrinsics @ relative[:3, 3]).float()


def _dehomogenise(points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    z = points[..., 2]
    scale = 1 / z.clamp_min(1e-6)
    return points[..., 0] * scale, points[..., 1] * scale, z


def fall_back(checked: tuple[Tensor, Tensor], prior: DepthMap) -> DepthMap:
    """Return confirmed depth, small gaps closed, and the prior elsewhere.

    The prior is bent to meet the confirmed depth: the log ratio of the two, known where depth was
    confirmed, is spread over the photo from the nearest scale at which something is known.
    """
    depth, confidence = _close_gaps(*checked)
    known = confidence > 0
    prior_depth = torch.from_numpy(prior.depth).to(depth.device)
    prior_confidence = torch.from_numpy(prior.confidence).to(depth.device)
    usable = prior_depth > 0
    both = known & usable
    ratio = torch.where(both, depth / prior_depth.clamp_min(1e-12), 1.0).log()
    bent = prior_depth * spread(ratio, both.float()).exp()
    depth = torch.where(known, depth, bent)
    low = 0.3 * prior_confidence.clamp(0, 1) * usable
    confidence = torch.where(known, confidence, low)
    return DepthMap(depth.cpu().numpy(), confidence.cpu().numpy())


def _close_gaps(depth: Tensor, confidence: Tensor) -> tuple[Tensor, Tensor]:
    """Fill pixels (h, w) whose confirmed neighbours lie on one plane, small windows first."""
    for radius in (2, 5):
        known = confidence > 0
        inverse = torch.where(known, 1 / depth.clamp_min(1e-12), 0.0)
        fitted, residual, share = plane_fit(inverse, known.float(), radius)
        fill = ~known & (share > 0.4) & (fitted > 0) & (residual < 0.005 * fitted)
        depth = torch.where(fill, 1 / fitted.clamp_min(1e-12), depth)
        near = box_mean(confidence, radius) / share.clamp_min(1e-6)
        confidence = torch.where(fill, 0.8 * near, confidence)
    return depth, confidence


def spread(values: Tensor, weights: Tensor) -> Tensor:
    """Return values (h, w) spread from where weights > 0 to everywhere (push-pull pyramid).

    Each level averages the known values of the finer one and hands its own down to where the finer
    one knows nothing, so that a gap is filled at about the scale of its size. Nothing known at all
    gives 0.
    """
    h, w = values.shape
    if min(h, w) <= 2:
        total = weights.sum()
        mean = (values * weights).sum() / total.clamp_min(1e-12)
        return torch.where(weights > 0, values, mean)
    size = ((h + 1) // 2, (w + 1) // 2)
    stacked = torch.stack([values * weights, weights])[None]
    sums = F.interpolate(stacked, size, mode="area")[0]
    coarse = spread(sums[0] / sums[1].clamp_min(1e-12), (4 * sums[1]).clamp_max(1.0))
    filled = F.interpolate(coarse[None, None], (h, w), mode="bilinear")[0, 0]
    return weights * values + (1 - weights) * filled
