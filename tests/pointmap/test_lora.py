"""Low-rank updates: nothing changes at first, only they learn, merging computes the same."""

import copy

import pytest
import torch
from tiny_network import tiny_config

from pointmap.lora import LowRankLinear, add_low_rank, merge_low_rank
from pointmap.network import DUSt3R

CONFIG = tiny_config(32)


def network() -> DUSt3R:
    torch.manual_seed(0)
    return DUSt3R(CONFIG).eval()


def answer(net: DUSt3R) -> torch.Tensor:
    photos = torch.linspace(-1, 1, 2 * 3 * 32 * 32).reshape(2, 3, 32, 32)
    first, second = net(photos[:1], photos[1:])
    return torch.cat([first.pts3d, second.pts3d])


def test_an_update_begins_as_nothing_and_merges_to_the_same_function_and_names() -> None:
    plain = network()
    adapted = copy.deepcopy(plain)
    parameters = add_low_rank(adapted, rank=2)
    torch.testing.assert_close(answer(adapted), answer(plain))
    with torch.no_grad():
        for parameter in parameters:
            parameter.add_(0.05 * torch.randn(parameter.shape))
    changed = answer(adapted)
    assert (changed - answer(plain)).abs().max() > 1e-3
    merge_low_rank(adapted)
    torch.testing.assert_close(answer(adapted), changed, rtol=1e-4, atol=1e-5)
    assert list(adapted.state_dict()) == list(plain.state_dict())
    assert not any(isinstance(m, LowRankLinear) for m in adapted.modules())


def test_only_the_updates_have_gradients_and_every_linear_layer_has_one() -> None:
    net = network()
    linear_layers = sum(isinstance(m, torch.nn.Linear) for m in net.modules())
    parameters = add_low_rank(net, rank=2)
    assert len(parameters) == 2 * linear_layers
    answer(net).square().sum().backward()
    # At the start ``up`` is zero, so that only it has a gradient: the first step moves it.
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in parameters[1::2])
    mine = {id(p) for p in parameters}
    assert all(p.grad is None for p in net.parameters() if id(p) not in mine)


def test_gradients_are_those_of_the_formula() -> None:
    torch.manual_seed(1)
    layer = LowRankLinear(torch.nn.Linear(5, 4).double(), 2, torch.Generator().manual_seed(0))
    x = torch.randn(3, 5, dtype=torch.float64)
    torch.nn.init.normal_(layer.up)

    def formula(down: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(layer, {"down": down, "up": up}, (x,))

    assert torch.autograd.gradcheck(formula, (layer.down, layer.up))
    expected = layer.linear(x) + x @ layer.down.T @ layer.up.T
    torch.testing.assert_close(layer(x), expected)


def test_the_rank_is_capped_by_the_layer_and_must_be_positive() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(3, 8))
    down, up = add_low_rank(net, rank=64)
    assert down.shape == (3, 3) and up.shape == (8, 3)
    with pytest.raises(ValueError, match="rank 0"):
        add_low_rank(net, rank=0)
