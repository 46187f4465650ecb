"""Learning without labels: photos of one scene, or frames of a video, are each other's teachers.

The network's own pointmaps give depth, focal length and, by Procrustes between the two frames in
which each pair is predicted, the relative pose. Depth and pose carry one photo into the other; the
photometric error there is differentiable down to the weights. Needs torch alone.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pointmap.lora import add_low_rank, merge_low_rank
from pointmap.network import PointmapNetwork
from pointmap.training.batches.pairs import unproject_torch
from pointmap.training.loop.registration import fit_similarity_torch
from pointmap.training.losses.photometric import (
    Warped,
    depth_consistency,
    inverse_warp,
    minimum_reprojection,
    smoothness,
)

_NEAREST = 1e-3
# Of the updates, and of the pairs that a step learns from.
_RANK, _PAIRS_PER_STEP = 16, 4


@dataclass(frozen=True)
class SelfSupervision:
    """Weights of the terms, relative to the photometric error.

    ``levels``: photos are compared at so many sizes, each half the one before: the coarse ones see
    far, the fine ones are exact. ``auto_mask``: see :func:`minimum_reprojection`.
    """

    smoothness: float = 1e-3
    consistency: float = 0.05
    levels: int = 3
    auto_mask: bool = True


@dataclass(frozen=True)
class DirectedPairs:
    """What is predicted of D directed pairs (a, b), both directions of each there.

    ``target``, ``source`` (D,) int64 photo numbers a and b; ``reverse`` (D,) the number of (b, a);
    ``own`` (D, H, W, 3) a's points in a's frame and ``other`` (D, H, W, 3) b's points in a's frame,
    ``own_confidence`` and ``other_confidence`` (D, H, W) theirs.
    """

    target: Tensor
    source: Tensor
    reverse: Tensor
    own: Tensor
    other: Tensor
    own_confidence: Tensor
    other_confidence: Tensor


@dataclass(frozen=True)
class SelfSupervisedLoss:
    """``total`` is the objective, ``reprojection`` its photometric part at full size; ``counted``
    is the share of pixels that took part there. Scalars.
    """

    total: Tensor
    reprojection: Tensor
    counted: Tensor


def predict(
    network: PointmapNetwork, images: Tensor, pairs: Sequence[tuple[int, int]]
) -> DirectedPairs:
    """Run the network over both directions of ``pairs`` of photos (T, 3, H, W) in [0, 1]."""
    target = torch.tensor([i for i, _ in pairs] + [j for _, j in pairs], device=images.device)
    reverse = torch.arange(2 * len(pairs), device=images.device).roll(len(pairs))
    source = target[reverse]
    photos = network.encode(images * 2 - 1)
    first, second = network.decode(
        replace(photos, values=photos.values[target]), replace(photos, values=photos.values[source])
    )
    return DirectedPairs(
        target, source, reverse, first.pts3d, second.pts3d, first.conf, second.conf
    )


def weighted_similarity(source: Tensor, target: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return scale (B,) and rigid (B, 4, 4) with target ~ rigid (scale source), differentiable.

    Weighted orthogonal Procrustes (Umeyama 1991) of points (B, N, 3) with weights (B, N).
    """
    scale, rotation, shift = fit_similarity_torch(source, target, weights)
    rigid = torch.eye(4, dtype=source.dtype, device=source.device).repeat(len(source), 1, 1)
    rigid = torch.cat([torch.cat([rotation, shift[..., None]], 2), rigid[:, 3:]], 1)
    return scale, rigid


def least_squares_intrinsics(points: Tensor, weights: Tensor) -> Tensor:
    """Return K (B, 3, 3) of pointmaps (B, H, W, 3) in their own frames: centred, one focal.

    The focal minimises sum w |pixel - f (x, y) / z|^2 with weights (B, H, W).
    """
    height, width = points.shape[1:3]
    centre = points.new_tensor([width / 2, height / 2])
    ones = torch.ones_like(points[:1, ..., 2])
    pixels = unproject_torch(ones, torch.eye(3, dtype=points.dtype, device=points.device)[None])
    pixels = pixels[..., :2] - centre
    slope = points[..., :2] / points[..., 2:].clamp_min(_NEAREST)
    weighted = weights[..., None] * slope
    focal = (weighted * pixels).sum((1, 2, 3)) / (weighted * slope).sum((1, 2, 3)).clamp_min(1e-9)
    K = torch.zeros(len(points), 3, 3, dtype=points.dtype, device=points.device)
    K[:, 0, 0] = K[:, 1, 1] = focal.clamp_min(1.0)
    K[:, :2, 2] = centre
    K[:, 2, 2] = 1
    return K


