"""Which place of the other photo shows the same: truth from depth, and losses on matches.

A network trained from scratch learns matching last. The matcher's scores are trained as in LoFTR
(arXiv 2104.00680, section 3.5), by the log-likelihood of the true match, here in both directions.
Telling one head of every cross-attention where to look costs two small matrix products a block; the
idea of supervising attention maps with known correspondences is older (Liu et al., "Neural Machine
Translation with Supervised Attention", COLING 2016). The truth is exact.
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
from pointmap.network.matching import CELL, CENTRE, FINE_CELL, WINDOW, Window

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
    x, y, visible = _projected(samples, known, intrinsics, depth)
    target = (y.long() // patch) * (width // patch) + x.long() // patch
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


def cell_targets(points: Tensor, valid: Tensor, intrinsics: Tensor, depth: Tensor) -> Tensor:
    """Return (B, N, M): where the matcher's cells lie among the other photo's, row-major.

    A visible cell's place is shared out among the four cells around it, so that the expectation is
    exact; other rows are 0. Arguments as for :func:`patch_targets`.
    """
    rows, columns = (side // CELL for side in depth.shape[1:])
    x, y, visible = _centres_in_other(points, valid, intrinsics, depth)
    across = ((x - CENTRE - 0.5) / CELL).clamp(0, columns - 1)
    down = ((y - CENTRE - 0.5) / CELL).clamp(0, rows - 1)
    return _shared_out(across, down, visible, rows, columns)


def window_targets(
    window: Window, points: Tensor, valid: Tensor, intrinsics: Tensor, depth: Tensor
) -> Tensor:
    """Return (B, N, 25): where the cells lie in the window around their coarse matches.

    As :func:`cell_targets`; rows whose place is outside the window are 0.
    """
    x, y, visible = _centres_in_other(points, valid, intrinsics, depth)
    across, down = ((v - 0.5) / FINE_CELL - window.corner[..., k] for k, v in enumerate((x, y)))
    last = WINDOW - 1
    inside = visible & (across >= 0) & (across <= last) & (down >= 0) & (down <= last)
    return _shared_out(across.clamp(0, last), down.clamp(0, last), inside, WINDOW, WINDOW)


def _centres_in_other(
    points: Tensor, valid: Tensor, intrinsics: Tensor, depth: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return x, y, visible (B, N) of what the cells stand for, as :func:`_projected`."""
    centres = (slice(None), slice(CENTRE, None, CELL), slice(CENTRE, None, CELL))
    x, y, visible = _projected(points[centres], valid[centres], intrinsics, depth)
    return x.flatten(1), y.flatten(1), visible.flatten(1)


def _shared_out(across: Tensor, down: Tensor, visible: Tensor, rows: int, columns: int) -> Tensor:
    """Return (B, N, rows * columns): bilinear shares of grid positions (B, N), 0 if not visible."""
    targets = across.new_zeros(*across.shape, rows * columns)
    for row in (down.floor(), down.floor() + 1):
        for column in (across.floor(), across.floor() + 1):
            share = (1 - (down - row).abs()) * (1 - (across - column).abs()) * visible
            index = row.clamp(max=rows - 1) * columns + column.clamp(max=columns - 1)
            targets.scatter_add_(2, index.long()[..., None], share[..., None])
    return targets


def _projected(
    points: Tensor, valid: Tensor, intrinsics: Tensor, depth: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return x, y in pixels (B, h, w) of points in the other photo, 0 unless seen, and whether."""
    height, width = depth.shape[1:]
    z = points[..., 2]
    x = points[..., 0] / z * intrinsics[:, None, None, 0, 0] + intrinsics[:, None, None, 0, 2]
    y = points[..., 1] / z * intrinsics[:, None, None, 1, 1] + intrinsics[:, None, None, 1, 2]
    inside = valid & (z > 0) & (x >= 0) & (x < width) & (y >= 0) & (y < height)
    x, y = (torch.where(inside, t, torch.zeros_like(t)) for t in (x, y))
    pixel = y.long() * width + x.long()
    seen = depth.flatten(1).gather(1, pixel.flatten(1)).view_as(z)
    return x, y, inside & (seen > 0) & (z < seen * (1 + _OCCLUDED))


def correspondence_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the cross-entropy of logits (B, N, M) to targets (B, N, M), in nats.

    A mean over rows weighted by how much of each is visible; 0 when nothing is.
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
