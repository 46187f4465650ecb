"""A rim of sky that matching gave the roof's depth is no surface."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
from synthetic import Shot, shoot, view_of

from pointmap.camera import pinhole, pixel_centres, pixel_rays
from recon.fusion.options import FusionOptions
from recon.fusion.sky import SkyVotes, above_horizon, ray_directions, sky_mask
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


def test_a_sky_down_to_a_low_horizon_is_known_by_it(photo: np.ndarray) -> None:
    low = HEIGHT - 24
    photo[:low] = (190, 200, 230)
    confirmed = np.zeros((HEIGHT, WIDTH), bool)
    confirmed[low:] = True
    above = np.broadcast_to(np.arange(HEIGHT)[:, None] < low, confirmed.shape)
    assert not sky_mask(photo, confirmed)[:low].any()
    assert sky_mask(photo, confirmed, risen=above)[:low].all()
    # A wall that goes on below the horizon, and one in warm light.
    assert not sky_mask(photo, confirmed, risen=above & (np.arange(HEIGHT) < 50)[:, None]).any()
    photo[:low] = (230, 205, 190)
    assert not sky_mask(photo, confirmed, risen=above).any()


@pytest.mark.parametrize(
    ("colour", "is_sky"),
    [((250, 170, 110), True), ((8, 8, 14), True), ((180, 56, 56), False), ((90, 70, 46), False)],
    ids=["sunset", "night", "red cupboard", "dark wall"],
)
def test_where_up_is_known_a_sky_has_the_colours_of_one(
    photo: np.ndarray, confirmed: np.ndarray, colour: tuple[int, int, int], is_sky: bool
) -> None:
    photo[ROOF:] = 40 + photo[ROOF:] // 2
    photo[:ROOF] = colour
    risen = np.broadcast_to(np.arange(HEIGHT)[:, None] < ROOF, confirmed.shape)
    assert sky_mask(photo, confirmed)[: ROOF - 4].all()
    assert sky_mask(photo, confirmed, risen=risen)[: ROOF - 4].all() == is_sky
    assert not sky_mask(photo, confirmed, risen=np.zeros_like(risen)).any()


def test_a_blue_sky_needs_depth_that_is_confirmed_beyond_doubt(photo: np.ndarray) -> None:
    low = HEIGHT - 24
    photo[:low] = (190, 205, 235)
    risen = np.broadcast_to(np.arange(HEIGHT)[:, None] < low, (HEIGHT, WIDTH))
    luck = np.random.default_rng(0).random((HEIGHT, WIDTH))
    confirmed = luck < 0.6
    assert not sky_mask(photo, confirmed, risen=risen, firmly=confirmed).any()
    assert sky_mask(photo, confirmed, risen=risen, firmly=luck < 0.05)[:low].all()
    # Not a wall that is grey, however doubtful.
    photo[:low] = (205, 205, 205)
    assert not sky_mask(photo, confirmed, risen=risen, firmly=luck < 0.05).any()


def test_rays_above_the_horizon_are_those_that_rise() -> None:
    K = pinhole(100.0, WIDTH, HEIGHT)
    rays = np.moveaxis(pixel_rays(pixel_centres(WIDTH, HEIGHT), K), -1, 0).astype(np.float32)
    level = np.eye(4)
    level[:3, :3] = [[1, 0, 0], [0, 0, 1], [0, -1, 0]]  # y down becomes z up
    directions = ray_directions(level, rays)
    above = above_horizon((0, 0, 1), directions)
    assert above[: HEIGHT // 2].all() and not above[HEIGHT // 2 + 4 :].any()
    assert not above_horizon((0, 0, -1), directions)[: HEIGHT // 2 - 4].any()


def test_photos_that_are_sure_of_a_sky_vote_for_it_in_others(photo: np.ndarray) -> None:
    low = HEIGHT - 24
    photo[:low] = (195, 198, 200)
    risen = np.broadcast_to(np.arange(HEIGHT)[:, None] < low, (HEIGHT, WIDTH))
    confirmed = np.random.default_rng(0).random((HEIGHT, WIDTH)) < 0.55
    assert not sky_mask(photo, confirmed, risen=risen).any()
    K = pinhole(100.0, WIDTH, HEIGHT)
    rays = np.moveaxis(pixel_rays(pixel_centres(WIDTH, HEIGHT), K), -1, 0).astype(np.float32)
    directions = ray_directions(np.eye(4), rays)
    votes = SkyVotes()
    votes.add(directions, risen)
    share = votes.share(directions)
    assert share[: low - 8].min() == 1 and share[low + 8 :].max() == 0
    assert sky_mask(photo, confirmed, risen=risen, votes=share)[: low - 8].all()
    votes.add(directions, np.zeros_like(risen))
    assert votes.share(directions)[: low - 8].max() == 0.5


@pytest.mark.parametrize(("share", "is_sky"), [(0.8, True), (0.2, False)])
def test_a_piece_of_sky_between_gables_is_known_by_other_photos(
    share: float, is_sky: bool, photo: np.ndarray
) -> None:
    # 0.6 % of the photo, of which a quarter was matched with a gable.
    photo[:ROOF] = np.random.default_rng(1).integers(0, 200, (ROOF, WIDTH, 3))
    photo[:8, 60:70] = 245
    confirmed = np.ones((HEIGHT, WIDTH), bool)
    confirmed[:8, 62:70] = False
    risen = np.broadcast_to(np.arange(HEIGHT)[:, None] < ROOF, (HEIGHT, WIDTH))
    votes = np.full((HEIGHT, WIDTH), share, np.float32)
    sky = sky_mask(photo, confirmed, risen=risen, votes=votes)
    assert sky[:8, 60:70].all() == is_sky and not sky[12:].any()
    assert sky.any() == is_sky


def test_a_sky_behind_branches_is_known_by_other_photos(
    photo: np.ndarray, confirmed: np.ndarray
) -> None:
    photo[:ROOF] = (120, 170, 230)
    branches = np.random.default_rng(1).random((16, WIDTH)) < 0.6
    photo[:16][branches] = (40, 30, 20)
    risen = np.broadcast_to(np.arange(HEIGHT)[:, None] < ROOF, confirmed.shape)
    confirmed[: ROOF - 4] = False
    seen = np.full(confirmed.shape, 0.3, np.float32)

    def found(votes: np.ndarray | None = seen, pixels: np.ndarray = photo) -> np.ndarray:
        return sky_mask(pixels, confirmed, risen=risen, votes=votes)

    assert found()[20:ROOF].all() and not found()[ROOF + 4 :].any()
    assert found()[:16][~branches].all()
    # Nobody saw sky there; a wall under a plain roof; one that is not blue.
    assert not found(None).any() and not found(seen / 2).any()
    roofed = photo.copy()
    roofed[:16] = (90, 60, 50)
    assert not found(pixels=roofed)[18:].any()
    assert not found(pixels=photo[..., ::-1].copy()).any()


def test_scraps_of_a_burnt_out_sky_are_known_by_that_of_other_photos(photo: np.ndarray) -> None:
    """Between branches, none of them a hundred pixels, and far from the upper border."""
    photo[...] = np.random.default_rng(1).integers(0, 200, photo.shape)
    scraps = np.zeros((HEIGHT, WIDTH), bool)
    scraps[20:27, 60:72] = scraps[24:34, 80:84] = True
    photo[scraps] = (224, 234, 254)
    risen = np.broadcast_to(np.arange(HEIGHT)[:, None] < ROOF, (HEIGHT, WIDTH))
    confirmed = np.broadcast_to(~risen, (HEIGHT, WIDTH)).copy()

    def found(outdoors: bool = True, risen: np.ndarray = risen) -> np.ndarray:
        return sky_mask(photo, confirmed, risen=risen, outdoors=outdoors)

    sky = found()
    assert sky[scraps].all() and sky.sum() < 3 * scraps.sum()
    # Nobody sees a sky; below the horizon; a wall that is not burnt out; one in warm light.
    assert not found(outdoors=False).any()
    assert not found(risen=np.zeros_like(risen)).any()
    for colour in ((190, 200, 225), (255, 250, 248)):
        photo[scraps] = colour
        assert not found().any()


def test_a_burnt_out_wall_is_no_scrap_of_sky(photo: np.ndarray) -> None:
    photo[...] = np.random.default_rng(1).integers(0, 200, photo.shape)
    photo[30:38, 60:72] = 254
    risen = np.broadcast_to(np.arange(HEIGHT)[:, None] < ROOF, (HEIGHT, WIDTH))
    roof = np.broadcast_to(np.arange(HEIGHT)[:, None] < 28, (HEIGHT, WIDTH))
    wall = photo.min(axis=-1) == 254
    for confirmed in (roof, wall):
        assert not sky_mask(photo, confirmed, risen=risen, outdoors=True).any()
    assert sky_mask(photo, roof & ~roof, risen=risen, outdoors=True)[wall].all()


def test_it_is_outdoors_where_a_fifth_of_the_photos_see_sky() -> None:
    K = pinhole(100.0, WIDTH, HEIGHT)
    rays = np.moveaxis(pixel_rays(pixel_centres(WIDTH, HEIGHT), K), -1, 0).astype(np.float32)
    votes, some = SkyVotes(), np.zeros((HEIGHT, WIDTH), bool)
    assert not votes.outdoors
    for _ in range(4):
        votes.add(rays, some)
    assert not votes.outdoors
    some[0, 0] = True
    votes.add(rays, some)
    assert votes.outdoors
    votes.add(rays, ~some & some)
    assert not votes.outdoors


def test_what_is_masked_joins_nothing_to_the_sky(photo: np.ndarray, confirmed: np.ndarray) -> None:
    photo[ROOF:, :40] = 219  # a plain thing that a mask continues into the sky
    confirmed[ROOF:, :40] = False
    usable = np.ones((HEIGHT, WIDTH), bool)
    usable[ROOF - 4 : ROOF + 4, :44] = False
    assert not sky_mask(photo, confirmed, usable)[ROOF + 8 :, :36].any()


@pytest.mark.parametrize("sky", ["auto", "keep"])
def test_fusion_leaves_the_sky_out_unless_it_is_kept(sky: Literal["auto", "keep"]) -> None:
    shots: list[Shot] = shoot(2, width=WIDTH, height=HEIGHT, wavelength=1.0)
    views = []
    for shot in shots:
        noise = np.random.default_rng(1).integers(0, 255, (HEIGHT, WIDTH, 3)).astype(np.uint8)
        noise[:ROOF] = 220
        confidence = np.ones(shot.depth.shape, np.float32)
        confidence[: ROOF - FAT] = 0.2
        views.append(view_of(shot, pixels=noise, confidence=confidence))
    for depth in usable_depths(views, FusionOptions(sky=sky)):
        assert depth.depth[:ROOF].any() == (sky == "keep")
        assert (depth.depth[ROOF + 4 :] > 0).mean() > 0.9


def test_nothing_inferred_stands_where_others_see_sky() -> None:
    """Three photos from places beside each other. What one of them takes for a wall above the roof
    has depth of low confidence on which a plane goes on; the others look past it at the sky.
    """
    building = Shot(
        np.zeros((HEIGHT, WIDTH, 3), np.uint8),
        np.full((HEIGHT, WIDTH), 2.0, np.float32),
        pinhole(120.0, WIDTH, HEIGHT),
        np.eye(4),
    )
    noise = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    views = []
    for number in range(3):
        pixels, confidence = noise.copy(), np.ones((HEIGHT, WIDTH), np.float32)
        confidence[:ROOF] = 0.1
        # The first photo has one and the same texture up to its border: to it that is no sky.
        pixels[:ROOF] = (200, 210, 230) if number else noise[:ROOF]
        pose = np.eye(4)
        pose[0, 3] = 0.02 * number
        shot = replace(building, pixels=pixels, cam_to_world=pose)
        views.append(view_of(shot, confidence=confidence))
    found = usable_depths(views, FusionOptions())
    above = np.s_[: ROOF - 6, 8:-8]
    assert [float(d.known[above].mean()) for d in found] == [0, 0, 0]
    assert min(d.known[ROOF + 8 :].mean() for d in found) > 0.9
    assert all((d.padded >= 0).all() for d in found)
    kept = usable_depths(views, FusionOptions(sky="keep"))
    assert kept[0].known[above].mean() > 0.9