def self_supervised_loss(
    predicted: DirectedPairs,
    images: Tensor,
    *,
    intrinsics: Tensor | None = None,
    options: SelfSupervision | None = None,
) -> SelfSupervisedLoss:
    """Return the objective of photos (T, 3, H, W) in [0, 1], H and W multiples of 2^(levels - 1).

    Each photo is explained from every photo it is paired with, pixel by pixel from the one that
    does it best. ``intrinsics`` (T, 3, 3) where they are known; else the pointmaps' own.
    """
    options = options or SelfSupervision()
    geometry = _geometry(predicted, intrinsics)
    depth, K = geometry.depth, geometry.K
    total = depth.new_zeros(())
    reprojections, counts = [], []
    for level in range(options.levels):
        factor = 2**level
        shrink = depth.new_tensor([1 / factor, 1 / factor, 1.0])[:, None]
        photos = F.avg_pool2d(images, factor)
        # Inverse depth and not depth is what is linear in the picture.
        inverse = F.avg_pool2d(depth.reciprocal()[:, None], factor)[:, 0]
        warped = inverse_warp(
            photos[predicted.source],
            inverse.reciprocal(),
            shrink * K,
            (shrink * K)[predicted.reverse],
            geometry.pose,
        )
        losses, counted = _per_target(predicted, photos, warped, options)
        reprojections.append(losses)
        counts.append(counted)
        total = total + losses / options.levels
        total = total + options.smoothness / factor * smoothness(inverse, photos[predicted.target])
        if level == 0:
            source_depth = predicted.own[..., 2].clamp_min(_NEAREST)[predicted.reverse]
            total = total + options.consistency * depth_consistency(warped, source_depth)
    return SelfSupervisedLoss(total, reprojections[0].detach(), counts[0])


class _Geometry(NamedTuple):
    """Cameras and depth of D directed pairs."""

    pose: Tensor
    """(D, 4, 4) rigid, from the target's frame to the source's."""
    depth: Tensor
    """(D, H, W) of the targets, in the units of the sources' frames."""
    K: Tensor
    """(D, 3, 3) of the targets, pixels."""


def _geometry(predicted: DirectedPairs, intrinsics: Tensor | None) -> _Geometry:
    """Return what ``predicted`` implies, with ``intrinsics`` (T, 3, 3) where they are known."""
    reverse = predicted.reverse
    weights = predicted.own_confidence * predicted.other_confidence[reverse]
    weights = torch.cat([weights.flatten(1), weights[reverse].flatten(1)], 1).detach()
    # The same pixels, of both photos, in the frame of the target and in that of the source.
    here = torch.cat([predicted.own.flatten(1, 2), predicted.other.flatten(1, 2)], 1)
    there = torch.cat(
        [predicted.other[reverse].flatten(1, 2), predicted.own[reverse].flatten(1, 2)], 1
    )
    scale, pose = weighted_similarity(here, there, weights)
    depth = scale[:, None, None] * predicted.own[..., 2].clamp_min(_NEAREST)
    K = (
        least_squares_intrinsics(predicted.own, predicted.own_confidence.detach())
        if intrinsics is None
        else intrinsics[predicted.target]
    )
    return _Geometry(pose, depth, K)


def _per_target(
    predicted: DirectedPairs, photos: Tensor, warped: Warped, options: SelfSupervision
) -> tuple[Tensor, Tensor]:
    """Return the mean minimum reprojection over the target photos and the share counted."""
    losses, shares = [], []
    for number in predicted.target.unique().tolist():
        rows = (predicted.target == number).nonzero()[:, 0].tolist()
        found = minimum_reprojection(
            photos[number : number + 1],
            [photos[predicted.source[k]][None] for k in rows],
            [
                Warped(
                    warped.image[k : k + 1],
                    warped.pixels[k : k + 1],
                    warped.z[k : k + 1],
                    warped.visible[k : k + 1],
                )
                for k in rows
            ],
            auto_mask=options.auto_mask,
        )
        losses.append(found.loss)
        shares.append(found.counted.float().mean())
    return torch.stack(losses).mean(), torch.stack(shares).mean()


def learn_without_labels(
    network: PointmapNetwork,
    images: Tensor,
    pairs: Sequence[tuple[int, int]],
    *,
    steps: int,
    learning_rate: float = 5e-4,
    seed: int = 0,
) -> PointmapNetwork:
    """Return a copy of ``network`` with low-rank updates that explain the photos (T, 3, H, W).

    ``pairs``: photos that overlap, for a video those a frame or two apart. Each step takes a few of
    them at random.
    """
    learner = copy.deepcopy(network).train()
    parameters = add_low_rank(learner, rank=_RANK, seed=seed)
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        chosen = torch.randperm(len(pairs), generator=generator)[:_PAIRS_PER_STEP].tolist()
        predicted = predict(learner, images, [pairs[k] for k in chosen])
        loss = self_supervised_loss(predicted, images)
        optimizer.zero_grad(set_to_none=True)
        loss.total.backward()
        norm = nn.utils.clip_grad_norm_(parameters, 1.0)
        if torch.isfinite(norm):
            optimizer.step()
        schedule.step()
    merge_low_rank(learner)
    return learner.eval()
