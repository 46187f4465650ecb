"""The field's losses: values by hand, gradients, invariances, zero at the truth."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from scipy.optimize import linprog
from torch import Tensor

from pointmap.training.losses import (
    affine_invariant_loss,
    fit_scale_and_z_shift,
    gradient_matching_loss,
    log_depth_loss,
    normal_loss,
    ranking_loss,
    scale_invariant_gradient_loss,
    silog_loss,
    ssi_mae_loss,
    ssi_mse_loss,
    surface_normals,
)

MapLoss = Callable[[Tensor, Tensor, Tensor], Tensor]


def trimmed_mae(predicted: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    return ssi_mae_loss(predicted, truth, valid, trimmed=0.2)


def silog_full(predicted: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    return silog_loss(predicted, truth, valid, share=1.0)


PAIRS = torch.randint(0, 63, (2, 40, 2), generator=torch.Generator().manual_seed(5))


def ranking(predicted: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    return ranking_loss(predicted, truth, valid, PAIRS)


def maps(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Two maps (2, 7, 9) of positive float64 and a mask with holes."""
    generator = torch.Generator().manual_seed(seed)
    p, t = torch.rand(2, 2, 7, 9, generator=generator, dtype=torch.float64) * 4 + 1
    return p, t, torch.rand(2, 7, 9, generator=generator) > 0.15


def lifted(depth: Tensor) -> Tensor:
    """Points (B, H, W, 3) of depths."""
    x, y = torch.meshgrid(torch.linspace(-1, 1, 9), torch.linspace(-0.8, 0.8, 7), indexing="xy")
    rays = torch.stack([x, y, torch.ones_like(x)], -1).to(depth)
    return rays * depth[..., None]


