"""Attention for CPUs: by the formula, and in bfloat16 with scores kept near zero.

Both give what torch's fused kernel gives, up to rounding.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

# Attention in bfloat16 pays from this many keys on, and estimates the largest score from every
# eighth of them.
MANY_KEYS, _SAMPLE = 160, 8


def plain_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Softmax attention of heads (..., N, D) and (..., M, D); returns (..., N, D).

    Attention Is All You Need (arXiv 1706.03762), eq. 1. On CPUs, at our token counts, its backward
    takes a quarter of the fused kernel's time.
    """
    weights = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
    return weights.softmax(dim=-1) @ value


def bf16_is_quicker(query: Tensor) -> bool:
    """Whether ``attention_bf16`` applies and is quicker than torch's fused kernel."""
    on_cpu = query.device.type == "cpu" and query.dtype == torch.bfloat16
    return on_cpu and not torch.is_grad_enabled()


def attention_bf16(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Return ``plain_attention`` of one photo's bfloat16 heads (heads, N or M, D).

    Not differentiable.

    Scores in bfloat16 halve the work of torch's fused kernel on CPUs, but large ones are coarse.
    Softmax does not mind a shift of a query's scores: close to the largest one is taken off inside
    the product, in float32, by one more channel. That leaves the scores that matter near zero,
    where bfloat16 is fine. An estimate of the largest from some of the keys is enough.
    """
    query = query * query.shape[-1] ** -0.5
    shift = torch.bmm(query, key[:, ::_SAMPLE].transpose(1, 2)).amax(dim=-1, keepdim=True)
    scores = torch.bmm(torch.cat([query, shift], dim=-1), F.pad(key, (0, 1), value=-1).mT)
    return torch.bmm(torch.softmax(scores, dim=-1, out=scores), value)
