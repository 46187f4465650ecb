"""From descriptors of two photos to where each sees the other one, coarse to fine.

As in LoFTR (arXiv 2104.00680), matches of cells of 8x8 pixels come from a mutual softmax (its eq. 1
and 2), and finer features in a window around them tell the place inside (its section 3.4): a mean
over 5x5 cells of 4x4 pixels.

A coarse descriptor stands for the centre of the pixel in row 4 and column 4 of its cell, 4.5 pixels
from the cell's corner, a fine one for the centre of its cell's first pixel: the strides of the
convolutions put their middles there, and every coarse place is also a fine one.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from pointmap.network.constants import constant
from pointmap.network.tokens import Size

CELL = 8
"""Side of a cell in pixels."""
CENTRE = 4
"""Row and column, in its cell, of the pixel that a descriptor stands for."""
FINE_CELL = 4
"""Side of a fine cell in pixels."""
WINDOW = 5
"""Side, in fine cells, of the window that is searched around a coarse match."""


class CellMatches(NamedTuple):
    """Where the cells of one photo lie in the other one, cells row-major."""

    positions: Tensor
    """(B, N, 2) x and y in the other photo, pixels."""
    mutual: Tensor
    """(B, N) chance, 0 to 1, that the cell and its match choose each other."""
    mass: Tensor
    """(B, N) chance, 0 to 1, that the match is among the 3x3 cells that made the position."""


class RefinedMatches(NamedTuple):
    """Where the cells of one photo lie in the other one, from the fine cells in their windows."""

    positions: Tensor
    """(B, N, 2) x and y in the other photo, pixels."""
    spread: Tensor
    """(B, N) standard deviation, pixels."""


class Window(NamedTuple):
    """The search around the coarse matches of one photo's cells, (B, N)."""

    coarse: CellMatches
    scores: Tensor
    """(B, N, 25) of the fine cells of the other photo, row-major."""
    corner: Tensor
    """(B, N, 2) column and row of the first of them in the other photo's fine grid."""

    def refined(self) -> RefinedMatches:
        """Return the mean and the spread of the place inside the window."""
        chances = self.scores.softmax(dim=-1)
        steps = torch.arange(WINDOW, device=chances.device, dtype=chances.dtype)
        grid = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), dim=-1).flatten(0, 1)
        mean = chances @ grid
        variance = (chances @ grid.square().sum(-1)) - mean.square().sum(-1)
        positions = (self.corner + mean) * FINE_CELL + 0.5
        return RefinedMatches(positions, variance.clamp(min=0).sqrt() * FINE_CELL)


class Comparison(NamedTuple):
    """How the cells of two photos compare, row-major."""

    cells1: Tensor
    """(B, N, C) descriptors of photo 1's cells, times the sharpness. Their inner products with
    those of photo 2 are scores: a softmax over photo 2's cells gives the chances of photo 1's
    matches, one over photo 1's those of photo 2's."""
    cells2: Tensor
    """(B, M, C) descriptors of photo 2's cells."""
    window1: Window
    """For the cells of photo 1, in photo 2."""
    window2: Window
    """For the cells of photo 2, in photo 1."""
    inlier1: Tensor
    """(B, N) logits that the matches of photo 1's cells are right."""
    inlier2: Tensor
    """(B, M) the same of photo 2's cells."""


def cell_positions(size: Size, device: torch.device) -> Tensor:
    """Return what the cells of a photo of (H, W) pixels stand for: (N, 2) x and y, row-major."""
    return pixel_centres_torch(size, device)[CENTRE::CELL, CENTRE::CELL].flatten(0, 1)


def pixel_centres_torch(size: Size, device: torch.device) -> Tensor:
    """Return x and y of the pixels of a photo of (H, W), (H, W, 2)."""
    y, x = (torch.arange(side, device=device) + 0.5 for side in size)
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)


def pinhole_rays(positions: Tensor, size: Size, focal: Tensor | float) -> Tensor:
    """Return the rays (..., 3), z = 1, of pixels (..., 2) of a pinhole of ``focal`` pixels."""
    middle = constant((size[1] / 2, size[0] / 2), positions)
    return F.pad((positions - middle) / focal, (0, 1), value=1.0)


@torch.no_grad()
def best_matches(
    cells1: Tensor, cells2: Tensor, size1: Size, size2: Size
) -> tuple[CellMatches, CellMatches]:
    """Return the matches of photo 1's cells (B, N, C) and of photo 2's (B, M, C).

    Photos are of (H, W) pixels; descriptors as in a comparison.
    """
    # Pair by pair: a matrix of all scores of a batch is more than processors keep at hand.
    found = [
        _best_of_pair(own @ other.mT, size1, size2)
        for own, other in zip(cells1.split(1), cells2.split(1), strict=True)
    ]
    first, second = (
        CellMatches(*map(torch.cat, zip(*side, strict=True))) for side in zip(*found, strict=True)
    )
    return first, second


def _best_of_pair(scores: Tensor, size1: Size, size2: Size) -> tuple[CellMatches, CellMatches]:
    sums1, sums2 = scores.logsumexp(dim=2), scores.logsumexp(dim=1)
    # The logarithm of the product of both softmaxes.
    mutual = torch.mul(scores, 2).sub_(sums1[:, :, None]).sub_(sums2[:, None])
    return (
        _around(scores, sums1, *mutual.max(dim=2), size2),
        _around(scores.mT, sums2, *mutual.max(dim=1), size1),
    )


def _around(
    scores: Tensor, log_sums: Tensor, log_mutual: Tensor, best: Tensor, size: Size
) -> CellMatches:
    """Return the matches around the ``best`` cells (B, N) of the other photo, of ``size``."""
    rows, columns = size[0] // CELL, size[1] // CELL
    step = torch.arange(-1, 2, device=scores.device)
    row = (best // columns)[..., None, None] + step[:, None]
    column = (best % columns)[..., None, None] + step
    inside = (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
    near = (row.clamp(0, rows - 1) * columns + column.clamp(0, columns - 1)).flatten(-2)
    weights = (scores.gather(-1, near) - log_sums[..., None]).exp() * inside.flatten(-2)
    mass = weights.sum(dim=-1)
    positions = cell_positions(size, scores.device)[near]
    mean = (weights[..., None] * positions).sum(dim=-2) / mass.clamp(min=1e-9)[..., None]
    return CellMatches(mean, log_mutual.exp(), mass)


def search_window(fine1: Tensor, fine2: Tensor, found: CellMatches, sharpness: Tensor) -> Window:
    """Compare photo 1's cells with what lies around their matches in photo 2, maps (B, h, w, C)."""
    start, step = CENTRE // FINE_CELL, CELL // FINE_CELL
    query = fine1[:, start::step, start::step].flatten(1, 2)
    rows, columns = fine2.shape[1:3]
    middle = ((found.positions - 0.5) / FINE_CELL).round().long()
    most = constant((columns - WINDOW, rows - WINDOW), middle)
    corner = (middle - WINDOW // 2).minimum(most).clamp(min=0)
    steps = torch.arange(WINDOW, device=corner.device)
    # A photo may be narrower than a window: its last cells then stand for those beyond.
    row = (corner[..., 1, None] + steps).clamp(max=rows - 1)
    column = (corner[..., 0, None] + steps).clamp(max=columns - 1)
    index = (row[..., None] * columns + column[..., None, :]).flatten(1)
    cells = fine2.flatten(1, 2).gather(1, index[..., None].expand(-1, -1, fine2.shape[-1]))
    scores = cells.unflatten(1, (-1, WINDOW**2)) @ query[..., None]
    return Window(found, scores[..., 0] * sharpness, corner)