def affine(predicted: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    return affine_invariant_loss(
        lifted(predicted).flatten(1, 2), lifted(truth).flatten(1, 2), valid.flatten(1)
    )


def normals(predicted: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    return normal_loss(lifted(predicted), lifted(truth), valid)


SCALE_AND_SHIFT = (ssi_mse_loss, ssi_mae_loss, trimmed_mae, gradient_matching_loss)
SCALE = (
    *SCALE_AND_SHIFT,
    silog_full,
    log_depth_loss,
    scale_invariant_gradient_loss,
    affine,
    normals,
)
ALL = (*SCALE, silog_loss, ranking)


@pytest.mark.parametrize("loss", ALL)
def test_gradients_are_the_loss_s_own(loss: MapLoss) -> None:
    p, t, valid = maps()
    assert torch.autograd.gradcheck(lambda x: loss(x, t, valid), p.requires_grad_())


@pytest.mark.parametrize("loss", SCALE)
def test_the_scale_of_the_prediction_does_not_matter(loss: MapLoss) -> None:
    p, t, valid = maps(1)
    factor = torch.tensor([3.7, 0.2], dtype=p.dtype)[:, None, None]
    torch.testing.assert_close(loss(factor * p, t, valid), loss(p, t, valid))
    assert loss(p, t, valid) > 1e-3


@pytest.mark.parametrize("loss", [*SCALE_AND_SHIFT, ranking])
def test_the_shift_of_the_prediction_does_not_matter(loss: MapLoss) -> None:
    p, t, valid = maps(2)
    shift = torch.tensor([-7.0, 0.4], dtype=p.dtype)[:, None, None]
    torch.testing.assert_close(loss(p + shift, t, valid), loss(p, t, valid))


@pytest.mark.parametrize(
    "loss",
    [ssi_mae_loss, trimmed_mae, log_depth_loss, scale_invariant_gradient_loss, normals, ranking],
)
def test_nor_does_the_scale_of_the_truth(loss: MapLoss) -> None:
    p, t, valid = maps(3)
    torch.testing.assert_close(loss(p, 5 * t, valid), loss(p, t, valid))


@pytest.mark.parametrize("loss", [*SCALE, silog_loss])
def test_zero_at_the_truth_with_finite_gradients(loss: MapLoss) -> None:
    _, t, valid = maps(4)
    p = t.clone().requires_grad_()
    value = loss(p, t, valid)
    value.backward()
    assert value.abs() < 1e-12
    assert p.grad is not None and p.grad.isfinite().all()


@pytest.mark.parametrize("loss", ALL)
def test_invalid_pixels_have_no_say(loss: MapLoss) -> None:
    p, t, valid = maps(6)
    broken = torch.where(valid, t, torch.nan)
    p = p.requires_grad_()
    value = loss(p, broken, valid)
    value.backward()
    torch.testing.assert_close(value, loss(p, t, valid))
    assert p.grad is not None and p.grad.isfinite().all()
    if loss is not normals:  # a normal needs a pixel's neighbours, not itself
        assert (p.grad[~valid] == 0).all()
    nothing = loss(p, t, torch.zeros_like(valid))
    nothing.backward()
    assert nothing == 0 and p.grad.isfinite().all()


def one(*rows: list[float]) -> Tensor:
    return torch.tensor([rows], dtype=torch.float64)


def test_silog_by_hand() -> None:
    # Log errors ln 2, 0, -ln 4: mean -ln 2 / 3, mean of squares 5 ln^2 2 / 3.
    p, t = one([2.0, 3.0, 1.0]), one([1.0, 3.0, 4.0])
    valid, log2 = torch.ones(1, 1, 3, dtype=torch.bool), math.log(2)
    for share in (0.0, 0.5, 1.0):
        expected = log2**2 * (5 / 3 - share / 9)
        assert silog_loss(p, t, valid, share=share).item() == pytest.approx(expected)


def test_log_depth_by_hand() -> None:
    # Log errors of the first photo ln 2, 0, -ln 4, median 0; of the second 0 and unknown ones.
    p = torch.tensor([[2.0, 3.0, 1.0], [5.0, 1.0, 1.0]], dtype=torch.float64)
    t = torch.tensor([[1.0, 3.0, 4.0], [7.0, 0.0, 0.0]], dtype=torch.float64)
    assert log_depth_loss(p, t, t > 0).item() == pytest.approx(3 * math.log(2) / 4)


def test_scale_and_shift_invariant_losses_by_hand() -> None:
    valid = torch.ones(1, 1, 5, dtype=torch.bool)
    p, t = one([0.0, 1.0, 2.0, 3.0, 4.0]), one([0.0, 0.0, 0.0, 0.0, 5.0])
    # Line through (x, t): slope 10 / 10 = 1, mean 1: residuals -1, 0, 1, 2, -2.
    assert ssi_mse_loss(p, t, valid).item() == pytest.approx((1 + 0 + 1 + 4 + 4) / 10)
    # Gradients of the residual: 1, 1, 1, -4 at scale 1; at 2: -1, 1, -2: 2 and 3 of 3 pixels;
    # at 4: -1, -2: 1 of 2; one pixel at 8.
    assert gradient_matching_loss(p, t, valid).item() == pytest.approx(7 / 5 + 5 / 3 + 1 / 2)
    # p: median 2, deviation 6 / 5; t: median 0, deviation 1.
    standard = [-2 / 1.2, -1 / 1.2, 0.0, 1 / 1.2, 2 / 1.2]
    errors = sorted(abs(a - b) for a, b in zip(standard, [0, 0, 0, 0, 5.0], strict=True))
    assert ssi_mae_loss(p, t, valid).item() == pytest.approx(sum(errors) / 10)
    assert trimmed_mae(p, t, valid).item() == pytest.approx(sum(errors[:4]) / 10)


def test_a_constant_prediction_is_scored_not_divided_by_zero() -> None:
    _, t, valid = maps(7)
    for loss in SCALE_AND_SHIFT:
        p = torch.full_like(t, 3.0).requires_grad_()
        loss(p, t, valid).backward()
        assert p.grad is not None and p.grad.isfinite().all()


def test_scale_invariant_gradient_by_hand() -> None:
    # One 2x2 map, one step: at the corner g = ((3 - 1) / 4, (1 - 1) / 2) against (0, (2 - 1) / 3).
    p, t = one([1.0, 3.0], [1.0, 9.0]), one([1.0, 1.0], [2.0, 7.0])
    valid = torch.ones(1, 2, 2, dtype=torch.bool)
    assert scale_invariant_gradient_loss(p, t, valid).item() == pytest.approx(
        math.hypot(1 / 2, 1 / 3)
    )


def test_ranking_by_hand() -> None:
    p, t = one([1.0, 3.0, 2.0]), one([1.0, 2.0, 2.01])
    valid = torch.ones(1, 1, 3, dtype=torch.bool)
    pairs = torch.tensor([[[0, 1], [2, 0], [1, 2]]])
    # 1 is deeper than 0 by 2 (right), 2 deeper than 0 by 1 (right), 1 and 2 are alike: 1 apart.
    expected = (math.log1p(math.exp(-2)) + math.log1p(math.exp(-1)) + 1) / 3
    assert ranking_loss(p, t, valid, pairs).item() == pytest.approx(expected)
    assert ranking_loss(t * 0, t * 0 + 1, valid, pairs) == 0
    assert ranking_loss(-p, t, valid, pairs) > ranking_loss(p, t, valid, pairs)


def test_affine_alignment_is_the_exact_optimum_and_robust() -> None:
    generator = torch.Generator().manual_seed(8)
    p = torch.rand(1, 40, 3, generator=generator, dtype=torch.float64) + 0.5
    t = 2.5 * p + torch.tensor([0, 0, 0.8], dtype=torch.float64)
    t[:, :12] = torch.rand(1, 12, 3, generator=generator, dtype=torch.float64) * 20 + 1  # 30 %
    valid = torch.ones(1, 40, dtype=torch.bool)
    scale, shift = fit_scale_and_z_shift(p, t, valid)
    assert (scale.item(), shift.item()) == pytest.approx((2.5, 0.8))
    # Noise everywhere: compare with the linear programme min sum w e, e >= +-(s a + b m - t).
    t = t + torch.randn(t.shape, generator=generator, dtype=torch.float64)
    scale, shift = fit_scale_and_z_shift(p, t.clamp(min=0.5), valid)
    assert (scale.item(), shift.item()) == pytest.approx(programme(p[0], t[0].clamp(min=0.5)))


def programme(p: Tensor, t: Tensor) -> tuple[float, float]:
    """The same optimum by a general solver."""
    import numpy as np

    a, b = p.flatten().numpy(), t.flatten().numpy()
    m = np.tile([0.0, 0.0, 1.0], len(p))
    count = len(a)
    cost = np.concatenate([[0, 0], np.repeat(1 / t[:, 2].numpy(), 3)])
    rows = np.concatenate(
        [
            np.column_stack([a, m, -np.eye(count)]),
            np.column_stack([-a, -m, -np.eye(count)]),
        ]
    )
    bounds = [(None, None)] * 2 + [(0, None)] * count
    found = linprog(cost, A_ub=rows, b_ub=np.concatenate([b, -b]), bounds=bounds)
    return float(found.x[0]), float(found.x[1])


def test_affine_loss_by_hand_and_without_shift() -> None:
    # The first two points fit s = 1, b = 1 exactly; the third is 3 off in x at z = 2.
    p = torch.tensor([[[1.0, 0, 1], [0, 2.0, 3], [1.0, 1, 1]]], dtype=torch.float64)
    t = torch.tensor([[[1.0, 0, 2], [0, 2.0, 4], [4.0, 1, 2]]], dtype=torch.float64)
    valid = torch.ones(1, 3, dtype=torch.bool)
    assert affine_invariant_loss(p, t, valid).item() == pytest.approx(3 / 2 / 3)
    moved = 3 * p + torch.tensor([0, 0, -0.7], dtype=torch.float64)
    assert affine_invariant_loss(moved, t, valid).item() == pytest.approx(3 / 2 / 3)


def test_normals_by_hand() -> None:
    x, y = torch.meshgrid(torch.arange(5.0), torch.arange(4.0), indexing="xy")
    flat = torch.stack([x, y, torch.full_like(x, 2.0)], -1)[None].double()
    tilted = flat.clone()
    tilted[..., 2] = 2 + flat[..., 0]  # 45 degrees
    assert torch.equal(surface_normals(flat)[0, 0, 0], torch.tensor([0, 0, -1.0]).double())
    valid = torch.ones(1, 4, 5, dtype=torch.bool)
    assert normal_loss(tilted, flat, valid).item() == pytest.approx(1 - math.sqrt(0.5))
    assert normal_loss(4 * tilted + 3, flat, valid).item() == pytest.approx(1 - math.sqrt(0.5))
