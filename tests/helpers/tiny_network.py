"""The smallest network of our architecture, for tests that need any network at all."""

from __future__ import annotations

from torch import Tensor

from pointmap.network import NetworkConfig


def tiny_config(size: int) -> NetworkConfig:
    """Return one encoder and one decoder block for photos of ``size`` pixels."""
    return NetworkConfig(
        img_size=(size, size),
        enc_embed_dim=16,
        enc_depth=1,
        enc_num_heads=2,
        dec_embed_dim=16,
        dec_depth=1,
        dec_num_heads=2,
        head_type="linear",
    )


def assert_same(found: Tensor, expected: Tensor, tolerance: float = 2e-5) -> None:
    assert found.shape == expected.shape
    assert (found - expected.float()).abs().max() <= tolerance * expected.float().abs().max()
