"""Depth turned into other maps, and cleaned: exact on analytic scenes."""

from __future__ import annotations

import numpy as np
import pytest
from synthetic import Plane, Sphere, render

from pointmap.camera import pinhole, unproject
from pointmap.errors import InputError
from pointmap.lens import Lens
from recon.depth.derived_maps import (
    depth_edges,
    depth_normals,
    depth_to_disparity,
    joint_bilateral,
    ray_distance,
    remove_flying_pixels,
)

K = pinhole(90, 80, 60)
WALL = Plane((0.0, 0.0, 1.0), 4.0)


def room(*surfaces: Plane | Sphere) -> np.ndarray:
    return render(K, np.eye(4), 80, 60, surfaces=surfaces).depth.astype(np.float64)


def test_disparity_is_that_of_a_stereo_pair() -> None:
    depth = np.array([[2.0, 0.0, 5.0]])
    disparity = depth_to_disparity(depth, focal_px=500, baseline=0.1)
    assert disparity.tolist() == [[25.0, 0.0, 10.0]]


def test_ray_distance_of_a_sphere_around_the_camera_is_its_radius() -> None:
    depth, bent = 3 / np.linalg.norm(rays(), axis=-1), Lens.radial(0.1)
    assert ray_distance(depth, K) == pytest.approx(np.full((60, 80), 3.0))
    points = unproject(depth, K, bent)
    assert ray_distance(depth, K, bent) == pytest.approx(np.linalg.norm(points, axis=-1))


def rays() -> np.ndarray:
    x, y = np.meshgrid((np.arange(80) + 0.5 - 40) / 90, (np.arange(60) + 0.5 - 30) / 90)
    return np.stack([x, y, np.ones_like(x)], -1)


def test_normals_of_planes_are_exact_up_to_their_edge() -> None:
    floor = Plane((0.0, 1.0, 0.0), 1.0)
    depth = room(floor, WALL)
    normals = depth_normals(depth, K)
    on_floor = np.abs(depth[..., None] * rays() @ [0, 1, 0] - 1) < 1e-5
    inside = on_floor & np.roll(on_floor, 1, 0) & np.roll(on_floor, -1, 0)
    assert inside.sum() > 400
    assert normals[inside] == pytest.approx(np.tile([0, -1.0, 0], (inside.sum(), 1)), abs=1e-4)
    assert normals[10, 10] == pytest.approx([0, 0, -1], abs=1e-4)
    depth[10:13, 10:13] = 0
    assert (depth_normals(depth, K)[11, 11] == 0).all()


def test_normals_do_not_bend_over_a_depth_edge() -> None:
    box = room(WALL)
    box[20:40, 30:50] = 2.0  # a card before the wall, both facing the camera
    normals = depth_normals(box, K)
    assert normals == pytest.approx(np.broadcast_to([0, 0, -1.0], normals.shape), abs=1e-6)


def test_edges_are_found_between_surfaces_and_not_on_slopes() -> None:
    slanted = room(Plane((0.0, 1.0, 0.12), 1.0), Plane((0.0, 0.0, 1.0), 60.0))
    ground = slanted < 59
    # Far out on the ground a row is 10 % deeper than the next.
    rows = np.abs(np.diff(slanted[:, 40])[ground[1:, 40] & ground[:-1, 40]])
    assert rows.max() > 0.5
    assert not depth_edges(slanted)[40:].any()
    card = room(WALL)
    card[20:40, 30:50] = 3.0
    expected = np.zeros((60, 80), bool)
    expected[19:41, 30:50] = expected[20:40, 29:51] = True
    expected[21:39, 31:49] = False
    assert np.array_equal(depth_edges(card), expected)


def test_flying_pixels_go_and_surfaces_stay() -> None:
    card = room(WALL)
    card[20:40, 30:50] = 2.0
    assert np.array_equal(remove_flying_pixels(card), card)
    blurred = card.copy()
    # Half-way values on the border, two pixels wide on the left.
    blurred[20:40, 28] = 1 / (0.67 / 4 + 0.33 / 2)
    blurred[20:40, 29] = 1 / (0.33 / 4 + 0.67 / 2)
    blurred[20:40, 50] = 1 / (0.5 / 4 + 0.5 / 2)
    cleaned = remove_flying_pixels(blurred)
    flying = blurred != card
    assert (cleaned[flying] == 0).mean() > 0.9
    assert np.array_equal(cleaned[~flying], card[~flying])
    slope = room(Plane((0.0, 1.0, 0.12), 1.0), Plane((0.0, 0.0, 1.0), 60.0))
    assert np.array_equal(remove_flying_pixels(slope)[40:], slope[40:])


def test_the_filter_removes_noise_and_keeps_the_photo_s_edges() -> None:
    rng = np.random.default_rng(0)
    truth = room(WALL)
    truth[:, 40:] = 2.0
    photo = np.full((60, 80, 3), 60, np.uint8)
    photo[:, 40:] = 200
    noisy = truth * rng.normal(1, 0.05, truth.shape)
    noisy[5, 5] = 0
    filtered = joint_bilateral(noisy, photo)
    assert filtered[5, 5] == 0
    noisy[5, 5] = filtered[5, 5] = truth[5, 5]
    assert np.abs(filtered / truth - 1).mean() < 0.3 * np.abs(noisy / truth - 1).mean()
    assert np.abs(filtered / truth - 1)[:, 38:42].max() < 0.1
    plane = room(Plane((0.3, 0.2, 1.0), 3.0))
    even = joint_bilateral(plane, np.zeros((60, 80, 3), np.uint8))
    assert even[8:-8, 8:-8] == pytest.approx(plane[8:-8, 8:-8], rel=1e-4)


def test_depth_that_cannot_be_is_refused() -> None:
    for bad in (np.nan, np.inf, -0.1):
        depth = np.ones((4, 5))
        depth[1, 2] = bad
        for product in (
            lambda d: depth_to_disparity(d, focal_px=1, baseline=1),
            lambda d: ray_distance(d, K),
            lambda d: depth_normals(d, K),
            depth_edges,
            remove_flying_pixels,
        ):
            with pytest.raises(InputError, match="1 depths are NaN, infinite or negative"):
                product(depth)
    with pytest.raises(InputError, match="cannot guide depth of 5x4"):
        joint_bilateral(np.ones((4, 5)), np.zeros((8, 10, 3), np.uint8))
    with pytest.raises(InputError, match="shape"):
        depth_edges(np.ones((4, 5, 1)))
