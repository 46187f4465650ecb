"""What photos say of depth without labels: warp one into another and compare. Needs torch alone.

Sources: monodepth (arXiv 1609.03677) for SSIM with L1, left-right consistency and edge-aware
smoothness; Monodepth2 (arXiv 1806.01260) for the minimum over sources and the automatic mask.
Images are (B, 3, H, W) in [0, 1], depth (B, H, W) along z, pixels as in :mod:`pointmap.camera`
(centres at +0.5), K (B, 3, 3) in these pixels, ``target_to_source`` (B, 4, 4) maps points of the
target's camera frame into the source's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from pointmap.training.batches.pairs import unproject_torch

# SSIM's constants for values in [0, 1] (Wang et al. 2004): (0.01)^2 and (0.03)^2.
_C1, _C2 = 1e-4, 9e-4
_NEAREST = 1e-6
_SSIM_WEIGHT = 0.85


@dataclass(frozen=True)
class Warped:
    """A source seen from the target: ``image`` (B, C, H, W), the ``pixels`` (B, H, W, 2) in the
    source of each target pixel, its depth ``z`` (B, H, W) there, and where it is ``visible`` (B, H,
    W) bool: in front of the source's camera and inside its photo.
    """

    image: Tensor
    pixels: Tensor
    z: Tensor
    visible: Tensor


@dataclass(frozen=True)
class Reprojection:
    """``loss``: mean error over the pixels that count, 0 when none does; ``error`` (B, H, W): the
    smallest error over the sources; ``counted`` (B, H, W) bool: seen by a source, and better
    explained by motion than by standing still.
    """

    loss: Tensor
    error: Tensor
    counted: Tensor


def ssim(first: Tensor, second: Tensor) -> Tensor:
    """Return the structural similarity (B, C, H, W) in [-1, 1] over 3x3 windows.

    Borders are reflected. 1 where the windows are equal.
    """
    a, b = (F.pad(x, (1, 1, 1, 1), "reflect") for x in (first, second))
    mean_a, mean_b = F.avg_pool2d(a, 3, 1), F.avg_pool2d(b, 3, 1)
    var_a = F.avg_pool2d(a * a, 3, 1) - mean_a**2
    var_b = F.avg_pool2d(b * b, 3, 1) - mean_b**2
    covariance = F.avg_pool2d(a * b, 3, 1) - mean_a * mean_b
    similar = (2 * mean_a * mean_b + _C1) * (2 * covariance + _C2)
    return similar / ((mean_a**2 + mean_b**2 + _C1) * (var_a + var_b + _C2))


def photometric_error(target: Tensor, other: Tensor) -> Tensor:
    """Return how different two images are per pixel, (B, H, W) in [0, 1].

    0.85 (1 - SSIM) / 2 + 0.15 |difference|, mean over the channels (monodepth, eq. 1 with its
    weights).
    """
    structure = ((1 - ssim(target, other)) / 2).clamp(0, 1)
    difference = (target - other).abs()
    return (_SSIM_WEIGHT * structure + (1 - _SSIM_WEIGHT) * difference).mean(1)


def sample(values: Tensor, pixels: Tensor) -> Tensor:
    """Return ``values`` (B, C, H, W) at ``pixels`` (B, h, w, 2), bilinear, borders repeated."""
    height, width = values.shape[-2:]
    grid = pixels * (2 / pixels.new_tensor([width, height])) - 1
    return F.grid_sample(values, grid, padding_mode="border", align_corners=False)


def inverse_warp(
    source: Tensor,
    depth: Tensor,
    target_intrinsics: Tensor,
    source_intrinsics: Tensor,
    target_to_source: Tensor,
) -> Warped:
    """Return the ``source`` values (B, C, Hs, Ws) found where the target's ``depth`` says."""
    points = unproject_torch(depth, target_intrinsics)
    rotation, shift = target_to_source[:, :3, :3], target_to_source[:, :3, 3]
    moved = points @ rotation[:, None].mT + shift[:, None, None]
    image = moved @ source_intrinsics[:, None].mT
    z = image[..., 2]
    pixels = image[..., :2] / z.clamp_min(_NEAREST)[..., None]
    height, width = source.shape[-2:]
    inside = (pixels >= 0) & (pixels <= pixels.new_tensor([width, height]))
    return Warped(sample(source, pixels), pixels, z, (z > _NEAREST) & inside.all(-1))


def minimum_reprojection(
    target: Tensor,
    sources: Sequence[Tensor],
    warped: Sequence[Warped],
    *,
    auto_mask: bool = True,
) -> Reprojection:
    """Return the error of each target pixel in the source that explains it best.

    The minimum (Monodepth2, eq. 4) leaves out sources where the surface is hidden. ``auto_mask``
    (eq. 5) leaves out pixels that the unmoved ``sources`` explain at least as well: what moves with
    the camera, a camera that stands still, plain surfaces.
    """

    def errors(images: Sequence[Tensor]) -> Tensor:
        return torch.stack([photometric_error(target, i) for i in images])

    visible = torch.stack([w.visible for w in warped])
    moved = torch.where(visible, errors([w.image for w in warped]), torch.inf)
    error = moved.amin(0)
    counted = visible.any(0)
    if auto_mask:
        with torch.no_grad():
            counted = counted & (error < errors(sources).amin(0))
    # Zeros before the sum: infinity times 0 is no number.
    error = torch.where(visible.any(0), error, 0.0)
    loss = torch.where(counted, error, 0.0).sum() / counted.sum().clamp(min=1)
    return Reprojection(loss, error, counted)


def smoothness(inverse_depth: Tensor, image: Tensor) -> Tensor:
    """Return the edge-aware roughness of ``inverse_depth`` (B, H, W): a scalar, 0 for a constant.

    Mean |dx d*| exp(-|dx I|) + |dy d*| exp(-|dy I|), where d* is the inverse depth over its mean
    per image (Monodepth2, eq. 3), so that shrinking the depth gains nothing. ``image``: (B, 3, H,
    W), its gradients averaged over the channels.
    """
    normalised = inverse_depth / inverse_depth.mean((-2, -1), keepdim=True).clamp_min(1e-12)
    total = normalised.new_zeros(())
    for axis in (-1, -2):
        edge = image.diff(dim=axis).abs().mean(1)
        total = total + (normalised.diff(dim=axis).abs() * torch.exp(-edge)).mean()
    return total


def depth_consistency(warped: Warped, source_depth: Tensor) -> Tensor:
    """Return how much two depth maps contradict each other: a scalar, 0 when they agree.

    monodepth's left-right consistency (eq. 4) for any two cameras: the mean of |1 / z - 1 / z'|
    over the visible pixels, relative to their mean inverse depth. z is the target's depth carried
    into the source's frame, z' what ``source_depth`` (B, H, W) says there. For a rectified stereo
    pair, where disparity is focal x baseline / z, it is monodepth's term divided by the mean
    disparity.
    """
    found = sample(source_depth[:, None].clamp_min(_NEAREST).reciprocal(), warped.pixels)[:, 0]
    expected = warped.z.clamp_min(_NEAREST).reciprocal()
    count = warped.visible.sum().clamp(min=1)
    difference = torch.where(warped.visible, (found - expected).abs(), 0.0).sum() / count
    level = torch.where(warped.visible, found + expected, 0.0).sum() / (2 * count)
    return difference / level.clamp_min(1e-12)
