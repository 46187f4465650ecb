"""Patch correspondences from exact depth, and the attention they supervise."""

from __future__ import annotations

import math

import pytest
import torch

from pointmap.network import DUSt3R, DUSt3RConfig
from pointmap.training.batches.pairs import unproject_torch
from pointmap.training.losses.correspondence import (
    AttentionProbe,
    correspondence_loss,
    patch_targets,
)

PATCH, ROWS, COLUMNS = 16, 2, 3
HEIGHT, WIDTH = ROWS * PATCH, COLUMNS * PATCH
K = torch.tensor([[[40.0, 0, WIDTH / 2], [0, 40.0, HEIGHT / 2], [0, 0, 1]]])


def targets(shift: float, other_depth: torch.Tensor, *, sky: bool = False) -> torch.Tensor:
    """A wall at depth 2 seen by two cameras, the second moved so that it shifts by ``shift`` px."""
    depth = torch.full((1, HEIGHT, WIDTH), 2.0)
    points = unproject_torch(depth, K) + torch.tensor([shift * 2 / 40, 0, 0])
    valid = torch.full((1, HEIGHT, WIDTH), not sky)
    return patch_targets(points, valid, K, other_depth, patch=PATCH)


def test_the_same_view_matches_each_patch_with_itself() -> None:
    assert torch.equal(targets(0, torch.full((1, HEIGHT, WIDTH), 2.0))[0], torch.eye(6))


def test_a_shift_by_one_patch_leaves_the_last_column_without_partner() -> None:
    found = targets(PATCH, torch.full((1, HEIGHT, WIDTH), 2.0))[0]
    expected = torch.zeros(6, 6)
    for patch, partner in ((0, 1), (1, 2), (3, 4), (4, 5)):
        expected[patch, partner] = 1
    assert torch.equal(found, expected)


def test_half_a_patch_splits_the_votes() -> None:
    found = targets(PATCH / 2, torch.full((1, HEIGHT, WIDTH), 2.0))[0]
    assert found[0].tolist() == [0.5, 0.5, 0, 0, 0, 0]
    assert found[2].tolist() == [0, 0, 0.5, 0, 0, 0]


def test_hidden_points_and_sky_have_no_partner() -> None:
    near = torch.full((1, HEIGHT, WIDTH), 1.0)
    assert targets(0, near).sum() == 0
    assert targets(0, torch.zeros(1, HEIGHT, WIDTH)).sum() == 0
    assert targets(0, torch.full((1, HEIGHT, WIDTH), 2.0), sky=True).sum() == 0


def test_the_loss_is_the_cross_entropy_over_visible_patches() -> None:
    logits = torch.tensor([[[0.0, math.log(3)], [5.0, 5.0]]])
    visible = torch.tensor([[[0.0, 1.0], [0.0, 0.0]]])
    assert correspondence_loss(logits, visible).item() == pytest.approx(-math.log(0.75))
    assert correspondence_loss(logits, torch.zeros(1, 2, 2)).item() == 0


def test_the_probe_sees_what_the_attention_computes() -> None:
    """With all but the supervised head silent, softmax of the logits mixes the values as it did."""
    torch.manual_seed(0)
    config = DUSt3RConfig(
        img_size=(HEIGHT, WIDTH), enc_embed_dim=16, enc_depth=1, enc_num_heads=2,
        dec_embed_dim=16, dec_depth=1, dec_num_heads=2, head_type="linear",
    )  # fmt: skip
    network = DUSt3R(config).eval()
    probe = AttentionProbe(network)
    cross = network.dec_blocks[0].get_submodule("cross_attn")
    captured: dict[str, torch.Tensor] = {}
    cross.get_submodule("proj").register_forward_hook(
        lambda _, inputs, __: captured.update(mixed=inputs[0])
    )
    cross.register_forward_hook(lambda _, inputs, __: captured.update(memory=inputs[1]))
    with torch.no_grad(), probe.recording():
        network(torch.rand(2, 3, HEIGHT, WIDTH), torch.rand(2, 3, HEIGHT, WIDTH))
        value = cross.get_submodule("projv")(captured["memory"])[..., :8]
    mixed = probe.logits[0][0].softmax(-1) @ value
    assert torch.allclose(mixed, captured["mixed"][..., :8], atol=1e-5)
    assert [len(side) for side in probe.logits] == [1, 1]
