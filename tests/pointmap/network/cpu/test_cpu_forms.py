"""Fast forms for CPUs against the plain layers."""

from __future__ import annotations

import pytest
import torch
from tiny_network import assert_same
from torch import Tensor

from pointmap.network.cpu.doubled_convolution import conv_of_doubled, double
from pointmap.network.cpu.winograd import conv3x3
from pointmap.network.layers import attention


@pytest.mark.parametrize("spread", [0.5, 1.0, 3.0])
def test_bfloat16_attention_is_about_as_exact_as_the_fused_one(spread: float) -> None:
    # A spread of 3 gives scores up to 100, which bfloat16 rounds to halves.
    torch.manual_seed(0)
    heads = [(torch.randn(2, n, 3, 64) * spread).bfloat16() for n in (170, 200, 200)]
    with torch.no_grad():
        exact = attention(*(x.double() for x in heads))
        quick = attention(*heads)
        fused = torch.nn.functional.scaled_dot_product_attention(
            *(x.transpose(1, 2) for x in heads)
        )
    fused = fused.transpose(1, 2).flatten(2)
    errors = [(x.double() - exact).norm() / exact.norm() for x in (quick, fused)]
    assert not torch.equal(quick, fused)
    assert errors[0] < 3 * errors[1]


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (3, 16), (5, 7), (13, 40), (24, 33)])
def test_quick_convolutions_are_the_plain_ones(size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    x, weight, bias, last = random(2, 5, *size), random(6, 5, 3, 3), random(6), random(4, 6)
    conv2d = torch.nn.functional.conv2d
    assert torch.allclose(conv3x3(x, weight, bias), conv2d(x, weight, bias, padding=1), atol=1e-11)
    plain = conv2d(double(x), weight, bias, padding=1)
    found = conv_of_doubled(x, weight, bias)
    assert torch.allclose(found, plain, atol=1e-12)
    found = conv_of_doubled(x, weight, bias, then=lambda pixels: pixels.relu() @ last.T)
    assert torch.allclose(found, conv2d(plain.relu(), last[..., None, None]), atol=1e-11)


def test_quick_convolutions_round_like_plain_ones() -> None:
    torch.manual_seed(0)
    x, weight, bias = torch.randn(1, 128, 20, 24), torch.randn(128, 128, 3, 3), torch.randn(128)
    exact = torch.nn.functional.conv2d(x.double(), weight.double(), bias.double(), padding=1)
    assert_same(conv3x3(x, weight, bias), exact, tolerance=4e-6)
