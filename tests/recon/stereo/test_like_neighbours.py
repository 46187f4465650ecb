"""Two doors of a front, one of which shows an image of what is before it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recon.stereo.agreed_regions import Judge
from recon.stereo.like_neighbours import with_planes_beside, without_images
from recon.stereo.photo import Photo2D
from recon.stereo.plain_region import RegionPhoto
from recon.stereo.region_planes import Candidates, RegionPlanes, regions_of

HEIGHT, WIDTH = 96, 128
K = np.array([[110.0, 0, 64], [0, 110.0, 48], [0, 0, 1]])
# Inverse depth a + b x + c y of the front, and of the floor that the right door mirrors.
FRONT, IMAGE = np.array([0.28, 2e-4, 1e-4]), np.array([0.08, 1e-4, 1.1e-3])
LEFT, RIGHT = np.s_[20:80, 10:60], np.s_[20:80, 64:110]
AT = np.stack([np.ones((HEIGHT, WIDTH)), *np.mgrid[:HEIGHT, :WIDTH][::-1]], axis=-1)


def labels() -> np.ndarray:
    numbers = np.zeros((HEIGHT, WIDTH), np.int16)
    numbers[LEFT], numbers[RIGHT] = 1, 2
    return numbers


def photo(x: float, colours: np.ndarray, known: np.ndarray) -> RegionPhoto:
    pose = np.eye(4)
    pose[0, 3] = x
    grey = torch.from_numpy(colours.mean(axis=-1) / 255)
    return RegionPhoto(Photo2D(grey, torch.from_numpy(K), torch.from_numpy(pose)), colours, known)


def doors(
    image: np.ndarray, gap: np.ndarray, colour: float = 170.0
) -> tuple[Judge, np.ndarray, np.ndarray]:
    """A photo of both doors, their labels and colours: depth around the right one is
    on ``gap`` (3,) and some in it on ``image`` (3,); ``colour``: of it, the left one's is 170.
    """
    numbers = labels()
    colours = np.full((HEIGHT, WIDTH, 3), 90.0, np.float32)
    colours[LEFT], colours[RIGHT] = [170, 50, 60], [colour, 50, 60]
    door = numbers > 0
    known = np.where(door, 0, AT @ FRONT).astype(np.float32)
    around_right = ~door & (AT[..., 1] > 62)
    known[around_right] = (AT @ gap)[around_right]
    seen = np.zeros_like(door)
    seen[40:60, 75:95] = True
    known[seen] = (AT @ image)[seen]
    rng = np.random.default_rng(0)
    shiny = [
        photo(x, colours + rng.normal(size=colours.shape).astype(np.float32), np.zeros_like(known))
        for x in (0.3, -0.3)
    ]
    own = photo(0, colours, known)
    prior = (1 / (AT @ FRONT)).astype(np.float32)
    prior[RIGHT] *= 1.2
    regions = regions_of(numbers, own, prior, shiny)
    both = np.stack([FRONT, image])
    least = np.array([region.costs(both).min() for region in regions.values()])
    candidates = Candidates(numbers, np.zeros((0, 4)), np.zeros(0), least)
    return Judge(own.photo, regions, candidates, known), numbers, colours


def planes_after(right: np.ndarray, gap: np.ndarray, colour: float = 170.0) -> np.ndarray:
    """The planes (2, 3) of both doors where photos agree on the front's for the left one and on
    ``right`` (3,) for the right one.
    """
    judge, numbers, colours = doors(right, gap, colour)
    return without_images(judge, RegionPlanes(numbers, np.stack([FRONT, right])), colours).planes


def test_region_behind_its_neighbours_of_like_colour_and_its_rim_is_on_their_front() -> None:
    assert np.array_equal(planes_after(IMAGE, FRONT), np.stack([FRONT, FRONT]))


@pytest.mark.parametrize(
    ("right", "gap", "colour"),
    [
        (IMAGE, FRONT, 120.0),  # another colour: an opening
        (IMAGE, IMAGE, 170.0),  # its rim is on its plane: a wall farther back
        (1.5 * FRONT, FRONT, 170.0),  # before the other one
        (0.95 * FRONT, FRONT, 170.0),  # next to no jump
    ],
)
def test_other_regions_keep_their_planes(right: np.ndarray, gap: np.ndarray, colour: float) -> None:
    assert np.array_equal(planes_after(right, gap, colour), np.stack([FRONT, right]))


@pytest.mark.parametrize(
    ("gap", "colour", "taken"), [(FRONT, 170.0, True), (FRONT, 120.0, False), (IMAGE, 170.0, False)]
)
def test_region_without_a_plane_takes_that_of_its_like_if_its_rim_allows_it(
    gap: np.ndarray, colour: float, taken: bool
) -> None:
    judge, numbers, colours = doors(IMAGE, gap, colour)
    lent = RegionPlanes(numbers, np.stack([FRONT, np.zeros(3)]))
    _, right = with_planes_beside(judge, lent, colours).planes
    assert np.array_equal(right, FRONT if taken else np.zeros(3))
