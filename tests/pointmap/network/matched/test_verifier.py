"""Which matches of the network's matcher are right: the verifier, and what it learns from."""

from __future__ import annotations

import pytest
import torch
from cell_windows import blind_window

from pointmap.network.matched.cell_matches import CellMatches, Window, cell_positions
from pointmap.network.matched.verifier import Verifier, evidence
from pointmap.training.batches.pairs import unproject_torch
from pointmap.training.losses.correspondence import verification_loss

_SIZE, _LARGE = (48, 64), (96, 128)


def _shifting_matches(seed: int) -> tuple[Window, Window, torch.Tensor]:
    """Matches of a photo that a camera saw again, turned and moved, from both sides; B = 4.

    And which of the first side are right: half are anywhere, all are equally sure.
    """
    generator = torch.Generator().manual_seed(seed)
    here = cell_positions(_LARGE, torch.device("cpu"))
    turn = 1 + 0.15 * torch.randn(4, 1, 2, generator=generator)
    shift = 20 * torch.randn(4, 1, 2, generator=generator)
    ways = turn * here + shift, (here - shift) / turn
    wrong = torch.rand(2, 4, len(here), generator=generator) < 0.5
    anywhere = torch.rand(2, 4, len(here), 2, generator=generator) * torch.tensor([128.0, 96.0])
    windows = []
    for way, lost, elsewhere in zip(ways, wrong, anywhere, strict=True):
        places = torch.where(lost[..., None], elsewhere, way)
        sure = torch.full(places.shape[:2], 0.5)
        windows.append(blind_window(CellMatches(places, sure, sure)))
    return windows[0], windows[1], ~wrong[0]


def test_a_verifier_learns_to_tell_matches_by_those_around_them() -> None:
    torch.manual_seed(0)
    verifier = Verifier()
    optimizer = torch.optim.Adam(verifier.parameters(), 5e-3)
    for step in range(60):
        window, back, right = _shifting_matches(step)
        logits = verifier(window, back, _LARGE, _LARGE)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, right.float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    window, back, right = _shifting_matches(1000)
    with torch.no_grad():
        told = verifier(window, back, _LARGE, _LARGE) > 0
    assert float((told == right).float().mean()) > 0.9


def test_a_way_there_and_back_that_closes_is_evidence() -> None:
    """The verifier sees it at the cell whose way it is, and only there."""
    here = cell_positions(_LARGE, torch.device("cpu"))
    shuffled = torch.randperm(len(here), generator=torch.Generator().manual_seed(1))
    there = here[shuffled].expand(4, -1, -1)
    home = torch.empty_like(here)
    home[shuffled] = here
    sure = torch.full(there.shape[:2], 0.5)
    window = blind_window(CellMatches(there, sure, sure))
    lost = home.clone()
    lost[shuffled[7]] += 50
    closed, open_ = (
        evidence(window, blind_window(CellMatches(x.expand(4, -1, -1), sure, sure)), _LARGE, _LARGE)
        for x in (home, lost)
    )
    changed = (closed != open_).any(dim=1).flatten(1)
    assert changed.nonzero()[:, 1].tolist() == [7] * 4
    assert (closed >= open_).all()


def test_what_is_right_is_near_the_truth_and_seen() -> None:
    """Logits that say so have no loss; a wall, seen again a cell further right."""
    height, width = _SIZE
    K = torch.tensor([[[50.0, 0, width / 2], [0, 50.0, height / 2], [0, 0, 1]]])
    depth = torch.full((1, height, width), 2.0)
    points = unproject_torch(depth, K) + torch.tensor([8.0, 0, 0]) * 2 / 50
    here = cell_positions(_SIZE, torch.device("cpu"))
    off = torch.zeros(48)
    off[::3] = 3.5
    off[1::3] = 4.5
    places = (here + torch.tensor([8.0, 0]) + torch.stack([torch.zeros(48), off], dim=1))[None]
    window = blind_window(CellMatches(places, torch.ones(1, 48), torch.ones(1, 48)))
    right = (off < 4) & (here[:, 0] + 8 < width)
    assert 0 < right.sum() < 40
    sky = depth.clone()
    sky[:, 4, 4] = 0
    right[0] = False
    logits = torch.where(right, 20.0, -20.0)[None]
    loss = verification_loss(logits, window, points, sky > 0, K, depth)
    assert float(loss) < 1e-6
    for cell in (0, 1, 3, 7):
        flipped = logits.clone()
        flipped[0, cell] *= -1
        worse = verification_loss(flipped, window, points, sky > 0, K, depth)
        assert float(worse) == pytest.approx(20 / 48, rel=1e-3)
