"""Planes found in what is known of a photo's depth, and carried on where nothing is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recon.stereo.colour_fill import ColourGrid
from recon.stereo.piecewise_planes import along_planes, find_planes

HEIGHT, WIDTH = 96, 128
WALL, DOOR = torch.tensor([0.5, 0.001, 0.0]), torch.tensor([0.9, -0.002, 0.001])


def surface(plane: torch.Tensor) -> torch.Tensor:
    x, y = torch.arange(WIDTH), torch.arange(HEIGHT)[:, None]
    return plane[0] + plane[1] * x + plane[2] * y


@pytest.fixture
def door() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Inverse depth (h, w) of a grey wall with a red door before it, both plain: the weights of
    what is known along their borders, and the pixels (h, w, 3).
    """
    inside = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    inside[20:80, 40:90] = True
    inverse = torch.where(inside, surface(DOOR), surface(WALL))
    pixels = torch.full((HEIGHT, WIDTH, 3), 0.6)
    pixels[inside] = torch.tensor([0.7, 0.2, 0.2])
    known = torch.zeros(HEIGHT, WIDTH)
    known[:6] = known[-6:] = known[:, :6] = known[:, -6:] = 1
    known[14:86, 34:96] = 1
    known[26:74, 46:84] = 0
    return inverse, known, pixels


def test_planes_are_found_among_noise_and_wrong_pixels(door: tuple) -> None:
    inverse, known, _ = door
    rng = np.random.default_rng(1)
    noisy = inverse * (1 + 0.002 * torch.from_numpy(rng.normal(size=inverse.shape)).float())
    wrong = torch.from_numpy(rng.random(inverse.shape) < 0.2)
    noisy[wrong] *= torch.from_numpy(rng.uniform(0.5, 2, inverse.shape)).float()[wrong]
    planes = torch.from_numpy(find_planes(noisy, known)[:2]).float()
    assert len(planes) == 2
    for truth in (WALL, DOOR):
        off = [float((surface(plane) / surface(truth) - 1).abs().max()) for plane in planes]
        assert min(off) < 0.005


def test_plain_surfaces_go_on_from_their_border(door: tuple) -> None:
    inverse, known, pixels = door
    log_depth = torch.where(known > 0, -inverse.log(), 0.0)
    rng = np.random.default_rng(2)
    bent = torch.from_numpy(rng.uniform(-0.08, 0.08, inverse.shape)).float() - inverse.log()
    filled = along_planes(log_depth, known, ColourGrid.of(pixels), bent)
    error = (filled + inverse.log()).abs()[known == 0]
    assert (error < 0.005).float().mean() > 0.97


def test_what_is_expected_stays_where_no_plane_is_near_it(door: tuple) -> None:
    inverse, known, pixels = door
    log_depth = torch.where(known > 0, -inverse.log(), 0.0)
    far = 1 - inverse.log()
    torch.testing.assert_close(along_planes(log_depth, known, ColourGrid.of(pixels), far), far)
    # Another colour: nothing like it is known.
    blue = pixels.clone()
    blue[30:70, 50:80] = torch.tensor([0.1, 0.1, 0.9])
    near = 0.05 - inverse.log()
    filled = along_planes(log_depth, known, ColourGrid.of(blue), near)
    torch.testing.assert_close(filled[30:70, 50:80], near[30:70, 50:80])


@pytest.mark.parametrize("count", [0, 3, 19])
def test_a_few_known_pixels_tell_no_plane(count: int) -> None:
    known = torch.zeros(HEIGHT, WIDTH)
    known.view(-1)[:count] = 1
    expected = torch.full((HEIGHT, WIDTH), 0.3)
    pixels = torch.full((HEIGHT, WIDTH, 3), 0.5)
    filled = along_planes(torch.zeros(HEIGHT, WIDTH), known, ColourGrid.of(pixels), expected)
    assert torch.equal(filled, expected)


def test_pixels_in_one_line_tell_no_plane() -> None:
    known = torch.zeros(HEIGHT, WIDTH)
    known[HEIGHT // 2] = 1
    assert len(find_planes(torch.full((HEIGHT, WIDTH), 0.5), known)) == 0
