"""Transformer blocks with rotary 2D positions. Module names follow the official state dict.

Token tensors are (B, N, C), row-major over the patch grid. A ``Rotation`` is what RoPE needs for
one grid: it is made once per forward and shared by all blocks.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pointmap.network.cpu.attention import (
    MANY_KEYS,
    attention_bf16,
    bf16_is_quicker,
    plain_attention,
)


class Rotation(NamedTuple):
    """Rotary factors of one patch grid, each (N, 1, D) for heads of width D."""

    cos: Tensor
    sin: Tensor
    """Sine, negated in the first half of each rotated pair."""


@functools.lru_cache(maxsize=64)
def rotation(
    rows: int, columns: int, width: int, base: float, device: torch.device, dtype: torch.dtype
) -> Rotation:
    """Return the factors of RoPE2D (RoFormer, arXiv 2104.09864, applied per axis as in CroCo v2).

    The first half of a head's channels turns with the token's row, the second with its column;
    inside a half, channel i is paired with channel i + D/4. Positions are patch indices from 0.
    """
    # A tensor made in inference mode could not be used in a later training step.
    with torch.inference_mode(False), torch.no_grad():
        exponent = torch.arange(0, width // 2, 2, dtype=torch.float32, device=device) / (width / 2)
        frequency = 1.0 / base**exponent
        y = torch.arange(rows, dtype=torch.float32, device=device)[:, None] * frequency
        x = torch.arange(columns, dtype=torch.float32, device=device)[:, None] * frequency
        y = y[:, None].expand(rows, columns, -1)
        x = x[None].expand(rows, columns, -1)
        cos = torch.cat([y.cos(), y.cos(), x.cos(), x.cos()], dim=-1)
        sin = torch.cat([-y.sin(), y.sin(), -x.sin(), x.sin()], dim=-1)
        shape = (rows * columns, 1, width)
        return Rotation(cos.reshape(shape).to(dtype), sin.reshape(shape).to(dtype))


class Grid(NamedTuple):
    """The patch grid of a batch of photos, and the base of its rotary frequencies."""

    rows: int
    columns: int
    base: float

    def rotate(self, x: Tensor) -> Tensor:
        """Turn queries or keys (B, N, heads, D) by their positions, in their own dtype."""
        width = x.shape[-1]
        cos, sin = rotation(self.rows, self.columns, width, self.base, x.device, x.dtype)
        swapped = x.unflatten(-1, (2, 2, width // 4)).flip(-2).flatten(-3)
        return torch.addcmul(x * cos, swapped, sin)


def attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Softmax attention of (B, N, heads, D) and (B, M, heads, D); returns (B, N, heads * D)."""
    query, key, value = (x.transpose(1, 2) for x in (query, key, value))
    if query.device.type == "cpu" and torch.is_grad_enabled() and query.requires_grad:
        mixed = plain_attention(query, key, value)
    elif bf16_is_quicker(query) and key.shape[2] >= MANY_KEYS:
        mixed = torch.stack([attention_bf16(*x) for x in zip(query, key, value, strict=True)])
    else:
        mixed = F.scaled_dot_product_attention(query, key, value)
    return mixed.transpose(1, 2).flatten(2)


class SelfAttention(nn.Module):
    """Multi-head self-attention with rotary positions."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        """Tokens (B, N, C) to (B, N, C)."""
        # One call turns queries and keys: as 2 * heads heads of the same positions.
        turned, value = (
            self.qkv(x)
            .unflatten(-1, (3 * self.heads, -1))
            .split((2 * self.heads, self.heads), dim=2)
        )
        query, key = grid.rotate(turned).chunk(2, dim=2)
        out: Tensor = self.proj(attention(query, key, value))
        return out


class CrossAttention(nn.Module):
    """Multi-head attention to the other photo's tokens, rotary positions on both."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.projq = nn.Linear(width, width)
        self.projk = nn.Linear(width, width)
        self.projv = nn.Linear(width, width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, memory: Tensor, grid: Grid, memory_grid: Grid) -> Tensor:
        """Tokens (B, N, C) looking at memory (B, M, C) to (B, N, C)."""
        split = (self.heads, -1)
        query = grid.rotate(self.projq(x).unflatten(-1, split))
        key = memory_grid.rotate(self.projk(memory).unflatten(-1, split))
        out: Tensor = self.proj(attention(query, key, self.projv(memory).unflatten(-1, split)))
        return out


class Mlp(nn.Module):
    """Two linear layers with exact GELU between them."""

    def __init__(self, width: int, hidden: int, out: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, out)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (..., width) to (..., out)."""
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


def _norm(width: int) -> nn.LayerNorm:
    return nn.LayerNorm(width, eps=1e-6)


class EncoderBlock(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, width: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.norm1 = _norm(width)
        self.attn = SelfAttention(width, heads)
        self.norm2 = _norm(width)
        self.mlp = Mlp(width, int(width * mlp_ratio), width)

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        """Tokens (B, N, C) to (B, N, C)."""
        x = x + self.attn(self.norm1(x), grid)
        return x + self.mlp(self.norm2(x))


class DecoderBlock(nn.Module):
    """Pre-norm block that looks at itself, then at the other photo."""

    def __init__(self, width: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.norm1 = _norm(width)
        self.attn = SelfAttention(width, heads)
        self.cross_attn = CrossAttention(width, heads)
        self.norm2 = _norm(width)
        self.norm3 = _norm(width)
        self.mlp = Mlp(width, int(width * mlp_ratio), width)
        self.norm_y = _norm(width)

    def forward(self, x: Tensor, memory: Tensor, grid: Grid, memory_grid: Grid) -> Tensor:
        """Tokens (B, N, C) and the other side's (B, M, C) to (B, N, C)."""
        x = x + self.attn(self.norm1(x), grid)
        x = x + self.cross_attn(self.norm2(x), self.norm_y(memory), grid, memory_grid)
        return x + self.mlp(self.norm3(x))


class PatchEmbed(nn.Module):
    """Photos to tokens: one linear map per patch."""

    def __init__(self, patch_size: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, kernel_size=patch_size, stride=patch_size)

    def forward(self, images: Tensor) -> Tensor:
        """Photos (B, 3, H, W) to tokens (B, N, C)."""
        return self.proj(images).flatten(2).transpose(1, 2)
