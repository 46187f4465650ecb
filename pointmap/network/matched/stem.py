"""Convolutions in front of the matcher: features of photos by cells of 8 and of 4 pixels."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pointmap.network.cpu.steady_layers import GroupNorm, PointwiseConv

_WIDTHS, _BLOCKS = (32, 64, 128), (0, 1, 3)
COARSE_WIDTH = _WIDTHS[-1]
"""Channels of the coarse features."""


class Features(NamedTuple):
    """What a batch of photos shows, by cells of 8x8 and of 4x4 pixels."""

    coarse: Tensor
    fine: Tensor


class MatchStem(nn.Module):
    """A small residual network. Its fine features see the coarse ones, too (FPN, 1612.03144)."""

    def __init__(self, fine_channels: int) -> None:
        super().__init__()
        stages: list[nn.Module] = []
        channels, side = 3, 5
        for width, blocks in zip(_WIDTHS, _BLOCKS, strict=True):
            conv = nn.Conv2d(channels, width, side, stride=2, padding=side // 2, bias=False)
            layers = [conv, GroupNorm(8, width), nn.ReLU()]
            layers += [_Residual(width) for _ in range(blocks)]
            stages.append(nn.Sequential(*layers))
            channels, side = width, 3
        self.stages = nn.ModuleList(stages)
        middle = _WIDTHS[-2]
        self.lateral = PointwiseConv(middle, middle)
        self.from_coarse = PointwiseConv(channels, middle, bias=False)
        self.fine = nn.Conv2d(middle, fine_channels, 3, padding=1)

    def forward(self, images: Tensor) -> Features:
        """Photos (B, 3, H, W) to features (B, C, H/8, W/8) and (B, C', H/4, W/4)."""
        # CPUs convolve bfloat16 faster with channels last; the weights follow the photos.
        x = images.contiguous(memory_format=torch.channels_last)
        half, middle, coarse = self.stages
        x = middle(half(x))
        top: Tensor = coarse(x)
        above = F.interpolate(self.from_coarse(top), scale_factor=2.0, mode="nearest")
        return Features(top, self.fine(F.relu(self.lateral(x) + above)))


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm1 = GroupNorm(8, width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = GroupNorm(8, width)
        # A block begins as the identity.
        nn.init.zeros_(self.norm2.weight)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(x + self.norm2(self.conv2(y)))
