"""Which patch of the other photo shows the same place: truth from depth, and a loss on attention.

A network trained from scratch learns matching last. Telling one head of every cross-attention where
to look costs two small matrix products a block. The idea of supervising attention maps with known
correspondences is older (Liu et al., "Neural Machine Translation with Supervised Attention",
COLING 2016); here the truth is exact.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pointmap.network import PointmapNetwork
from pointmap.network.layers import CrossAttention

_OCCLUDED = 0.05
"""A point this much (relative depth) behind what the other photo sees is hidden there."""
_HEAD = 0
"""The supervised head; the others stay free."""


def patch_targets(
    points: Tensor, valid: Tensor, intrinsics: Tensor, depth: Tensor, *, patch: int
) -> Tensor:
    """Return (B, N, M): how each patch's sample points fall on the other photo's patches.

    Four points a patch vote with a quarter each; points that are sky, hidden or out of the picture
    don't, so a row sums to between 0 (nothing shared) and 1.

    Args:
        points: (B, H, W, 3) surface points of one photo, in the OTHER camera's frame.
        valid: (B, H, W) bool, false on sky.
        intrinsics: (B, 3, 3) of the other camera.
        depth: (B, H2, W2) z-depth of the other photo, 0 on sky.
        patch: side of a patch in pixels; sizes are multiples of it.
    """
    height, width = depth.shape[1:]
    quarter = patch // 4
    rows, columns = points.shape[1] // patch, points.shape[2] // patch
    samples = points[:, quarter :: patch // 2, quarter :: patch // 2]
    known = valid[:, quarter :: patch // 2, quarter :: patch // 2]
    z = samples[..., 2]
    x = samples[..., 0] / z * intrinsics[:, None, None, 0, 0] + intrinsics[:, None, None, 0, 2]
    y = samples[..., 1] / z * intrinsics[:, None, None, 1, 1] + intrinsics[:, None, None, 1, 2]
    inside = known & (z > 0) & (x >= 0) & (x < width) & (y >= 0) & (y < height)
    column = torch.where(inside, x, torch.zeros_like(x)).long()
    row = torch.where(inside, y, torch.zeros_like(y)).long()
    seen = depth.flatten(1).gather(1, (row * width + column).flatten(1)).view_as(z)
    visible = inside & (seen > 0) & (z < seen * (1 + _OCCLUDED))
    target = (row // patch) * (width // patch) + column // patch
    # (B, rows, 2, columns, 2) -> (B, N, 4): the samples of one patch together.
    grouped = (
        t.unflatten(2, (columns, 2))
        .unflatten(1, (rows, 2))
        .transpose(2, 3)
        .flatten(3)
        .flatten(1, 2)
        for t in (target, visible)
    )
    index, weight = grouped
    votes = weight.to(points.dtype) / 4
    count = (height // patch) * (width // patch)
    return votes.new_zeros(*index.shape[:2], count).scatter_add_(2, index, votes)


def attention_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the cross-entropy of attention logits (B, N, M) to targets (B, N, M), in nats.

    A mean over patches weighted by how much of each is visible; 0 when nothing is.
    """
    log_probability = F.log_softmax(logits.float(), dim=-1)
    return -(targets * log_probability).sum() / targets.sum().clamp(min=1)


class AttentionProbe:
    """Collects one head's cross-attention logits of every decoder block while recording."""

    def __init__(self, network: PointmapNetwork) -> None:
        self._sides = (network.dec_blocks, network.dec_blocks2)
        self.logits: tuple[list[Tensor], list[Tensor]] = ([], [])

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Fill ``logits`` (per side, per block, each (B, N, M)) from the forwards inside."""
        self.logits = ([], [])
        hooks = [
            block.get_submodule("cross_attn").register_forward_pre_hook(self._hook(kept))
            for side, kept in zip(self._sides, self.logits, strict=True)
            for block in side
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    @staticmethod
    def _hook(kept: list[Tensor]) -> Any:
        def keep(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            assert isinstance(module, CrossAttention)
            x, memory, grid, memory_grid = inputs
            query = grid.rotate(_one_head(module.projq, x, module.heads)).squeeze(2)
            key = memory_grid.rotate(_one_head(module.projk, memory, module.heads)).squeeze(2)
            kept.append(query * query.shape[-1] ** -0.5 @ key.transpose(1, 2))

        return keep


def _one_head(projection: nn.Linear, x: Tensor, heads: int) -> Tensor:
    """Return the supervised head's slice (B, N, 1, D) of a projection."""
    width = projection.out_features // heads
    rows = slice(_HEAD * width, (_HEAD + 1) * width)
    return F.linear(x, projection.weight[rows], projection.bias[rows])[:, :, None]
