"""A thing before a wall, and a strip along most of its outline that no photo confirms."""

import numpy as np
import pytest
import torch

from recon.stereo.between_surfaces import on_surfaces, sees_outlines
from recon.stereo.cross_check import Estimate
from recon.stereo.fill_unconfirmed import fill_unconfirmed
from recon.stereo.loops.around import depths_around

HEIGHT, WIDTH = 144, 256
X = np.broadcast_to(np.arange(WIDTH), (HEIGHT, WIDTH))
Y = np.broadcast_to(np.arange(HEIGHT)[:, None], (HEIGHT, WIDTH))
THING = (X < 50) & (Y > 30)
TRUTH = np.where(THING, 1.0 + 0.002 * X, 2.0 + 0.003 * Y).astype(np.float32)
STRIP = (Y > 30) & (Y < 70) & (X >= 42) & (X < 58)
KNOWN = ~STRIP
COARSE = np.full((HEIGHT, WIDTH), 1.5, np.float32)
BETWEEN = np.where(STRIP, 1.5, TRUTH).astype(np.float32)


def photo(thing: float, wall: float) -> torch.Tensor:
    """Each of both in its grey level, with noise of a level."""
    levels = np.where(THING, thing, wall)[..., None]
    levels = levels + np.random.default_rng(0).normal(size=(HEIGHT, WIDTH, 3))
    return torch.from_numpy((levels / 255).astype(np.float32))


def placed(depth: np.ndarray, prior: np.ndarray, pixels: torch.Tensor) -> np.ndarray:
    given = (torch.from_numpy(np.ascontiguousarray(a)) for a in (depth, KNOWN, prior))
    return on_surfaces(*given, pixels).numpy()


def test_what_lies_between_is_on_the_surface_from_which_no_edge_of_colour_parts_it() -> None:
    off = np.abs(placed(BETWEEN, COARSE, photo(90, 150)) / TRUTH - 1)
    assert np.abs(BETWEEN / TRUTH - 1)[STRIP].min() > 0.2
    assert (off[STRIP] < 0.05).mean() > 0.95
    assert not off[KNOWN].any()


def test_without_an_edge_it_is_on_the_nearer_one_of_both_in_the_picture() -> None:
    depth = placed(BETWEEN, COARSE, photo(120, 120))
    assert (depth[60, 42:46] < 1.2).all()
    assert (depth[60, 54:58] > 2).all()


@pytest.mark.parametrize(
    ("depth", "prior"),
    [
        (BETWEEN, TRUTH),  # the prior knows better
        (TRUTH, COARSE),  # on a surface already
        (np.where(THING, 1.0, np.where(STRIP, 1.1, 1.2)), COARSE),  # surfaces are not far apart
        (np.where(STRIP, 0.8, TRUTH), COARSE),  # before both
    ],
)
def test_other_depth_stays(depth: np.ndarray, prior: np.ndarray) -> None:
    depth = depth.astype(np.float32)
    np.testing.assert_array_equal(placed(depth, prior, photo(90, 150)), depth)


def test_a_prior_sees_outlines_that_it_has_at_about_the_same_place() -> None:
    everywhere = np.ones_like(KNOWN)
    assert sees_outlines(TRUTH, everywhere, (0.9 * TRUTH).astype(np.float32))
    assert not sees_outlines(TRUTH, everywhere, COARSE)
    # A ramp over the outline, and another outline somewhere else.
    ramp = (1.2 + 0.8 * np.clip((X - 40) / 20, 0, 1)).astype(np.float32)
    assert not sees_outlines(TRUTH, everywhere, ramp)
    assert not sees_outlines(TRUTH, everywhere, np.where(X < 100, 1, 2).astype(np.float32))
    # Most known steps are those of images in a mirror, which the prior has none of.
    mirrored = np.where(X > 80, TRUTH * (1 + (Y // 4 + X // 4) % 2), TRUTH).astype(np.float32)
    assert sees_outlines(mirrored, everywhere, TRUTH)
    # In thumbnails, too.
    small = TRUTH[::11, ::11]
    assert sees_outlines(small, everywhere[::11, ::11], small)
    # Hardly any steps tell nothing.
    assert sees_outlines(TRUTH, (X > 66) & (Y > 30), COARSE)


def test_nothing_is_filled_in_between_surfaces_that_lie_apart() -> None:
    checked = Estimate(
        torch.from_numpy(np.where(KNOWN, TRUTH, 0).astype(np.float32)),
        torch.from_numpy(KNOWN.astype(np.float32)),
    )
    prior = Estimate(torch.from_numpy(COARSE), torch.full((HEIGHT, WIDTH), 0.2))
    pixels = photo(90, 150)
    filled = fill_unconfirmed(checked, prior, pixels=pixels).depth.numpy()
    assert (np.abs(filled / TRUTH - 1)[STRIP] < 0.1).mean() > 0.9


def test_depths_around_are_those_of_the_nearest_known_pixels_in_eight_directions() -> None:
    known = np.zeros((11, 13), bool)
    depth = np.zeros((11, 13), np.float32)
    for (row, column), its in {(5, 1): 3.0, (5, 9): 2.0, (1, 6): 5.0, (0, 0): 7.0}.items():
        known[row, column], depth[row, column] = True, its
    colours = np.zeros((11, 13, 3), np.float32)
    # An edge between the middle and the place to the right.
    colours[:, 8:] = 40
    nearest, farthest, likely = depths_around(known, depth, colours, 6.0, 0.1)
    assert (nearest[5, 6], farthest[5, 6], likely[5, 6]) == (2, 5, 5)
    # What lies along none of the directions, or too far away, is not seen.
    assert (nearest[6, 6], farthest[6, 6], likely[6, 6]) == (5, 5, 5)
    assert not depths_around(known, depth, colours, 2.0, 0.1)[:, 5, 5].any()
    assert (nearest[5, 9], farthest[5, 9], likely[5, 9]) == (2, 2, 2)
