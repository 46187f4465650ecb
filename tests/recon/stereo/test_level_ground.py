"""Level ground before a wall, which a prior has go on as the wall, nearer than all points."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from balls_before_a_wall import photo
from synthetic import Plane, Shot, look_at, render, sample_tracks

from pointmap.camera import pinhole
from recon.stage_results import CONFIRMED, DepthMap
from recon.stereo.cross_check import Estimate
from recon.stereo.level_ground import ground_height, ground_surface, level_plane
from recon.stereo.plane_sweep import scorer_of
from recon.stereo.refine import refine_depths
from recon.stereo.view import StereoView

WIDTH, HEIGHT = 192, 144
EYE, WALL = 1.6, 12.0
# World y points down.
UP = np.array([0.0, -1.0, 0.0])
SURFACES = (Plane((0, 0, 1), WALL), Plane((0, 1, 0), EYE))


def courtyard(turn_deg: float = 0.0) -> list[Shot]:
    """Return photos on a walk along the wall, the camera rolled by ``turn_deg``."""
    a = np.radians(turn_deg)
    roll = np.eye(4)
    roll[:2, :2] = [[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]
    K = pinhole(0.9 * WIDTH, WIDTH, HEIGHT)
    poses = [
        look_at(np.array([x, 0.1 * np.sin(x), 0]), np.array([0.8 * x, 0.4, WALL])) @ roll
        for x in np.linspace(-3, 3, 5)
    ]
    return [render(K, p, WIDTH, HEIGHT, surfaces=SURFACES, wavelength=0.7) for p in poses]


def on_ground(shot: Shot) -> np.ndarray:
    return level_plane(photo(shot), UP).numpy() > EYE / WALL * 1.1


@pytest.mark.parametrize("turn_deg", [0.0, 90.0, -20.0])
def test_level_planes_are_multiples_of_one_surface(turn_deg: float) -> None:
    for shot in courtyard(turn_deg):
        height = EYE - shot.cam_to_world[1, 3]
        plane = level_plane(photo(shot), UP).numpy()
        ground = on_ground(shot)
        assert ground.mean() > 0.15
        np.testing.assert_allclose((plane * shot.depth)[ground], height, rtol=1e-4)


def test_height_of_the_camera_is_found_out_of_reach_of_all_that_is_known() -> None:
    shots = courtyard()
    photos = [photo(shot) for shot in shots]
    for k, shot in enumerate(shots):
        scorer = scorer_of(photos[k], photos[:k] + photos[k + 1 :])
        # The wall alone is known, from 9 to 16 m.
        found = ground_height(scorer, level_plane(photos[k], UP), 1 / 16, 1 / 9)
        assert found == pytest.approx(EYE - shot.cam_to_world[1, 3], rel=0.11)


def test_photo_of_what_lies_above_has_no_ground() -> None:
    K = pinhole(WIDTH, WIDTH, HEIGHT)
    poses = [look_at(np.array([x, 0.0, 0.0]), np.array([x, -8.0, WALL])) for x in (0.0, 1.0)]
    photos = [photo(render(K, p, WIDTH, HEIGHT, surfaces=SURFACES)) for p in poses]
    scorer = scorer_of(photos[0], photos[1:])
    assert ground_height(scorer, level_plane(photos[0], UP), 1 / 16, 1 / 9) is None


def known(depth: np.ndarray, where: np.ndarray) -> Estimate:
    """Return depth that is known at some pixels."""
    sure = torch.from_numpy(where.astype(np.float32))
    return Estimate(torch.from_numpy(depth.astype(np.float32)), sure)


def test_ground_is_told_by_what_is_known_of_it() -> None:
    shot = courtyard()[2]
    height, ground = EYE - shot.cam_to_world[1, 3], on_ground(shot)
    some = np.random.default_rng(0).random(ground.shape) < 0.3
    # Half of it is known by the photo itself, half by others; the height is an eighth off.
    left = np.arange(WIDTH) < WIDTH // 2
    parts = [known(shot.depth, some & left), known(shot.depth, some & ~left)]
    found = ground_surface(photo(shot), UP, 1.12 * height, parts)
    assert found is not None
    np.testing.assert_allclose((found.numpy() * shot.depth)[ground], 1, rtol=0.01)
    # Not at the feet of who looks down.
    steep = look_at(np.array([0.0, 0.0, 0.0]), np.array([0.0, EYE, 0.5]))
    down = render(shot.intrinsics, steep, WIDTH, HEIGHT, surfaces=SURFACES)
    found = ground_surface(photo(down), UP, EYE, [known(down.depth, some)])
    assert found is not None and found.max() == 0
    # Of a table, something is known under it; of what nothing is known on, nothing is.
    floor = np.where(ground & ~left & (shot.depth > np.median(shot.depth[ground])), 1.5, 1.0)
    seen = known(shot.depth * floor, some)
    assert ground_surface(photo(shot), UP, height, [seen]) is None
    few = known(shot.depth, some & ~ground)
    assert ground_surface(photo(shot), UP, height, [few]) is None


def test_ground_that_prior_and_points_miss_is_found_and_confirmed() -> None:
    shots = courtyard()
    tracks = sample_tracks(shots, per_shot=200)
    wall = tracks.points[:, 2] > WALL - 1
    views = []
    for k, shot in enumerate(shots):
        ids = tracks.point_index[tracks.view_index == k]
        ids = ids[wall[ids]]
        # Depth goes on below as at the foot of the wall.
        prior = np.where(on_ground(shot), np.median(shot.depth[~on_ground(shot)]), shot.depth)
        views.append(
            StereoView(
                shot.pixels,
                shot.intrinsics,
                shot.cam_to_world,
                DepthMap(prior.astype(np.float32), np.full(prior.shape, 0.5, np.float32)),
                tracks.points[ids],
                ids,
            )
        )
    found = refine_depths(views)
    for shot, depth in zip(shots, found, strict=True):
        ground = on_ground(shot)
        off = np.abs(depth.depth / shot.depth - 1)[ground]
        # With the prior and planes that face the camera alone, 0.14 at most.
        assert (off < 0.02).mean() > 0.75
        assert (off < 0.1).mean() > 0.99
        assert (depth.confidence > CONFIRMED)[ground].mean() > 0.65
        assert (np.abs(depth.depth / shot.depth - 1) < 0.02)[~ground].mean() > 0.99
