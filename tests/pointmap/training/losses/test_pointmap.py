"""The training objective against values worked by hand, and its invariances."""

import math

import pytest
import torch

from pointmap.training.losses import mean_distance, pointmap_loss


def example(seed: int = 0) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(2, 5, 3, generator=generator, dtype=torch.float64) for _ in range(4))


def test_hand_worked_value() -> None:
    # One pair, one valid pixel per view. Prediction (2, 0, 0) and (0, 2, 0): scale 2.
    # Truth (1, 0, 0) and (0, 0, 1): scale 1. Distances 0 and sqrt 2.
    predicted = (torch.tensor([[[2.0, 0, 0]]]), torch.tensor([[[0, 2.0, 0]]]))
    truth = (torch.tensor([[[1.0, 0, 0]]]), torch.tensor([[[0, 0, 1.0]]]))
    valid = (torch.ones(1, 1, dtype=torch.bool),) * 2
    confidence = (torch.full((1, 1), 3.0), torch.full((1, 1), 2.0))
    loss = pointmap_loss(predicted, confidence, truth, valid, alpha=0.5)
    expected = (0 - 0.5 * math.log(3)) + (2 * math.sqrt(2) - 0.5 * math.log(2))
    assert loss.total.item() == pytest.approx(expected, rel=1e-6)
    assert float(loss.error1) == pytest.approx(0, abs=1e-7)
    assert float(loss.error2) == pytest.approx(math.sqrt(2), rel=1e-6)


def test_scale_of_either_side_does_not_matter_and_truth_is_zero() -> None:
    p1, p2, t1, t2 = example()
    valid = (torch.ones(2, 5, dtype=torch.bool), torch.arange(10).reshape(2, 5) % 3 > 0)
    confidence = (torch.full((2, 5), 2.0),) * 2

    def loss(a: float, b: float) -> torch.Tensor:
        return pointmap_loss((a * p1, a * p2), confidence, (b * t1, b * t2), valid, alpha=0.2).total

    torch.testing.assert_close(loss(1, 1), loss(7, 0.3))
    same = pointmap_loss((3 * t1, 3 * t2), confidence, (t1, t2), valid, alpha=0.2)
    assert float(same.error1) < 1e-12 and float(same.error2) < 1e-12


def test_gradients_are_the_loss_s_own() -> None:
    p1, p2, t1, t2 = example(3)
    valid = (torch.ones(2, 5, dtype=torch.bool), torch.arange(10).reshape(2, 5) % 3 > 0)
    confidence = torch.linspace(1.5, 4, 10, dtype=p1.dtype).reshape(2, 5).requires_grad_()

    def loss(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        return pointmap_loss((a, b), (c, c), (t1, t2), valid, alpha=0.2).total

    assert torch.autograd.gradcheck(loss, (p1.requires_grad_(), p2.requires_grad_(), confidence))


def test_invalid_pixels_have_no_influence_not_even_infinite_truth() -> None:
    p1, p2, t1, t2 = example(1)
    valid = (torch.ones(2, 5, dtype=torch.bool), torch.ones(2, 5, dtype=torch.bool))
    valid[0][:, 2] = False
    confidence = (torch.full((2, 5), 2.0),) * 2
    p1 = p1.requires_grad_()
    loss = pointmap_loss((p1, p2), confidence, (t1, t2), valid, alpha=0.2)
    loss.total.backward()
    assert p1.grad is not None
    assert torch.all(p1.grad[:, 2] == 0)
    assert torch.all(p1.grad[:, 1].abs().sum(-1) > 0)


def test_a_pair_without_a_valid_pixel_gives_zero_and_finite_gradients() -> None:
    p1, p2, t1, t2 = example(2)
    none = torch.zeros(2, 5, dtype=torch.bool)
    p1 = p1.requires_grad_()
    loss = pointmap_loss((p1, p2), (torch.ones(2, 5),) * 2, (t1, t2), (none, none), alpha=0.2)
    loss.total.backward()
    assert loss.total.item() == 0
    assert p1.grad is not None and torch.isfinite(p1.grad).all()
    assert torch.equal(mean_distance(t1, t2, none, none), torch.ones(2, dtype=t1.dtype))
