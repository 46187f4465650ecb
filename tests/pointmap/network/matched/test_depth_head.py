"""The head of a network that matches, and how its depth is bent to matches."""

from __future__ import annotations

import torch
from tiny_network import tiny_config

from pointmap.network.matched.depth_bending import bent
from pointmap.network.matched.depth_head import DepthHead
from pointmap.network.matched.matcher import DETAIL

_CONFIG = tiny_config(64)


def test_a_head_begins_with_a_wall_and_learns_detail_from_fine_cells() -> None:
    head, size = DepthHead(_CONFIG, DETAIL), (32, 48)
    generator = torch.Generator().manual_seed(11)
    tokens = torch.randn(1, 6, _CONFIG.dec_embed_dim, generator=generator)
    fine = torch.zeros(1, DETAIL, 8, 12)
    with torch.no_grad():
        log_z, confidence = head(tokens, fine, size)
        assert torch.equal(log_z, torch.zeros(1, 32, 48))
        assert torch.equal(confidence, torch.full((1, 32, 48), 2.0))
        for layer in (head.proj, head.detail):
            layer.weight.normal_(std=0.1, generator=generator)
        before = head(tokens, fine, size)[0]
        fine[0, :, 3, 7] = 1
        after = head(tokens, fine, size)[0]
    # Two convolutions see two fine cells to each side: columns 20 to 39, rows 4 to 23.
    changed = (after != before)[0]
    assert changed[4:24, 20:40].float().mean() > 0.9
    changed[4:24, 20:40] = False
    assert not changed.any()


def test_depth_is_bent_to_what_trusted_matches_tell_and_keeps_its_scale() -> None:
    y, x = torch.meshgrid(torch.arange(96.0), torch.arange(128.0), indexing="ij")
    true = (3 + x / 64 + 0.3 * torch.sin(y / 30)).log()[None]
    guess = torch.full((1, 96, 128), 0.7)
    cells = torch.nn.functional.avg_pool2d(true[:, None], 8)[:, 0]
    trust = torch.ones_like(cells)
    # Told in other units, and some of it is wrong.
    told = cells + 5
    told[0, ::5, ::5] -= 2.5
    found = bent(guess, told, trust)
    off = found - true
    assert float((off - off.median()).abs().median()) < 0.03
    assert float((guess - true).std()) > 0.12
    # Where the matches are as deep as was thought, in the middle, it stays as deep.
    assert float((found - guess).median().abs()) < 0.05
    assert torch.equal(bent(guess, told, torch.zeros_like(trust)), guess)
    # Trust in one half says little of the other's far end.
    trust[..., 4:] = 0
    assert float((bent(guess, told, trust) - guess)[..., 112:].abs().max()) < 0.02
