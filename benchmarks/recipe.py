"""Random weights that follow from the names of the weights alone, so that nobody has to store them.

The recipe is that of the parity fixtures; their README describes it.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pointmap.network import NetworkConfig, PointmapNetwork
from pointmap.network import build_network as build

Gains = Sequence[tuple[str, float]]
"""Factors for weights whose name holds a text; the first that fits counts."""


def build_network(config: NetworkConfig, gains: Gains) -> PointmapNetwork:
    """Return a network, in eval mode, with the recipe's weights."""
    with torch.device("meta"):
        network = build(config)
    tensors = {name: _weight(name, meta, gains) for name, meta in network.state_dict().items()}
    network.load_state_dict(tensors, assign=True)
    return network.eval()


def random_photo(name: str, height: int, width: int) -> Tensor:
    """Return the recipe's photo (1, 3, H, W) of white noise in [-1, 1]."""
    return torch.from_numpy(_noise(name, 3 * height * width)).view(1, 3, height, width)


def _noise(name: str, count: int) -> NDArray[np.float32]:
    # The legacy generator: its stream will never change.
    stream = np.random.RandomState(zlib.crc32(name.encode()))
    return 2 * stream.random_sample(count).astype(np.float32) - 1


def _weight(name: str, like: Tensor, gains: Gains) -> Tensor:
    # Tensors with two names take the numbered one's noise.
    seed = re.sub(r"layer(\d)_rn\.", lambda match: f"layer_rn.{int(match[1]) - 1}.", name)
    noise = _noise(seed, like.numel())
    if like.ndim >= 2:
        gain = next((gain for part, gain in gains if part in name), 1.0)
        noise *= np.float32(gain * np.sqrt(3 / (like.numel() / like.shape[0])))
    elif name.endswith(".weight"):
        noise = 1 + np.float32(0.2) * noise
    else:
        noise *= np.float32(0.1)
    return torch.from_numpy(noise).view(like.shape)
