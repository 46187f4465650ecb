"""Layers whose results on a CPU don't depend, in their last bits, on the number of threads.

Torch takes another way through a 1x1 convolution when it has one thread, and its group norm of maps
with channels last adds up as many partial sums as there are threads. Matrix products and the norm
of maps with channels first share rows or groups out whole.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class PointwiseConv(nn.Conv2d):
    """A 1x1 convolution, under the names of ``nn.Conv2d``; on a CPU it is a matrix product."""

    def __init__(self, channels: int, out: int, *, bias: bool = True) -> None:
        super().__init__(channels, out, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, h, w) to (B, D, h, w), in the memory format of ``x``."""
        if x.device.type != "cpu":
            return super().forward(x)
        weight = self.weight.flatten(1)
        if not x.is_contiguous():
            return F.linear(x.permute(0, 2, 3, 1), weight, self.bias).permute(0, 3, 1, 2)
        y = torch.bmm(weight.expand(len(x), -1, -1), x.flatten(2)).unflatten(2, x.shape[2:])
        return y if self.bias is None else y + self.bias[:, None, None]


class GroupNorm(nn.GroupNorm):
    """``nn.GroupNorm``, on a CPU with channels first."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, h, w) to the same shape and memory format."""
        if x.device.type != "cpu" or x.is_contiguous():
            return super().forward(x)
        return super().forward(x.contiguous()).contiguous(memory_format=torch.channels_last)
