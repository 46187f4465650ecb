"""What gaps between things in front show: planes that go on behind."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from balls_before_a_wall import SURFACES, photo
from synthetic import shoot
from torch import Tensor

from recon.stereo.cross_check import Estimate
from recon.stereo.photo import Photo2D
from recon.stereo.planes_behind import with_planes_behind


def near(found: Tensor, true: Tensor) -> Tensor:
    return (found / true - 1).abs() < 0.02


Case = tuple[list[Photo2D], Tensor, Tensor, Estimate]


@pytest.fixture(scope="module")
def case() -> Case:
    """Photos, the true inverse depth of the middle one, the same with things in front made wider,
    and at half the size what is known: nothing where these differ.
    """
    shots = shoot(5, width=192, height=144, span_deg=24, wavelength=0.4, surfaces=SURFACES)
    true = torch.from_numpy((1 / shots[2].depth).astype(np.float32))
    wide = torch.from_numpy(cv2.dilate(true.numpy(), np.ones((11, 11), np.uint8)))
    sure = (wide < 1.03 * true).float()[::2, ::2]
    half = torch.nn.functional.avg_pool2d(true[None], 2)[0]
    return [photo(shot) for shot in shots], true, wide, Estimate(1 / half, sure)


def test_what_gaps_show_comes_back(case: Case) -> None:
    photos, true, wide, guess = case
    found = with_planes_behind(photos[2], [photos[k] for k in (1, 3, 0, 4)], wide, guess)
    hidden, changed = wide > 1.1 * true, found != wide
    assert hidden.float().mean() > 0.15
    assert near(found, true)[hidden].float().mean() > 0.4
    assert near(found, true)[changed].float().mean() > 0.85


def test_what_is_right_stays(case: Case) -> None:
    photos, true, _, guess = case
    found = with_planes_behind(photos[2], [photos[1], photos[3]], true, guess)
    assert (found == true).float().mean() > 0.99


def test_planes_are_not_tried_where_nothing_nearby_is_on_them(case: Case) -> None:
    photos, _, wide, guess = case
    left = torch.arange(guess.depth.shape[1]) < 20
    only_left = Estimate(guess.depth, guess.confidence * left)
    found = with_planes_behind(photos[2], [photos[1], photos[3]], wide, only_left)
    assert (found != wide)[:, :50].any()
    assert torch.equal(found[:, 60:], wide[:, 60:])


@pytest.mark.parametrize("confidence", [0.0, 0.3])
def test_without_confirmed_depth_or_sources_nothing_changes(case: Case, confidence: float) -> None:
    photos, _, wide, guess = case
    nothing = Estimate(guess.depth, torch.full_like(guess.depth, confidence))
    assert torch.equal(with_planes_behind(photos[2], [photos[1]], wide, nothing), wide)
    assert torch.equal(with_planes_behind(photos[2], [], wide, guess), wide)
