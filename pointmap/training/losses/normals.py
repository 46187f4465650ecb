"""Losses on the orientation of surfaces."""

from __future__ import annotations

import torch
from torch import Tensor


def surface_normals(points: Tensor) -> Tensor:
    """Return unit normals (B, H-2, W-2, 3) at the inner pixels of a point map (B, H, W, 3).

    Cross product of the steps between the neighbours left and right, above and below; zero where
    these coincide. Facing the camera in the OpenCV frame.
    """
    across = points[:, 1:-1, 2:] - points[:, 1:-1, :-2]
    down = points[:, 2:, 1:-1] - points[:, :-2, 1:-1]
    normal = torch.linalg.cross(down, across)
    squared = normal.square().sum(-1, keepdim=True)
    length = torch.where(squared > 0, squared, 1).sqrt()
    return torch.where(squared > 0, normal / length, 0)


def normal_loss(predicted: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    """Return the mean of 1 - n . n_true over pixels whose four neighbours are valid.

    The angle between surface normals of predicted and true point maps, as in MoGe (arXiv
    2410.19115, section 3.3, which takes the angle itself; its cosine has a gradient at 0).
    Scale (above 0) and shift of the predicted points don't matter.

    Args:
        predicted: point maps (B, H, W, 3).
        truth: true point maps, likewise.
        valid: (B, H, W) bool.
    """
    mask = valid[..., None]
    n, m = (surface_normals(torch.where(mask, points, 0)) for points in (predicted, truth))
    use = valid[:, 1:-1, 2:] & valid[:, 1:-1, :-2] & valid[:, 2:, 1:-1] & valid[:, :-2, 1:-1]
    # The pixels themselves only need neighbours; a true surface without an orientation doesn't
    # count.
    use = use & (m != 0).any(-1)
    error = torch.where(use, 1 - (n * m).sum(-1), 0)
    return error.sum() / use.sum().clamp(min=1)
