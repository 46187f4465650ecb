"""A plain wall behind a thing that windows made wider."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from recon.stereo.cross_check import Estimate
from recon.stereo.fill_unconfirmed import fill_unconfirmed
from recon.stereo.outlines import beside_regions
from recon.stereo.region_planes import RegionPlanes

HEIGHT, WIDTH = 96, 128
ROW, COLUMN = np.mgrid[:HEIGHT, :WIDTH]
THING = (ROW >= 30) & (ROW < 70) & (COLUMN >= 40) & (COLUMN < 90)
# At half the size, where regions are found: they end two pixels before the outline.
WALL = RegionPlanes(
    (~((ROW >= 26) & (ROW < 74) & (COLUMN >= 36) & (COLUMN < 94))[::2, ::2]).astype(np.int16),
    np.array([[0.25, 0.001, 0.0]]),
)
WIDER = (ROW >= 27) & (ROW < 73) & (COLUMN >= 37) & (COLUMN < 93)
STRIP = WIDER & ~THING


def photo(thing: float) -> NDArray[np.float32]:
    noise = np.random.default_rng(0).normal(0, 1.4 / 255, (HEIGHT, WIDTH, 3))
    return (np.where(THING, thing, 0.6)[..., None] + noise).astype(np.float32)


def test_a_wall_goes_on_up_to_the_outline() -> None:
    beside = beside_regions(WALL, photo(0.3))
    wall = WALL.inverse(HEIGHT, WIDTH)
    assert (beside[STRIP] > 0).mean() > 0.95
    assert not beside[THING].any() and not beside[wall > 0].any()
    expected = 0.25 + 0.001 * ((COLUMN + 0.5) / 2 - 0.5)
    assert np.allclose(beside[beside > 0], expected[beside > 0], rtol=1e-3)


@pytest.mark.parametrize("thing", [0.6, 0.62])
def test_what_has_the_colour_of_the_wall_is_not_taken_for_it(thing: float) -> None:
    assert not beside_regions(WALL, photo(thing))[THING].any()


def test_without_planes_nothing_goes_on() -> None:
    none = RegionPlanes(WALL.labels, np.zeros((1, 3)))
    assert not beside_regions(none, photo(0.3)).any()


def test_depth_that_photos_agree_on_gives_way_before_the_wall_alone() -> None:
    wall = torch.from_numpy((0.25 + 0.001 * ((COLUMN + 0.5) / 2 - 0.5)).astype(np.float32))
    depth = torch.where(torch.from_numpy(WIDER), 2.0, 1 / wall)
    sure = torch.full_like(depth, 0.8)
    planes = torch.from_numpy(WALL.inverse(HEIGHT, WIDTH))
    beside = torch.from_numpy(beside_regions(WALL, photo(0.3)))
    prior = Estimate(1.1 / wall, torch.full_like(depth, 0.5))
    filled = fill_unconfirmed(Estimate(depth, sure), prior, planes=planes, beside=beside)
    behind = torch.from_numpy(STRIP) & (beside > 0)
    assert torch.allclose(filled.depth[behind], 1 / wall[behind], rtol=1e-3)
    assert filled.confidence[behind].max() < 0.31
    assert torch.equal(filled.depth[~behind], depth[~behind])
