"""Values known at some pixels spread to the others of like colour (a bilateral grid)."""

from __future__ import annotations

import torch
from torch import Tensor

_SIZES = (0.3, 0.18, 0.09)
"""Widths of the grid's cells, as shares of the photo's longer side, coarse to fine."""
_BINS = 20
"""Cells along brightness and along red minus green."""
_DOUBT = 5.0
"""Known pixels (by weight) of like colour nearby that count as much as the coarser estimate."""


def spread_along_colours(values: Tensor, weights: Tensor, pixels: Tensor, coarse: Tensor) -> Tensor:
    """Return values (..., h, w) everywhere: means of the known ones nearby that look alike.

    ``weights`` (h, w), 0 where nothing is known; ``pixels`` (h, w, 3) in [0, 1]; ``coarse``
    (..., h, w) stands where no pixel of like colour is near. Surfaces mostly keep their colour, so
    that a plain door takes its values from its own edges and not from the chair in front of it.
    Grid: Chen, Paris and Durand 2007, "Real-time edge-aware image processing with the bilateral
    grid".
    """
    height, width = weights.shape
    stacked = torch.cat([(values * weights).reshape(-1, height * width), weights.reshape(1, -1)])
    result = coarse
    for share in _SIZES:
        size = max(4, round(share * max(height, width)))
        shape, cell = _cells(pixels, size)
        sums = torch.zeros(len(stacked), shape.numel(), device=values.device)
        sums.index_add_(1, cell.reshape(-1), stacked)
        blurred = _blurred(sums.reshape(-1, *shape)).reshape(len(stacked), -1)
        *totals, weight = blurred.index_select(1, cell.reshape(-1)).reshape(-1, height, width)
        result = (torch.stack(totals).reshape(values.shape) + _DOUBT * result) / (weight + _DOUBT)
    return result


def _cells(pixels: Tensor, size: int) -> tuple[torch.Size, Tensor]:
    """Return the grid's shape (rows, columns, bins, bins) and each pixel's cell number (h, w)."""
    height, width, _ = pixels.shape
    brightness = pixels.mean(-1)
    # Red minus green hardly leaves a quarter of its range; the bins cover half.
    redness = (pixels[..., 0] - pixels[..., 1]) + 0.5
    row = torch.arange(height, device=pixels.device)[:, None] // size
    column = torch.arange(width, device=pixels.device)[None] // size
    shape = torch.Size((-(-height // size), -(-width // size), _BINS, _BINS))
    first, second = ((c * _BINS).long().clamp(0, _BINS - 1) for c in (brightness, redness))
    return shape, ((row * shape[1] + column) * _BINS + first) * _BINS + second


def _blurred(grid: Tensor) -> Tensor:
    """Return the grid (K, rows, columns, bins, bins) blurred by (1/2, 1, 1/2) along all but the
    first axis.
    """
    for axis in range(1, grid.ndim):
        count = grid.shape[axis]
        blurred = grid.clone()
        if count > 1:
            blurred.narrow(axis, 1, count - 1).add_(grid.narrow(axis, 0, count - 1), alpha=0.5)
            blurred.narrow(axis, 0, count - 1).add_(grid.narrow(axis, 1, count - 1), alpha=0.5)
        grid = blurred
    return grid
