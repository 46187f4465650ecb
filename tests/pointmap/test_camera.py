from __future__ import annotations

import numpy as np
import pytest

from pointmap.camera import (
    Array,
    fit_similarity,
    pinhole,
    pinhole_grid,
    pixel_centres,
    pixel_rays,
    project,
    rotation_exp,
    unproject,
)
from pointmap.lens import Lens, distort, undistort

SKEWED = np.array([[510.0, 3.0, 330.0], [0.0, 480.0, 251.0], [0.0, 0.0, 1.0]])


def corners_to_centre() -> Array:
    return pixel_centres(640, 480)[::16, ::16].reshape(-1, 2)


@pytest.mark.parametrize("k1", [-0.15, -0.01, 1e-9, 0.02, 0.4])
def test_pixels_come_back_through_any_lens(k1: float) -> None:
    xy = corners_to_centre()
    rays = pixel_rays(xy, SKEWED, Lens.radial(k1))
    assert np.allclose(rays[:, 2], 1)
    assert np.abs(project(3.7 * rays, SKEWED, Lens.radial(k1)) - xy).max() < 1e-9


def test_a_pinhole_is_untouched_to_the_last_bit() -> None:
    xy = corners_to_centre()
    y = (xy[:, 1] - SKEWED[1, 2]) / SKEWED[1, 1]
    x = (xy[:, 0] - SKEWED[0, 2] - SKEWED[0, 1] * y) / SKEWED[0, 0]
    flat = np.stack([x, y], axis=-1)
    assert np.array_equal(pixel_rays(xy, SKEWED)[:, :2], flat)
    for k1 in (0.0, np.zeros(len(xy))):
        assert np.array_equal(distort(flat, k1, 0.0, False), flat)
        assert np.array_equal(undistort(flat, k1, 0.0, False), flat)


def test_lenses_may_differ_from_point_to_point() -> None:
    flat = np.random.default_rng(0).uniform(-0.8, 0.8, (50, 2))
    k1 = np.where(np.arange(50) % 2 == 0, 0.0, -0.1)
    bent = distort(flat, k1, 0.0, False)
    assert np.array_equal(bent[::2], flat[::2]) and not np.allclose(bent[1::2], flat[1::2])
    assert np.abs(undistort(bent, k1, 0.0, False) - flat).max() < 1e-12


def test_what_a_lens_cannot_show_has_no_image() -> None:
    """With k1 = -0.2 the image of r grows up to r = 1.29, where it is at 0.86."""
    fold = 1 / np.sqrt(0.6)
    assert np.isnan(Lens.radial(-0.2).distort([fold * 1.01, 0.0])).all()
    assert np.isnan(project([2.0, 0.0, 1.0], np.eye(3), Lens.radial(-0.2))).all()
    beyond = Lens.radial(-0.2).undistort([[1.0, 0.0], [0.0, -5.0]])
    assert np.allclose(beyond, [[fold, 0], [0, -fold]], rtol=1e-3)


@pytest.mark.parametrize("k1", [-0.12, 0.2])
def test_the_model_is_colmaps_and_opencvs(k1: float) -> None:
    cv2 = pytest.importorskip("cv2")
    pycolmap = pytest.importorskip("pycolmap")
    points = np.random.default_rng(1).uniform([-1, -1, 2], [1, 1, 3], (40, 3))
    K = pinhole(500.0, 640, 480)
    mine = project(points, K, Lens.radial(k1))
    camera = pycolmap.Camera(
        model="SIMPLE_RADIAL", width=640, height=480, params=[500.0, 320.0, 240.0, k1]
    )
    assert np.allclose(mine, camera.img_from_cam(points), atol=1e-9)
    lens = np.array([k1, 0, 0, 0])
    theirs = cv2.projectPoints(points, np.zeros(3), np.zeros(3), K, lens)[0][:, 0]
    assert np.allclose(mine, theirs, atol=1e-9)


@pytest.mark.parametrize("k1", [-0.1, 0.1])
def test_the_pinhole_picture_holds_all_of_the_photo(k1: float) -> None:
    K = pinhole(120.0, 160, 120)
    moved, xy = pinhole_grid(160, 120, K, Lens.radial(k1))
    height, width = xy.shape[:2]
    assert (width > 160) == (k1 < 0)
    outline = pixel_rays([[0.0, 0.0], [160.0, 0.0], [80.0, 0.0], [0.0, 60.0]], K, Lens.radial(k1))
    seen = project(outline, moved)
    assert (seen >= 0).all() and (seen <= [width, height]).all()
    # Each pixel of the grid looks along the ray of its place in the photo.
    inside = ((xy > 0) & (xy < [160, 120])).all(axis=-1)
    assert inside.mean() > 0.85
    rays = pixel_rays(pixel_centres(width, height), moved)
    assert np.abs(pixel_rays(xy[inside], K, Lens.radial(k1)) - rays[inside]).max() < 1e-9


def test_unprojected_depth_keeps_its_z() -> None:
    depth = np.random.default_rng(2).uniform(1, 5, (24, 32))
    K, lens = pinhole(30.0, 32, 24), Lens.radial(-0.05)
    points = unproject(depth, K, lens)
    assert np.array_equal(points[..., 2], depth)
    assert np.allclose(project(points, K, lens), pixel_centres(32, 24))


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_similarity_is_found_and_never_a_mirror(mirrored: bool) -> None:
    rng = np.random.default_rng(1)
    points, weights = rng.normal(size=(30, 3)), rng.uniform(0, 1, 30)
    true = rotation_exp(np.array([[0.4, -1.2, 0.7]]))[0]
    moved = 2.5 * points @ true.T + [1.0, -2.0, 3.0]
    weights[:5] = 0  # what has no weight may lie anywhere
    moved[:5] += 100
    if mirrored:
        moved[:, 0] *= -1
    scale, R, t = fit_similarity(points, moved, weights)
    assert np.linalg.det(R) == pytest.approx(1)
    if not mirrored:
        assert scale == pytest.approx(2.5)
        assert true == pytest.approx(R)
        assert t == pytest.approx([1, -2, 3])
    assert fit_similarity(points, moved, weights, with_scale=False)[0] == 1


def test_a_similarity_of_nothing_is_nan_and_of_one_point_finite() -> None:
    points, one = np.random.default_rng(2).normal(size=(4, 3)), np.ones((4, 3))
    for values in (
        fit_similarity(points, np.full((4, 3), np.nan)),
        fit_similarity(one, one, [0] * 4),
    ):
        assert all(np.isnan(value).all() for value in values)
    scale, R, t = fit_similarity(one, points)
    assert scale == 0
    assert np.isfinite(R).all()
    assert t == pytest.approx(points.mean(0))
