"""A shard of training views without rendering: a slanted wall of noise."""

from __future__ import annotations

import torch
from torch import Tensor


def wall_shard(side: int, *, views: int = 3) -> dict[str, Tensor]:
    """One scene of square views of ``side`` pixels, beside each other, as save_shard takes it."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (1, views, 3, side, side), generator=generator).byte()
    depth = torch.linspace(2.0, 3.0, side).expand(1, views, side, side).half()
    intrinsics = torch.tensor([[0.85 * side, 0, side / 2], [0, 0.85 * side, side / 2], [0, 0, 1]])
    poses = torch.eye(4).repeat(1, views, 1, 1)
    poses[0, :, 0, 3] = 0.1 * torch.arange(views)
    overlap = torch.full((1, views, views), 0.8)
    return {
        "images": images,
        "depth": depth,
        "intrinsics": intrinsics.expand(1, views, 3, 3).clone(),
        "cam_to_world": poses,
        "overlap": overlap,
        "seeds": torch.arange(1),
    }
