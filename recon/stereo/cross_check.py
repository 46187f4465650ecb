"""Agreement of depth maps between photos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from recon.stage_results import DepthMap
from recon.stereo.photo import Photo2D, box_mean, epipolar_terms, pixel_terms

# Confidence that depth needs to count as confirmed. With two photos that agree it has 0.5 and more;
# with one 0.55 at a perfect match, and this much at a score of 0.45.
_ONE_WITNESS_IS_ENOUGH = 0.45
# Factor of the confidence where one photo alone agrees, and the score (-1 to 1) of a perfect match.
_ONE_WITNESS, _PERFECT_SCORE = 0.55, 0.7
# Share of a pixel's neighbours that another photo confirms, too, or the pixel is a speck.
_PATCH = 0.3
# Photos whose depths, seen from here, differ relatively by less agree; the weight of one of them,
# up to four: below that of confirmed depth, as what they saw may be hidden here.
_SAME_DEPTH, _WEIGHT_PER_PHOTO, _MOST_PHOTOS = 0.02, 0.15, 4


@dataclass(frozen=True)
class Estimate:
    """``depth`` (h, w) along z, 0 = unknown, and ``confidence`` (h, w) in [0, 1]: a
    :class:`DepthMap` on the device.
    """

    depth: Tensor
    confidence: Tensor

    @staticmethod
    def of(depth: DepthMap, device: torch.device) -> Estimate:
        """Return a depth map's arrays as tensors."""
        return Estimate(
            torch.from_numpy(depth.depth).to(device), torch.from_numpy(depth.confidence).to(device)
        )

    def depth_map(self) -> DepthMap:
        """Return the tensors as arrays."""
        return DepthMap(self.depth.cpu().numpy(), self.confidence.cpu().numpy())

    def resized(self, height: int, width: int) -> Estimate:
        """Return the nearest pixels' values at another size."""
        both = torch.stack([self.depth, self.confidence])[None]
        depth, confidence = F.interpolate(both, (height, width), mode="nearest")[0]
        return Estimate(depth, confidence)


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
) -> Estimate:
    """Return depth averaged over agreeing photos; confidence is 0 where none agrees.

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
    witnesses = torch.where(count >= 2, 1.0, _ONE_WITNESS) * (count > 0)
    confidence = witnesses * (0.5 + 0.5 * (reference.score / _PERFECT_SCORE).clamp(0, 1))
    # Chance agreement comes in specks, surfaces in patches.
    supported = box_mean((count > 0).float(), 3) > _PATCH
    # One witness of a poor match is wrong as often as a weak prior (reflections on glossy doors).
    return Estimate(averaged, confidence * (supported & (confidence > _ONE_WITNESS_IS_ENOUGH)))


def _there_and_back(
    reference: Photo2D, other: DeviceDepth, inverse: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the inverse depth (h, w) with which pixels come back, and how far off they land."""
    A, b = epipolar_terms(reference, other.photo)
    there = A + inverse[..., None] * b
    u, v, z = _dehomogenise(there)
    height, width = other.depth.shape
    grid = torch.stack([u * (2 / width) - 1, v * (2 / height) - 1], -1)[None]
    other_inverse = torch.where(other.depth > 0, 1 / other.depth.clamp_min(1e-12), 0.0)
    found = F.grid_sample(other_inverse[None, None], grid, mode="bilinear", align_corners=False)[
        0, 0
    ]
    inside = (z > 0) & (u >= 0) & (u <= width) & (found > 0)
    inside &= (v >= 0) & (v <= height)
    ones = torch.ones_like(u)
    back_A, back_b = pixel_terms(other.photo, reference)
    back = torch.stack([u, v, ones], -1) @ back_A.T + found[..., None] * back_b
    x, y, z_ratio = _dehomogenise(back)
    h, w = inverse.shape
    rows = torch.arange(h, device=u.device)[:, None] + 0.5
    columns = torch.arange(w, device=u.device)[None] + 0.5
    distance = torch.hypot(x - columns, y - rows)
    nowhere = ~inside | (z_ratio <= 0)
    distance[nowhere] = torch.inf
    # Homogeneous z is depth in the reference per unit of depth in the other photo.
    return found / z_ratio.clamp_min(1e-6), distance


def _dehomogenise(points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    z = points[..., 2]
    scale = 1 / z.clamp_min(1e-6)
    return points[..., 0] * scale, points[..., 1] * scale, z


def reproject_confirmed(photo: Photo2D, others: Sequence[DeviceDepth]) -> Estimate:
    """Return the nearest depth that confirmed depth of other photos gives a photo, and how far it
    is to be believed, by the number of photos that agree.

    Weak support: what another photo sees there may be hidden from this one.
    """
    none = torch.zeros_like(photo.grey)
    if not others:
        return Estimate(none, none)
    maps = torch.stack([_seen_from(photo, other) for other in others])
    nearest = maps.amin(0)
    agrees = (maps / nearest - 1).abs() < _SAME_DEPTH
    count = agrees.sum(0)
    inverse = torch.where(agrees, 1 / maps, 0.0).sum(0) / count.clamp_min(1)
    in_patch = box_mean((count > 0).float(), 2) > _PATCH
    weight = _WEIGHT_PER_PHOTO * count.clamp_max(_MOST_PHOTOS) * in_patch
    return Estimate(torch.where(count > 0, 1 / inverse.clamp_min(1e-12), 0.0), weight)


def _seen_from(photo: Photo2D, other: DeviceDepth) -> Tensor:
    """Return the depth (h, w) of the other photo's points in this photo, inf where none falls."""
    height, width = photo.grey.shape
    known = other.depth > 0
    inverse = torch.where(known, 1 / other.depth.clamp_min(1e-12), 0.0)
    A, b = epipolar_terms(other.photo, photo)
    u, v, z = _dehomogenise(A + inverse[..., None] * b)
    inside = known & (z > 0) & (u >= 0) & (u < width) & (v >= 0) & (v < height)
    nearest = torch.full((height * width,), torch.inf, device=photo.grey.device)
    pixel = v[inside].long() * width + u[inside].long()
    nearest.scatter_reduce_(0, pixel, z[inside] / inverse[inside], "amin")
    return nearest.reshape(height, width)
