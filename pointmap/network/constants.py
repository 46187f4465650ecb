"""Small constant tensors, sent to a device once: a GPU would have to be waited for each time."""

from __future__ import annotations

import functools

import torch
from torch import Tensor


def constant(values: tuple[float, ...], like: Tensor) -> Tensor:
    """Return ``values`` (N,) on the device and in the dtype of ``like``; not to be changed."""
    return _sent(values, like.device, like.dtype)


@functools.lru_cache(maxsize=256)
def _sent(values: tuple[float, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    # A tensor made in inference mode could not be used in a later training step.
    with torch.inference_mode(False), torch.no_grad():
        return torch.tensor(values, device=device, dtype=dtype)
