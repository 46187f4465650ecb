"""A photo and its camera on the device, and what the two ways to sweep planes over it share.

All tensors live on one device and are float32 but for the cameras. Pixels follow
:mod:`pointmap.camera` (centres at +0.5).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

WINDOW = 2
"""Windows that are compared, pixels to either side: 5 x 5 keeps edges and is still distinct."""
NOISE_VARIANCE = 3e-5
"""Grey levels are in [0, 1]; this variance (1.4 / 255 squared) is what sensor noise and JPEG leave
on a plain surface, so that NCC fades to 0 there instead of matching noise."""
NOT_SEEN = -2.0
"""Stands for the score of a pixel that a source doesn't see: below every score, which are -1 to
1."""
LEAST_DEPTH = 1e-6
"""What is nearer to a source than this share of its depth in the reference is not seen."""
EDGE_STEP = 0.06
"""Step of grey levels (0 to 1) that e-folds the penalty for a jump of depth: 15 of 255, above
noise."""
GUESS_WIDTH = 0.3
"""From this relative distance on a hypothesis pays all that a guess has to say: a third off is
another surface, however much farther."""


@dataclass(frozen=True)
class Photo2D:
    """A grey photo and its camera on the device: ``grey`` (h, w) in [0, 1], K and poses float64."""

    grey: Tensor
    intrinsics: Tensor
    cam_to_world: Tensor

    def halved(self) -> Photo2D:
        """Return the photo averaged down to half its size, K following."""
        height, width = self.grey.shape
        size = (max(height // 2, 8), max(width // 2, 8))
        grey = F.interpolate(self.grey[None, None], size, mode="area")[0, 0]
        scale = torch.tensor([size[1] / width, size[0] / height, 1.0], dtype=torch.float64)
        scaled = scale.to(self.intrinsics.device)[:, None] * self.intrinsics
        return Photo2D(grey, scaled, self.cam_to_world)

    def pixel_centres(self) -> tuple[Tensor, Tensor]:
        """Return where the photo's columns (w,) and rows (h,) have their middle, float64."""
        y, x = (
            torch.arange(side, device=self.grey.device, dtype=torch.float64) + 0.5
            for side in self.grey.shape
        )
        return x, y


@dataclass(frozen=True)
class Votes:
    """A guess at the inverse depth of each pixel (h, w), and its say (h, w) against the photos,
    whose scores span 0 to 1; 0 where nothing is guessed.
    """

    inverse: Tensor
    weight: Tensor


def epipolar_terms(reference: Photo2D, source: Photo2D) -> tuple[Tensor, Tensor]:
    """Return A (h, w, 3) and b (3,): reference pixel at inverse depth r is at A + r b in source.

    A + r b is homogeneous pixels of source, its third entry proportional to depth there:
    K_s (R K_r^-1 x / r + t) = (A + r b) / r.
    """
    matrix, b = _pixel_terms(reference, source)
    x, y = reference.pixel_centres()
    # A pixel's column and its row count apart.
    column, row = x[:, None] * matrix[:, 0], y[:, None] * matrix[:, 1] + matrix[:, 2]
    return (column + row[:, None]).float(), b.float()


def pixel_terms(source: Photo2D, target: Photo2D) -> tuple[Tensor, Tensor]:
    """Return A (3, 3), b (3,): pixel x of source at inverse depth r is at A x + r b in
    target, see :func:`epipolar_terms`.
    """
    matrix, b = _pixel_terms(source, target)
    return matrix.float(), b.float()


def _pixel_terms(source: Photo2D, target: Photo2D) -> tuple[Tensor, Tensor]:
    """Return :func:`pixel_terms`, float64."""
    relative = _inverse(target.cam_to_world) @ source.cam_to_world
    A = target.intrinsics @ relative[:3, :3] @ _inverse(source.intrinsics)
    return A, target.intrinsics @ relative[:3, 3]


def _inverse(matrix: Tensor) -> Tensor:
    # Cameras have one; to look whether there is, the host would wait for a GPU.
    return torch.linalg.inv_ex(matrix)[0]


def box_mean(values: Tensor, radius: int) -> Tensor:
    """Return means of (..., h, w) over squares of side 2 radius + 1, edges replicated."""
    h, w = values.shape[-2:]
    size = 2 * radius + 1
    padded = F.pad(values.reshape(-1, 1, h, w), (radius, radius, radius, radius), mode="replicate")
    rows = padded[..., :w].clone()
    for i in range(1, size):
        rows += padded[..., i : i + w]
    total = rows[..., :h, :].clone()
    for i in range(1, size):
        total += rows[..., i : i + h, :]
    return (total / size**2).reshape(values.shape)
