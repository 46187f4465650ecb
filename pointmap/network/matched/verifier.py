"""Which matches of two photos are right, told by the matches around them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pointmap.network.constants import constant
from pointmap.network.cpu.steady_layers import GroupNorm, PointwiseConv
from pointmap.network.matched.cell_matches import CELL, CENTRE, Window, cell_positions
from pointmap.network.tokens import Size

# Distances, in cells, of the eight neighbours that a match is compared with.
_RINGS = (1, 3)
_ALIKE = 6.0
"""Difference of two cells' shifts, in pixels for each cell between them, that counts half."""
_LOOPS = (4.0, 16.0)
"""Pixels by which a way there and back may miss to count half."""
_WIDTH, _DILATIONS = 32, (1, 2, 4)
_EVIDENCE = 8 * len(_RINGS) + len(_LOOPS) + 3


class Verifier(nn.Module):
    """Convolutions over cells say how likely each match is right.

    As in learned filters of sparse matches (Moo Yi et al., arXiv 1711.05971) it sees all matches of
    a pair at once. Cells lie on a grid, so neighbours are at hand: those of a right match move
    alike (Bian et al., "GMS", CVPR 2017), and its own match leads back.
    """

    def __init__(self) -> None:
        super().__init__()
        self.enter = PointwiseConv(_EVIDENCE, _WIDTH)
        self.blocks = nn.ModuleList(_Block(dilation) for dilation in _DILATIONS)
        self.out = PointwiseConv(_WIDTH, 1)

    def forward(self, window: Window, back: Window, size: Size, other: Size) -> Tensor:
        """Return logits (B, N) that the cells of a photo of ``size`` (H, W) are matched rightly.

        ``window`` is of its cells, ``back`` of those of the ``other`` photo. Nothing flows back to
        the matches.
        """
        x = F.relu(self.enter(evidence(window, back, size, other)))
        # With channels first, a CPU's bits would depend on the number of threads.
        x = x.contiguous(memory_format=torch.channels_last)
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.out(x)
        return logits.flatten(1)


class _Block(nn.Module):
    def __init__(self, dilation: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(_WIDTH, _WIDTH, 3, padding=dilation, dilation=dilation)
        self.norm = GroupNorm(8, _WIDTH)
        self.everywhere = nn.Linear(_WIDTH, _WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        all_cells = self.everywhere(x.mean(dim=(2, 3)))[..., None, None]
        return x + F.relu(self.norm(self.conv(x)) + all_cells)


@torch.no_grad()
def evidence(window: Window, back: Window, size: Size, other: Size) -> Tensor:
    """Return what speaks for and against the matches of cells, maps (B, C, h, w)."""
    there, spread = window.refined()
    here = cell_positions(size, there.device)
    sure = window.coarse.mutual.sqrt()
    numbers = torch.stack([sure, window.coarse.mass, spread / CELL], dim=1)
    missed = (_followed(there, back.refined().positions, other) - here).norm(dim=-1)[:, None]
    loops = [_half_at(missed, width) for width in _LOOPS]
    shift = (there - here).mT
    own, shift = (
        x.unflatten(2, (size[0] // CELL, size[1] // CELL))
        for x in (torch.cat([numbers, *loops], dim=1), shift)
    )
    alike = [
        near_sure * _half_at((near_shift - shift).norm(dim=1, keepdim=True), _ALIKE * ring)
        for ring in _RINGS
        for near_sure, near_shift in zip(
            _around(own[:, :1], ring), _around(shift, ring), strict=True
        )
    ]
    return torch.cat([own, *alike], dim=1)


def _half_at(error: Tensor, width: float) -> Tensor:
    return 1 / (1 + (error / width).square())


def _around(maps: Tensor, ring: int) -> list[Tensor]:
    """Return maps (B, C, h, w) moved by ``ring`` cells in eight directions, zeros coming in."""
    rows, columns = maps.shape[2:]
    wide = F.pad(maps, (ring,) * 4)
    steps = (0, ring, 2 * ring)
    return [
        wide[:, :, y : y + rows, x : x + columns]
        for y in steps
        for x in steps
        if (x, y) != (ring, ring)
    ]


def _followed(there: Tensor, back: Tensor, size: Size) -> Tensor:
    """Return where the cells of a photo of ``size`` nearest to ``there`` are matched to, (B, N, 2).

    ``back`` (B, M, 2) are the matches of all its cells.
    """
    last = constant((size[1] // CELL - 1, size[0] // CELL - 1), there)
    nearest = ((there - CENTRE - 0.5) / CELL).round().clamp(min=0).minimum(last).long()
    index = nearest[..., 1] * (size[1] // CELL) + nearest[..., 0]
    return back.gather(1, index[..., None].expand(-1, -1, 2))
