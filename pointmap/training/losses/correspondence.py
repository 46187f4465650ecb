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
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pointmap.network import DUSt3R
from pointmap.network.layers import CrossAttention
from pointmap.network.matched.cell_matches import CELL, CENTRE, FINE_CELL, WINDOW, Window

_OCCLUDED = 0.05
"""A point this much (relative depth) behind what the other photo sees is hidden there."""
_INLIER = 4.0
"""A match this near to the truth, in pixels, is right."""
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
    seen = _projected(samples, known, intrinsics, depth)
    target = (seen.y.long() // patch) * (width // patch) + seen.x.long() // patch
    # (B, rows, 2, columns, 2) -> (B, N, 4): the samples of one patch together.
    grouped = (
        t.unflatten(2, (columns, 2))
        .unflatten(1, (rows, 2))
        .transpose(2, 3)
        .flatten(3)
        .flatten(1, 2)
        for t in (target, seen.visible)
    )
    index, weight = grouped
    votes = weight.to(points.dtype) / 4
    count = (height // patch) * (width // patch)
    return votes.new_zeros(*index.shape[:2], count).scatter_add_(2, index, votes)


class Shares(NamedTuple):
    """Where places lie on a grid: shared out among the four cells around, as bilinear weights.

    So that the expectation is exact. All four are 0 for a place that isn't seen.
    """

    cells: Tensor
    """(B, N, 4) indices of the four, row-major."""
    share: Tensor
    """(B, N, 4) from 0 to 1."""


def cell_targets(points: Tensor, valid: Tensor, intrinsics: Tensor, depth: Tensor) -> Shares:
    """Return where the matcher's cells lie among the other photo's, (B, N, 4).

    Arguments as for :func:`patch_targets`.
    """
    rows, columns = (side // CELL for side in depth.shape[1:])
    seen = _centres_in_other(points, valid, intrinsics, depth)
    across = ((seen.x - CENTRE - 0.5) / CELL).clamp(0, columns - 1)
    down = ((seen.y - CENTRE - 0.5) / CELL).clamp(0, rows - 1)
    return _shared_out(across, down, seen.visible, rows, columns)


def window_targets(
    window: Window, points: Tensor, valid: Tensor, intrinsics: Tensor, depth: Tensor
) -> Shares:
    """Return where cells lie among the 25 of the window around their coarse matches, (B, N, 4).

    Places outside the window aren't seen. Arguments as for :func:`patch_targets`.
    """
    seen = _centres_in_other(points, valid, intrinsics, depth)
    column, row = window.corner.unbind(-1)
    across, down = (seen.x - 0.5) / FINE_CELL - column, (seen.y - 0.5) / FINE_CELL - row
    last = WINDOW - 1
    inside = seen.visible & (across >= 0) & (across <= last) & (down >= 0) & (down <= last)
    return _shared_out(across.clamp(0, last), down.clamp(0, last), inside, WINDOW, WINDOW)


def _centres_in_other(points: Tensor, valid: Tensor, intrinsics: Tensor, depth: Tensor) -> _InOther:
    """Return the places (B, N) of what the cells stand for."""
    centres = (slice(None), slice(CENTRE, None, CELL), slice(CENTRE, None, CELL))
    seen = _projected(points[centres], valid[centres], intrinsics, depth)
    return _InOther(*(part.flatten(1) for part in seen))


def _shared_out(across: Tensor, down: Tensor, visible: Tensor, rows: int, columns: int) -> Shares:
    """Return the shares of grid positions (B, N)."""
    index, share = [], []
    for row in (down.floor(), down.floor() + 1):
        for column in (across.floor(), across.floor() + 1):
            share.append((1 - (down - row).abs()) * (1 - (across - column).abs()) * visible)
            index.append(row.clamp(max=rows - 1) * columns + column.clamp(max=columns - 1))
    return Shares(torch.stack(index, dim=-1).long(), torch.stack(share, dim=-1))


class _InOther(NamedTuple):
    """Where points lie in the other photo, and whether it sees them."""

    x: Tensor
    """Pixels; 0 outside the photo."""
    y: Tensor
    visible: Tensor
    """Bool."""


def _projected(points: Tensor, valid: Tensor, intrinsics: Tensor, depth: Tensor) -> _InOther:
    """Return the places (B, h, w) of points (B, h, w, 3)."""
    height, width = depth.shape[1:]
    z = points[..., 2]
    x = points[..., 0] / z * intrinsics[:, None, None, 0, 0] + intrinsics[:, None, None, 0, 2]
    y = points[..., 1] / z * intrinsics[:, None, None, 1, 1] + intrinsics[:, None, None, 1, 2]
    inside = valid & (z > 0) & (x >= 0) & (x < width) & (y >= 0) & (y < height)
    x, y = (torch.where(inside, t, torch.zeros_like(t)) for t in (x, y))
    pixel = y.long() * width + x.long()
    seen = depth.flatten(1).gather(1, pixel.flatten(1)).view_as(z)
    return _InOther(x, y, inside & (seen > 0) & (z < seen * (1 + _OCCLUDED)))


def correspondence_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the cross-entropy of logits (B, N, M) to targets (B, N, M), in nats.

    A mean over rows weighted by how much of each is visible; 0 when nothing is.
    """
    log_probability = F.log_softmax(logits.float(), dim=-1)
    return -(targets * log_probability).sum() / targets.sum().clamp(min=1)


def matching_loss(cells1: Tensor, cells2: Tensor, targets: Shares) -> Tensor:
    """Return the same for photo 1's cells to be matched with photo 2's; targets name few cells.

    Scores are inner products of ``cells1`` (B, N, C) and ``cells2`` (B, M, C). A quarter of cells 1
    is asked, drawn from torch's own generator: the matrix of all scores and what its gradient
    needs would take a third of a training step.
    """
    count = cells1.shape[1]
    chosen = torch.randperm(count)[: -(-count // 4)].to(cells1.device)
    few = Shares(*(x[:, chosen] for x in targets))
    return _cross_entropy(cells1[:, chosen] @ cells2.mT, few)


def window_loss(window: Window, targets: Shares) -> Tensor:
    """Return the cross-entropy, a scalar, of places in the window around coarse matches."""
    return _cross_entropy(window.scores, targets)


def verification_loss(
    inlier: Tensor,
    window: Window,
    points: Tensor,
    valid: Tensor,
    intrinsics: Tensor,
    depth: Tensor,
) -> Tensor:
    """Return the cross-entropy of logits ``inlier`` (B, N) to whether matches are right, in nats.

    The rest as for :func:`window_targets`.
    """
    seen = _centres_in_other(points, valid, intrinsics, depth)
    true = torch.stack([seen.x, seen.y], dim=-1)
    error = (window.refined().positions.detach() - true).norm(dim=-1)
    is_inlier = seen.visible & (error < _INLIER)
    return F.binary_cross_entropy_with_logits(inlier, is_inlier.to(inlier.dtype))


def _cross_entropy(logits: Tensor, targets: Shares) -> Tensor:
    log_probability = logits.gather(2, targets.cells) - logits.logsumexp(dim=2, keepdim=True)
    return -(targets.share * log_probability).sum() / targets.share.sum().clamp(min=1)


class AttentionProbe:
    """Collects one head's cross-attention logits of every decoder block while recording."""

    def __init__(self, network: DUSt3R) -> None:
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
