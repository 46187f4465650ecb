"""Fast forms for CPUs against the plain layers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from tiny_network import assert_same
from torch import Tensor
from torch.nn import functional as F

from pointmap.network import DUSt3RConfig, layers
from pointmap.network.cpu.attention import MANY_KEYS, attention_bf16, plain_attention
from pointmap.network.cpu.doubled_convolution import conv_of_doubled, double
from pointmap.network.cpu.winograd import conv3x3
from pointmap.network.heads import Dpt


def test_plain_attention_equals_the_fused_one_with_its_gradients() -> None:
    torch.manual_seed(0)
    inputs = [torch.randn(2, 3, n, 8, requires_grad=True) for n in (5, 7, 7)]
    plain, fused = plain_attention(*inputs), F.scaled_dot_product_attention(*inputs)
    assert torch.allclose(plain, fused, atol=1e-6)
    found = torch.autograd.grad(plain.square().sum(), inputs)
    expected = torch.autograd.grad(fused.square().sum(), inputs)
    for a, b in zip(found, expected, strict=True):
        assert torch.allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("spread", [0.5, 1.0, 3.0])
def test_bfloat16_attention_is_about_as_exact_as_the_fused_one(spread: float) -> None:
    # A spread of 3 gives scores up to 100, which bfloat16 rounds to halves.
    torch.manual_seed(0)
    heads = [(torch.randn(3, n, 64) * spread).bfloat16() for n in (170, 200, 200)]
    exact = plain_attention(*(x.double() for x in heads))
    with torch.no_grad():
        quick, fused = attention_bf16(*heads), F.scaled_dot_product_attention(*heads)
    errors = [(x.double() - exact).norm() / exact.norm() for x in (quick, fused)]
    assert errors[0] < 3 * errors[1]


def test_each_form_of_attention_is_used_where_it_is_quicker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    used: list[str] = []
    for owner, form in (
        (layers, plain_attention),
        (layers, attention_bf16),
        (F, F.scaled_dot_product_attention),
    ):

        def watched(*heads: Tensor, form: Callable[..., Tensor] = form) -> Tensor:
            used.append(form.__name__)
            return form(*heads)

        monkeypatch.setattr(owner, form.__name__, watched)
    few, many = torch.randn(1, 40, 3, 64), torch.randn(1, MANY_KEYS, 3, 64)
    trained = few.clone().requires_grad_()
    layers.attention(trained, trained, trained)
    with torch.no_grad():
        for x in (trained, many, few.bfloat16(), many.bfloat16()):
            layers.attention(x, x, x)
    assert used == ["plain_attention", *["scaled_dot_product_attention"] * 3, "attention_bf16"]


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (3, 16), (5, 7), (13, 40), (24, 33)])
def test_quick_convolutions_are_the_plain_ones(size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    x, weight, bias, last = random(2, 5, *size), random(6, 5, 3, 3), random(6), random(4, 6)
    assert torch.allclose(
        conv3x3(x, weight, bias), F.conv2d(x, weight, bias, padding=1), atol=1e-11
    )
    plain = F.conv2d(double(x), weight, bias, padding=1)
    found = conv_of_doubled(x, weight, bias)
    assert torch.allclose(found, plain, atol=1e-12)
    found = conv_of_doubled(x, weight, bias, then=lambda pixels: pixels.relu() @ last.T)
    assert torch.allclose(found, F.conv2d(plain.relu(), last[..., None, None]), atol=1e-11)


def test_quick_convolutions_round_like_plain_ones() -> None:
    torch.manual_seed(0)
    x, weight, bias = torch.randn(1, 128, 20, 24), torch.randn(128, 128, 3, 3), torch.randn(128)
    exact_x, exact_weight, exact_bias = x.double(), weight.double(), bias.double()
    exact = F.conv2d(exact_x, exact_weight, exact_bias, padding=1)
    assert_same(conv3x3(x, weight, bias), exact, tolerance=4e-6)
    exact = F.conv2d(double(exact_x), exact_weight, exact_bias, padding=1)
    assert_same(conv_of_doubled(x, weight, bias), exact, tolerance=4e-6)


@pytest.mark.parametrize("finest_is_known", [False, True])
def test_a_dpt_head_of_quick_forms_is_the_plain_one(finest_is_known: bool) -> None:
    """Batches are taken photo by photo; 128 channels are where Winograd's convolution begins."""
    torch.manual_seed(0)
    config = DUSt3RConfig(
        enc_embed_dim=8, enc_num_heads=1, dec_embed_dim=8, dec_num_heads=1, dec_depth=4,
        head_type="dpt", feature_dim=128, layer_dims=(8, 8, 8, 8),
    )  # fmt: skip
    head, size = Dpt(config), (48, 80)
    tokens = [torch.randn(3, 15, 8) for _ in range(5)]
    plain = head(tokens, size)
    assert plain.requires_grad
    with torch.no_grad():
        finest = [head.refine(0, photo[None], size) for photo in tokens[0]]
        quick = head(tokens, size, finest if finest_is_known else None)
    assert not torch.equal(quick, plain)
    assert_same(quick, plain.detach(), tolerance=1e-5)
