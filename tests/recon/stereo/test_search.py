"""Searches of one photo's depth: what narrow ones make of what a coarse one left."""

from __future__ import annotations

from types import ModuleType

import cv2
import numpy as np
import pytest
import torch
from balls_before_a_wall import SURFACES, photo
from synthetic import Plane, shoot
from torch import Tensor

from recon.stereo import compiled_sweep, torch_sweep
from recon.stereo.search import sharpen


def right(found: Tensor, true: Tensor, where: Tensor) -> float:
    return float(((found / true - 1).abs() < 0.02)[where].float().mean())


@pytest.mark.parametrize("sweep", [compiled_sweep, torch_sweep])
def test_what_lies_behind_comes_back_beside_outlines(sweep: ModuleType) -> None:
    given = dict(width=192, height=144, span_deg=24, wavelength=0.4, surfaces=SURFACES)
    shots = shoot(5, **given)
    true = torch.from_numpy(1 / shots[2].depth)
    # As wide as a search at half the size makes things in front.
    wide = torch.from_numpy(cv2.dilate(true.numpy(), np.ones((11, 11), np.uint8)))
    hidden = wide > 1.1 * true
    assert hidden.float().mean() > 0.15
    scorer = sweep.PhotoScorer(photo(shots[2]), [photo(shots[k]) for k in (1, 3, 0, 4)])
    found = sharpen(scorer, wide, torch.full_like(true, 0.004), from_beside=True)
    # Without surfaces from beside, none of it and 0.71.
    assert right(found, true, hidden) > 0.3
    assert right(found, true, ~hidden) > 0.78


def test_a_plain_photo_takes_nothing_from_beside() -> None:
    plain = tuple(Plane(s.normal, s.offset, 0.0) for s in SURFACES if isinstance(s, Plane))
    shots = shoot(3, width=96, height=72, span_deg=20, surfaces=plain)
    true = torch.from_numpy(1 / shots[1].depth)
    scorer = compiled_sweep.PhotoScorer(photo(shots[1]), [photo(shots[0]), photo(shots[2])])
    found = sharpen(scorer, true, torch.full_like(true, 0.001), from_beside=True)
    assert right(found, true, torch.ones_like(true, dtype=torch.bool)) > 0.97
