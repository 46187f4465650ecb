"""Depth that other photos confirmed, held against what a search found."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from balls_before_a_wall import SURFACES, photo
from synthetic import shoot
from torch import Tensor

from recon.stereo.cross_check import Estimate
from recon.stereo.plane_sweep import Scorer, scorer_of
from recon.stereo.seen_by_others import with_depth_of_others


def right(found: Tensor, true: Tensor) -> Tensor:
    return (found / true - 1).abs() < 0.02


Case = tuple[Scorer, Tensor, Estimate]


@pytest.fixture(scope="module")
def case() -> Case:
    """What scores a photo, its true inverse depth, and that seen at half the size by others."""
    shots = shoot(5, width=192, height=144, span_deg=24, wavelength=0.4, surfaces=SURFACES)
    true = torch.from_numpy((1 / shots[2].depth).astype(np.float32))
    half = torch.nn.functional.avg_pool2d(true[None], 2)[0]
    photos = [photo(shot) for shot in shots]
    scorer = scorer_of(photos[2], [photos[k] for k in (1, 3, 0, 4)])
    return scorer, true, Estimate(1 / half, torch.full_like(half, 0.15))


@pytest.mark.parametrize("factor", [0.8, 1.3])
def test_surface_that_others_see_replaces_what_was_found_before_or_behind_it(
    case: Case, factor: float
) -> None:
    scorer, true, seen = case
    wrong = true.clone()
    wrong[40:100, 60:120] *= factor
    found = with_depth_of_others(scorer, wrong, seen)
    assert right(found, true)[40:100, 60:120].float().mean() > 0.6
    assert (found == true)[:, 125:].float().mean() > 0.9


def test_what_others_see_that_is_hidden_here_or_before_it_is_not_taken(case: Case) -> None:
    scorer, true, seen = case
    # As others see them, outlines of what is in front are wider, or it is not there at all.
    wide = torch.from_numpy(cv2.dilate(seen.depth.numpy(), np.ones((9, 9), np.uint8)))
    narrow = torch.from_numpy(cv2.erode(seen.depth.numpy(), np.ones((9, 9), np.uint8)))
    for depth in (wide, narrow):
        differ = ~right(1 / depth, 1 / seen.depth)
        found = with_depth_of_others(scorer, true, Estimate(depth, seen.confidence))
        lost = differ.repeat_interleave(2, 0).repeat_interleave(2, 1) & ~right(found, true)
        assert differ.float().mean() > 0.1
        assert lost.float().mean() < 0.2 * differ.float().mean()


def test_without_depth_of_others_nothing_changes(case: Case) -> None:
    scorer, true, seen = case
    nothing = Estimate(seen.depth, torch.zeros_like(seen.confidence))
    assert torch.equal(with_depth_of_others(scorer, 1.2 * true, nothing), 1.2 * true)
