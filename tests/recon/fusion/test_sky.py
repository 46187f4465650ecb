"""A rim of sky that matching gave the roof's depth is no surface."""

from __future__ import annotations

import numpy as np
import pytest
from synthetic import Shot, shoot, view_of

from recon.fusion.options import FusionOptions
from recon.fusion.sky import sky_mask
from recon.fusion.usable_depth import usable_depths

HEIGHT, WIDTH, ROOF, FAT = 96, 128, 40, 8


@pytest.fixture
def photo() -> np.ndarray:
    """A noisy building under a sky that darkens gently upwards."""
    pixels = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    pixels[:ROOF] = (200 + np.arange(ROOF)[:, None, None] / 2).astype(np.uint8)
    return pixels


@pytest.fixture
def confirmed() -> np.ndarray:
    """The building, and a rim of sky that was matched with it."""
    return np.broadcast_to(np.arange(HEIGHT)[:, None] >= ROOF - FAT, (HEIGHT, WIDTH)).copy()


def test_sky_goes_with_its_rim_and_the_building_stays(
    photo: np.ndarray, confirmed: np.ndarray
) -> None:
    sky = sky_mask(photo, confirmed)
    assert sky[:ROOF].all()
    assert not sky[ROOF + 4 :].any()


def test_a_confirmed_ceiling_and_a_wall_down_to_the_floor_are_no_sky(
    photo: np.ndarray, confirmed: np.ndarray
) -> None:
    assert not sky_mask(photo, np.ones_like(confirmed)).any()
    photo[:, :40] = 210
    confirmed[:, :40] = False
    photo[:ROOF, 38:42] = 0  # an edge between the wall and the sky
    assert not sky_mask(photo, confirmed)[:, 4:30].any()


def test_fusion_leaves_the_sky_out() -> None:
    shots: list[Shot] = shoot(2, width=WIDTH, height=HEIGHT, wavelength=1.0)
    views = []
    for shot in shots:
        noise = np.random.default_rng(1).integers(0, 255, (HEIGHT, WIDTH, 3)).astype(np.uint8)
        noise[:ROOF] = 220
        confidence = np.ones(shot.depth.shape, np.float32)
        confidence[: ROOF - FAT] = 0.2
        views.append(view_of(shot, pixels=noise, confidence=confidence))
    for depth in usable_depths(views, FusionOptions()):
        assert not depth.depth[:ROOF].any()
        assert (depth.depth[ROOF + 4 :] > 0).mean() > 0.9
