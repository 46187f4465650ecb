"""Values known at some pixels spread to the others of like colour (a bilateral grid)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_SIZES = (0.3, 0.18, 0.09)
"""Widths of the grid's cells, as shares of the photo's longer side, coarse to fine."""
_BINS = 20
"""Cells along brightness and along red minus green."""
_DOUBT = 5.0
"""Known pixels (by weight) of like colour nearby that count as much as the coarser estimate."""


@dataclass(frozen=True)
class ColourGrid:
    """A photo's ``pixels`` (h, w, 3) in [0, 1], and for each width of cells, coarse to fine, the
    grid's shape (rows, columns, bins, bins) and the number of each pixel's cell (h w,).
    """

    pixels: Tensor
    levels: tuple[tuple[torch.Size, Tensor], ...]

    @staticmethod
    def of(pixels: Tensor) -> ColourGrid:
        """Return the grid of ``pixels`` (h, w, 3) in [0, 1]."""
        longer = max(pixels.shape[:2])
        sizes = (max(4, round(share * longer)) for share in _SIZES)
        return ColourGrid(pixels, tuple(_cells(pixels, size) for size in sizes))

    def every(self, step: int) -> ColourGrid:
        """Return the grid of every ``step``-th pixel of every ``step``-th row."""
        return ColourGrid.of(self.pixels[::step, ::step])


def spread_along_colours(
    values: Tensor, weights: Tensor, colours: ColourGrid, coarse: Tensor
) -> Tensor:
    """Return values (..., h, w) everywhere: means of the known ones nearby that look alike.

    ``weights`` (h, w), 0 where nothing is known; ``colours``: the photo's; ``coarse`` (..., h, w)
    stands where no pixel of like colour is near. Surfaces mostly keep their colour, so that a plain
    door takes its values from its own edges and not from the chair in front of it.
    Grid: Chen, Paris and Durand 2007, "Real-time edge-aware image processing with the bilateral
    grid".
    """
    pixels = weights.numel()
    stacked = torch.cat([(values * weights).reshape(-1, pixels), weights.reshape(1, -1)])
    result = coarse.reshape(-1, pixels)
    for shape, cell in colours.levels:
        sums = torch.zeros(len(stacked), shape.numel(), device=values.device)
        sums.index_add_(1, cell, stacked)
        blurred = _blurred(sums.reshape(-1, *shape)).reshape(len(stacked), -1)
        here = blurred.index_select(1, cell)
        weight = here[-1].add_(_DOUBT)
        result = here[:-1].add_(result, alpha=_DOUBT).div_(weight)
    return result.reshape(values.shape)


def _cells(pixels: Tensor, size: int) -> tuple[torch.Size, Tensor]:
    """Return the grid's shape and each pixel's cell, ``size`` pixels wide."""
    height, width, _ = pixels.shape
    brightness = pixels.mean(-1)
    # Red minus green hardly leaves a quarter of its range; the bins cover half.
    redness = (pixels[..., 0] - pixels[..., 1]) + 0.5
    row = torch.arange(height, device=pixels.device)[:, None] // size
    column = torch.arange(width, device=pixels.device)[None] // size
    shape = torch.Size((-(-height // size), -(-width // size), _BINS, _BINS))
    first, second = ((c * _BINS).long().clamp(0, _BINS - 1) for c in (brightness, redness))
    return shape, (((row * shape[1] + column) * _BINS + first) * _BINS + second).reshape(-1)


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
