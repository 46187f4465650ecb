"""Learning without labels on a rendered video: depth and poses start wrong and find the truth."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from synthetic import Shot, look_at, render, save_photos
from tiny_network import tiny_config, write_tiny_network
from torch import Tensor
from torch.nn import functional as F

from pointmap.camera import pinhole
from pointmap.checkpoint import load_network
from pointmap.network import DUSt3R
from pointmap.training.batches.pairs import unproject_torch
from pointmap.training.from_photos import main
from pointmap.training.loop.self_supervised import (
    DirectedPairs,
    SelfSupervision,
    learn_without_labels,
    least_squares_intrinsics,
    predict,
    self_supervised_loss,
    weighted_similarity,
)

WIDTH, HEIGHT, FRAMES = 64, 48, 3
PAIRS = [(k, k + 1) for k in range(FRAMES - 1)]
PATCH = np.s_[..., 14:34, 8:30]


class Video(torch.nn.Module):
    """Stands for a network: free depth and poses, handed out as pointmaps of arbitrary scale."""

    def __init__(self, shots: list[Shot], *, bend: float, turn: float, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.K = torch.from_numpy(np.stack([s.intrinsics for s in shots])).float()
        poses = torch.from_numpy(np.stack([s.cam_to_world for s in shots])).float()
        self.start = torch.from_numpy(np.stack([s.depth for s in shots])).log()
        steps = torch.stack([torch.linalg.inv(poses[j]) @ poses[i] for i, j in PAIRS])
        wrong = turn * torch.randn(len(PAIRS), 6, generator=generator)
        self.register_buffer("steps", steps)
        self.twist = torch.nn.Parameter(wrong)
        self.field = torch.nn.Parameter(bend * torch.randn(FRAMES, 1, 6, 8, generator=generator))

    def depth(self) -> Tensor:
        smooth = F.interpolate(self.field, (HEIGHT, WIDTH), mode="bicubic")[:, 0]
        return (self.start + smooth).exp()

    def forward(self) -> DirectedPairs:
        axis = torch.zeros(len(PAIRS), 4, 4)
        for n, (i, j) in enumerate(((2, 1), (0, 2), (1, 0))):
            axis[:, i, j], axis[:, j, i] = self.twist[:, n], -self.twist[:, n]
        axis[:, :3, 3] = self.twist[:, 3:]
        forward = torch.linalg.matrix_exp(axis) @ self.steps
        poses = torch.cat([forward, torch.linalg.inv(forward)])
        count = len(PAIRS)
        target = torch.tensor([i for i, _ in PAIRS] + [j for _, j in PAIRS])
        reverse = torch.arange(2 * count).roll(count)
        own = unproject_torch(self.depth(), self.K)[target]
        moved = own @ poses[:, None, :3, :3].mT + poses[:, None, None, :3, 3]
        # Each pass of a network has a scale of its own.
        scale = torch.linspace(0.5, 2, 2 * count)[:, None, None, None]
        ones = torch.ones(own.shape[:3])
        return DirectedPairs(
            target, target[reverse], reverse, scale * own, scale * moved[reverse], ones, ones
        )


@pytest.fixture(scope="module")
def shots() -> list[Shot]:
    """A camera that moves sideways: what stands still in its picture would be infinitely far."""
    K = pinhole(0.95 * WIDTH, WIDTH, HEIGHT)
    places = [np.array([x, -0.6, -3.8]) for x in np.linspace(-0.2, 0.2, FRAMES)]
    poses = [look_at(place, place + np.array([0.0, 0.2, 1.0])) for place in places]
    return [render(K, pose, WIDTH, HEIGHT, wavelength=1.2) for pose in poses]


def photos(shots: list[Shot]) -> Tensor:
    return torch.from_numpy(np.stack([s.pixels for s in shots])).permute(0, 3, 1, 2).float() / 255


def abs_rel(video: Video, shots: list[Shot], where: Tensor | None = None) -> float:
    truth = torch.from_numpy(np.stack([s.depth for s in shots]))
    errors = []
    for depth, true in zip(video.depth().detach(), truth, strict=True):
        use = torch.ones_like(true, dtype=torch.bool) if where is None else where
        ratio = depth[use] / true[use]
        errors.append(float((ratio / ratio.median() - 1).abs().mean()))
    return float(np.mean(errors))


def learn(video: Video, images: Tensor, steps: int, options: SelfSupervision) -> None:
    optimizer = torch.optim.Adam(video.parameters(), lr=0.02)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        loss = self_supervised_loss(video(), images, intrinsics=video.K, options=options)
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        schedule.step()


def test_depth_and_poses_are_found_without_labels(shots: list[Shot]) -> None:
    video = Video(shots, bend=0.15, turn=0.01)
    before = abs_rel(video, shots)
    learn(video, photos(shots), 70, SelfSupervision())
    assert before > 0.08
    assert abs_rel(video, shots) < 0.7 * before


def test_what_moves_with_the_camera_does_not_take_the_depth_with_it(shots: list[Shot]) -> None:
    images = photos(shots)
    images[PATCH] = images[0][PATCH].flip(-1)
    inside = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    inside[PATCH] = True

    def patch_over_rest(video: Video) -> float:
        depth = video.depth().detach()
        return float(depth[:, inside].median() / depth[:, ~inside].median())

    grown: dict[bool, float] = {}
    for auto_mask in (True, False):
        video = Video(shots, bend=0.15, turn=0.01)
        before, start = abs_rel(video, shots, ~inside), patch_over_rest(video)
        learn(video, images, 70, SelfSupervision(auto_mask=auto_mask))
        grown[auto_mask] = patch_over_rest(video) / start
        if auto_mask:
            assert abs_rel(video, shots, ~inside) < 0.7 * before
    # Without parallax the patch would be explained by a surface far away.
    assert grown[True] < 1.25
    assert grown[False] > 1.4


def test_the_loss_is_lowest_at_the_truth_and_does_not_know_scale(shots: list[Shot]) -> None:
    images = photos(shots)
    truth, wrong = (Video(shots, bend=bend, turn=bend / 15) for bend in (0.0, 0.15))
    right = self_supervised_loss(truth(), images, intrinsics=truth.K)
    assert right.total < 0.6 * self_supervised_loss(wrong(), images, intrinsics=truth.K).total
    assert 0.5 < right.counted <= 1
    predicted = truth()
    bigger = replace(predicted, own=3 * predicted.own, other=3 * predicted.other)
    again = self_supervised_loss(bigger, images, intrinsics=truth.K)
    torch.testing.assert_close(again.total, right.total, rtol=1e-3, atol=1e-5)
    # The pointmaps know the focal length themselves.
    own = self_supervised_loss(predicted, images)
    torch.testing.assert_close(own.total, right.total, rtol=0.05, atol=1e-3)


def test_similarity_and_focal_are_recovered_exactly_and_differentiably() -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(2, 9, 3, generator=generator, dtype=torch.float64)
    weights = torch.rand(2, 9, generator=generator, dtype=torch.float64)
    axis = torch.tensor([[0, -0.3, 0.1], [0.3, 0, -0.7], [-0.1, 0.7, 0]]).double()
    rotation = torch.linalg.matrix_exp(axis)
    moved = 2.5 * points @ rotation.T + torch.tensor([1.0, -2, 0.5]).double()
    moved[:, 0] += 100.0
    weights[:, 0] = 0.0
    scale, rigid = weighted_similarity(points, moved, weights)
    torch.testing.assert_close(scale, torch.full((2,), 2.5).double())
    torch.testing.assert_close(rigid[:, :3, :3], rotation.expand(2, 3, 3))
    torch.testing.assert_close(rigid[0, :3, 3], torch.tensor([1.0, -2, 0.5]).double())
    noisy = points + 0.1 * torch.randn(points.shape, generator=generator, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda p: weighted_similarity(p, moved, weights), noisy.requires_grad_()
    )
    K = torch.tensor([[[7.0, 0, 4], [0, 7, 3], [0, 0, 1]]]).double()
    depth = 1 + torch.rand(1, 6, 8, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(
        least_squares_intrinsics(unproject_torch(depth, K), torch.ones_like(depth)), K
    )


def test_a_network_takes_steps_on_photos_alone_and_keeps_its_form(shots: list[Shot]) -> None:
    config = tiny_config(WIDTH)
    torch.manual_seed(0)
    network = DUSt3R(config)
    for head in (network.downstream_head1, network.downstream_head2):
        torch.nn.init.normal_(head.proj.weight, std=0.01)
        head.proj.bias.data.unflatten(0, (4, -1))[2] = 1.0
    images = photos(shots)
    predicted = predict(network, images, PAIRS)
    assert predicted.own.shape == (2 * len(PAIRS), HEIGHT, WIDTH, 3)
    assert predicted.source.tolist() == predicted.target[predicted.reverse].tolist()
    learnt = learn_without_labels(network, images, PAIRS, steps=3, learning_rate=5e-3)
    assert list(learnt.state_dict()) == list(network.state_dict())
    changed = [
        name
        for name, weight in learnt.state_dict().items()
        if not torch.equal(weight, network.state_dict()[name])
    ]
    # Low-rank updates: linear layers and nothing else.
    assert changed and all(torch.isfinite(learnt.state_dict()[name]).all() for name in changed)
    assert not any("norm" in name or name.endswith("bias") for name in changed)


def test_the_command_writes_a_checkpoint_from_photos_and_names_what_it_cannot_use(
    shots: list[Shot], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos_folder = tmp_path / "photos"
    save_photos(shots, photos_folder)
    out, start = tmp_path / "learnt.safetensors", str(write_tiny_network(tmp_path))
    options = ["--out", str(out), "--weights", start, "--steps", "2", "--device", "cpu"]
    assert main([str(photos_folder), *options]) == 0
    with safe_open(out, "pt") as file:
        assert json.loads(file.metadata()["card"])["steps"] == 2
    assert load_network(out).config == tiny_config(64)
    assert main([str(photos_folder / "0.png"), *options]) == 2
    assert "at least 2" in capsys.readouterr().err
    Image.fromarray(shots[0].pixels[:, :12].repeat(3, axis=1)).save(photos_folder / "9.png")
    assert main([str(photos_folder), *options]) == 2
    assert "different shapes" in capsys.readouterr().err
