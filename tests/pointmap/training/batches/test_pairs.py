"""Pairs for training as a mirror shows them."""

from __future__ import annotations

import roma
import torch

from pointmap.training.batches.pairs import Views, unproject_torch

HEIGHT, WIDTH = 6, 8


def world_points(views: Views) -> torch.Tensor:
    """Points (B, H, W, 3) that the pixels show."""
    own = unproject_torch(views.depth, views.intrinsics)
    R, t = views.cam_to_world[:, :3, :3], views.cam_to_world[:, :3, 3]
    return torch.einsum("bij,bhwj->bhwi", R, own) + t[:, None, None]


def test_a_mirror_shows_the_mirrored_world() -> None:
    generator = torch.Generator().manual_seed(0)
    poses = torch.eye(4).repeat(2, 1, 1)
    poses[:, :3, :3] = roma.rotvec_to_rotmat(torch.randn(2, 3, generator=generator))
    poses[:, :3, 3] = torch.randn(2, 3, generator=generator)
    K = torch.tensor([[7.0, 0, 3.2], [0, 6.5, 2.9], [0, 0, 1]]).repeat(2, 1, 1)
    images = torch.randint(255, (2, 3, HEIGHT, WIDTH), generator=generator, dtype=torch.uint8)
    depth = 1 + torch.rand(2, HEIGHT, WIDTH, generator=generator)
    views = Views(images, depth, K, poses)

    seen = views.mirrored(torch.tensor([True, False]))

    assert torch.equal(seen.images[0], images[0].flip(-1))
    expected = world_points(views)[0].flip(1) * torch.tensor([-1.0, 1.0, 1.0])
    assert torch.allclose(world_points(seen)[0], expected, atol=1e-5)
    assert torch.allclose(torch.linalg.det(seen.cam_to_world[0, :3, :3]), torch.tensor(1.0))
    for now, before in zip(vars(seen).values(), vars(views).values(), strict=True):
        assert torch.equal(now[1], before[1])
