"""The prior where no photo confirms depth: bent only as far as hidden confirmed depth bears out."""

import numpy as np
import pytest
import torch

from recon.stereo.cross_check import Estimate
from recon.stereo.fill_unconfirmed import close_gaps, fill_unconfirmed, spread

HEIGHT, WIDTH = 96, 128


def smooth_noise(deviation: float, seed: int, cells: int = 3) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.normal(size=(1, 1, cells, cells))).float()
    field = torch.nn.functional.interpolate(coarse, (HEIGHT, WIDTH), mode="bicubic")[0, 0]
    return deviation * field / field.std()


def truth() -> torch.Tensor:
    """A step in depth, the nearer half slanted."""
    x = torch.arange(WIDTH)[None].expand(HEIGHT, WIDTH)
    return torch.where(x < WIDTH // 2, 2 + 0.01 * x, 4.0).float()


def with_hole(depth: torch.Tensor) -> tuple[Estimate, torch.Tensor]:
    """Confirmed depth, and where it is not: a block of 30 x 40 pixels."""
    hole = torch.zeros(depth.shape, dtype=torch.bool)
    hole[30:60, 20:60] = True
    return Estimate(torch.where(hole, 0.0, depth), (~hole).float()), hole


def error(depth: torch.Tensor, where: torch.Tensor) -> float:
    return float((depth / truth() - 1).abs()[where].mean())


def test_smoothly_wrong_prior_is_bent_to_what_is_confirmed_around_it() -> None:
    checked, hole = with_hole(truth())
    prior = Estimate(truth() * smooth_noise(0.1, 0).exp(), torch.full((HEIGHT, WIDTH), 0.5))
    filled = fill_unconfirmed(checked, prior)
    assert error(filled.depth, hole) < 0.65 * error(prior.depth, hole)
    assert torch.equal(filled.depth[~hole], truth()[~hole])
    # The rim of the gap closes along its plane and counts as confirmed.
    assert filled.confidence[36:54, 26:54].max() <= 0.3


def test_a_quick_filling_looks_for_no_planes_and_still_bends_the_prior(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unwanted(*_: object) -> None:
        raise AssertionError("planes were looked for")

    monkeypatch.setattr("recon.stereo.fill_unconfirmed.along_planes", unwanted)
    checked, hole = with_hole(truth())
    prior = Estimate(truth() * smooth_noise(0.1, 0).exp(), torch.full((HEIGHT, WIDTH), 0.2))
    # Each surface has its colour.
    pixels = (truth() < 3.5).float()[..., None].expand(HEIGHT, WIDTH, 3)
    filled = fill_unconfirmed(checked, prior, pixels=pixels, quick=True)
    assert error(filled.depth, hole) < 0.8 * error(prior.depth, hole)
    with pytest.raises(AssertionError, match="planes"):
        fill_unconfirmed(checked, prior, pixels=pixels)


def test_wrong_scale_goes_however_far_from_what_is_confirmed() -> None:
    known = torch.zeros(HEIGHT, WIDTH)
    known[:, :40] = 1
    prior = Estimate(1.3 * truth(), torch.full((HEIGHT, WIDTH), 0.5))
    filled = fill_unconfirmed(Estimate(truth() * known, known), prior)
    assert error(filled.depth, known == 0) < 0.01


def test_good_prior_beside_noisy_confirmed_depth_comes_out_as_it_went_in() -> None:
    """What is confirmed errs without rhyme: hidden parts of it are not predicted by the rest."""
    noise = torch.from_numpy(np.random.default_rng(0).normal(size=(HEIGHT, WIDTH))).float()
    checked, hole = with_hole(truth() * (0.02 * noise).exp())
    prior = Estimate(truth(), torch.full((HEIGHT, WIDTH), 0.9))
    filled = fill_unconfirmed(checked, prior)
    assert error(filled.depth, hole) < 0.004


def test_rim_of_a_neighbouring_surface_does_not_bend_the_prior() -> None:
    checked, hole = with_hole(truth())
    depth = checked.depth.clone()
    depth[26:30, 16:60] = depth[30:60, 16:20] = 1.2
    prior = Estimate(truth() * smooth_noise(0.01, 1).exp(), torch.full((HEIGHT, WIDTH), 0.9))
    hole[30:36] = hole[54:60] = hole[:, 20:26] = hole[:, 54:60] = False
    clean = error(fill_unconfirmed(checked, prior).depth, hole)
    filled = fill_unconfirmed(Estimate(depth, checked.confidence), prior)
    assert error(filled.depth, hole) < 1.5 * clean
    assert error(filled.depth, hole) < 0.015


def test_borrowed_depth_fills_unless_the_prior_says_it_is_hidden() -> None:
    checked, hole = with_hole(truth())
    prior = Estimate(truth() * smooth_noise(0.1, 2).exp(), torch.full((HEIGHT, WIDTH), 0.5))
    alone = error(fill_unconfirmed(checked, prior).depth, hole)
    weight = torch.full((HEIGHT, WIDTH), 0.6)
    right = fill_unconfirmed(checked, prior, Estimate(truth(), weight))
    behind = fill_unconfirmed(checked, prior, Estimate(torch.full((HEIGHT, WIDTH), 9.0), weight))
    assert error(right.depth, hole) < 0.7 * alone
    assert error(behind.depth, hole) == pytest.approx(alone, rel=0.05)


def test_nothing_unconfirmed_is_filled_in_under_the_ground() -> None:
    checked, hole = with_hole(truth())
    below = torch.zeros_like(hole)
    below[45:] = True
    prior = Estimate(truth() * torch.where(hole, 1.4, 1.0), torch.full((HEIGHT, WIDTH), 0.5))
    left = fill_unconfirmed(checked, prior).depth
    assert error(left, hole & below) > 0.1
    ground = torch.where(below, 1 / truth(), 0.0)
    filled = fill_unconfirmed(checked, prior, ground=ground).depth
    torch.testing.assert_close(filled[below], truth()[below], rtol=1e-3, atol=0)
    assert torch.equal(filled[~below], left[~below])
    # What is confirmed stays, and what is above the ground.
    nearer = fill_unconfirmed(checked, prior, ground=2 * ground).depth
    assert torch.equal(nearer[~hole], left[~hole])
    assert torch.equal(fill_unconfirmed(checked, prior, ground=ground / 2).depth, left)


def test_nothing_confirmed_leaves_the_prior_bit_equal_and_unknown_stays_unknown() -> None:
    nothing = Estimate(torch.zeros(HEIGHT, WIDTH), torch.zeros(HEIGHT, WIDTH))
    depth = truth()
    depth[:10] = 0
    filled = fill_unconfirmed(nothing, Estimate(depth, torch.full((HEIGHT, WIDTH), 0.8)))
    assert torch.equal(filled.depth, depth)
    assert (filled.confidence[:10] == 0).all()


def test_gap_in_a_plane_closes_and_counts_as_confirmed() -> None:
    y, x = torch.meshgrid(torch.arange(40.0), torch.arange(50.0), indexing="ij")
    depth = 1 / (0.3 + 0.002 * x - 0.001 * y)
    known = torch.ones_like(depth)
    known[20:23, 25:28] = 0
    closed = close_gaps(Estimate(depth * known, known))
    torch.testing.assert_close(closed.depth, depth, rtol=1e-4, atol=0)
    assert closed.confidence[21, 26] > 0.35


def test_spread_fills_from_what_is_known() -> None:
    values, weights = torch.zeros(37, 50), torch.zeros(37, 50)
    values[:, :10], weights[:, :10] = 2.0, 1.0
    values[:, 40:], weights[:, 40:] = -1.0, 1.0
    filled = spread(values, weights)
    assert (filled[:, :10] == 2).all() and (filled[:, 40:] == -1).all()
    assert filled[:, 10:40].max() <= 2 and filled[:, 10:40].min() >= -1
    assert filled[:, 12].mean() > 1 and filled[:, 37].mean() < -0.3
    assert (spread(values, torch.zeros_like(weights)) == 0).all()
