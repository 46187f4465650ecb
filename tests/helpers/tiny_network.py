"""The smallest networks of both architectures, for tests that need any network at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pointmap.checkpoint import save_checkpoint
from pointmap.network import DUSt3R, DUSt3RConfig, MatchedConfig

_ONE_BLOCK: dict[str, Any] = {
    "enc_embed_dim": 16,
    "enc_depth": 1,
    "enc_num_heads": 2,
    "dec_embed_dim": 16,
    "dec_depth": 1,
    "dec_num_heads": 2,
}


def tiny_config(size: int) -> DUSt3RConfig:
    """Return one encoder and one decoder block for photos of ``size`` pixels."""
    return DUSt3RConfig(img_size=(size, size), head_type="linear", **_ONE_BLOCK)


def tiny_matched_config(size: int) -> MatchedConfig:
    """Return the same blocks in the bundled network's architecture."""
    return MatchedConfig(img_size=(size, size), match_dim=8, **_ONE_BLOCK)


def write_tiny_network(folder: Path) -> Path:
    """Write an untrained network, always the same one: what comes of it comes from the photos."""
    torch.manual_seed(0)
    path = folder / "tiny.safetensors"
    save_checkpoint(DUSt3R(tiny_config(64)), path, card={})
    return path


def assert_same(found: Tensor, expected: Tensor, tolerance: float = 2e-5) -> None:
    assert found.shape == expected.shape
    assert (found - expected.float()).abs().max() <= tolerance * expected.float().abs().max()
