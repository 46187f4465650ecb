"""Low-rank updates of a network's linear layers (LoRA, arXiv 2106.09685): few numbers to adapt."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Network = TypeVar("Network", bound=nn.Module)


class LowRankLinear(nn.Module):
    """A frozen linear layer W x + b with a trainable update: W x + b + up (down x).

    ``down`` (rank, in) starts random and ``up`` (out, rank) zero, so that at first nothing changes.
    """

    def __init__(self, linear: nn.Linear, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        weight = linear.weight
        self.linear = linear.requires_grad_(False)
        start = torch.randn(rank, linear.in_features, generator=generator)
        self.down = nn.Parameter((start / linear.in_features**0.5).to(weight))
        self.up = nn.Parameter(weight.new_zeros(linear.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        """Features (..., in) to (..., out)."""
        out: Tensor = self.linear(x)
        return out + F.linear(F.linear(x, self.down), self.up)

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """Return the one linear layer that computes the same."""
        self.linear.weight += self.up @ self.down
        return self.linear


def add_low_rank(network: nn.Module, *, rank: int, seed: int = 0) -> list[nn.Parameter]:
    """Freeze ``network``, give its linear layers low-rank updates and return what is to train.

    The parameters come as down, up, down, up, ... in the order of the modules. ``rank`` is capped
    by the smaller side of each layer.
    """
    if rank < 1:
        raise ValueError(f"rank {rank} leaves nothing to train")
    generator = torch.Generator().manual_seed(seed)
    network.requires_grad_(False)
    parameters: list[nn.Parameter] = []
    for parent, name, linear in _children(network, nn.Linear):
        most = min(rank, linear.in_features, linear.out_features)
        update = LowRankLinear(linear, most, generator)
        setattr(parent, name, update)
        parameters += [update.down, update.up]
    return parameters


def merge_low_rank(network: nn.Module) -> None:
    """Put all low-rank updates of ``network`` into its weights: the layers are plain again.

    Names and shapes of the state dict are then those of before; the weights stay frozen.
    """
    for parent, name, update in _children(network, LowRankLinear):
        setattr(parent, name, update.merged())


def _children(network: nn.Module, kind: type[Network]) -> list[tuple[nn.Module, str, Network]]:
    """Return (parent, attribute, module) of all modules of ``kind``, before any is changed."""
    return [
        (parent, name, child)
        for parent in network.modules()
        for name, child in parent.named_children()
        if isinstance(child, kind)
    ]
