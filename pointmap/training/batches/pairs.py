"""What a training step takes: posed pairs of views, made from stored or freshly rendered ones."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pointmap.training.batches.sensor import photograph


@dataclass(frozen=True)
class PairBatch:
    """Ordered pairs of views; everything is expressed in camera 1's frame."""

    image1: Tensor
    """(B, 3, H, W) float32 in [-1, 1], after sensor effects."""
    image2: Tensor
    points1: Tensor
    """(B, H, W, 3) view 1's points in camera 1's frame."""
    points2: Tensor
    """(B, H, W, 3) view 2's points, also in camera 1's frame."""
    valid1: Tensor
    """(B, H, W) bool, false on sky."""
    valid2: Tensor
    depth1: Tensor
    """(B, H, W) float32 z-depth, 0 on sky."""
    depth2: Tensor
    intrinsics1: Tensor
    """(B, 3, 3), pixel centres at +0.5."""
    intrinsics2: Tensor
    cam2_to_cam1: Tensor
    """(B, 4, 4)."""
    overlap: Tensor
    """(B,) share of view 1's surface pixels seen by view 2."""


def unproject_torch(depth: Tensor, intrinsics: Tensor) -> Tensor:
    """Return camera-frame points (B, H, W, 3) of z-depth (B, H, W) and K (B, 3, 3) without skew."""
    height, width = depth.shape[-2:]
    x = torch.arange(width, device=depth.device) + 0.5
    y = torch.arange(height, device=depth.device) + 0.5
    focal_x, focal_y = intrinsics[:, 0, 0, None], intrinsics[:, 1, 1, None]
    ray_x = (x - intrinsics[:, 0, 2, None]) / focal_x
    ray_y = (y - intrinsics[:, 1, 2, None]) / focal_y
    return torch.stack([ray_x[:, None] * depth, ray_y[:, :, None] * depth, depth], dim=-1)


@dataclass(frozen=True)
class Views:
    """B chosen views, as stored: images uint8, z-depth with 0 on sky, K, cam_to_world."""

    images: Tensor
    depth: Tensor
    intrinsics: Tensor
    cam_to_world: Tensor

    def mirrored(self, some: Tensor) -> Views:
        """Return the views with ``some`` of them, (B,) bool, as a mirror shows them.

        Left for right, in a world that is mirrored, too: poses stay rigid motions.
        """

        def choose(changed: Tensor, kept: Tensor) -> Tensor:
            return torch.where(some.view(-1, *[1] * (kept.ndim - 1)), changed, kept)

        across = self.intrinsics.clone()
        across[:, 0, 2] = self.images.shape[-1] - across[:, 0, 2]
        mirror = torch.diag(self.cam_to_world.new_tensor([-1.0, 1.0, 1.0, 1.0]))
        return Views(
            choose(self.images.flip(-1), self.images),
            choose(self.depth.flip(-1), self.depth),
            choose(across, self.intrinsics),
            choose(mirror @ self.cam_to_world @ mirror, self.cam_to_world),
        )


def make_batch(
    first: Views, second: Views, overlap: Tensor, generator: torch.Generator, strength: float
) -> PairBatch:
    """Return the pairs (first[n], second[n]) with sensor effects of a strength from 0 to 1."""
    both = torch.cat([first.images, second.images])
    image1, image2 = photograph(both, generator, strength=strength).chunk(2)
    depth1, depth2 = first.depth.float(), second.depth.float()
    # float64 for the composition: cameras may sit far from the world's origin.
    to_first = torch.linalg.inv(first.cam_to_world.double()) @ second.cam_to_world.double()
    to_first = to_first.float()
    points2 = unproject_torch(depth2, second.intrinsics)
    R, t = to_first[:, :3, :3], to_first[:, :3, 3]
    flat = torch.baddbmm(t[:, None], points2.flatten(1, 2), R.transpose(1, 2))
    return PairBatch(
        image1=image1, image2=image2,
        points1=unproject_torch(depth1, first.intrinsics), points2=flat.reshape(points2.shape),
        valid1=depth1 > 0, valid2=depth2 > 0, depth1=depth1, depth2=depth2,
        intrinsics1=first.intrinsics, intrinsics2=second.intrinsics,
        cam2_to_cam1=to_first, overlap=overlap,
    )  # fmt: skip
