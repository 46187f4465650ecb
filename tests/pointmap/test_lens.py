from pathlib import Path

import numpy as np
import pycolmap
import pytest
from numpy.testing import assert_allclose
from PIL import Image

from pointmap.camera import Array, pinhole, pinhole_grid, pixel_centres, pixel_rays, project
from pointmap.images import open_photos
from pointmap.lens import MODELS, ONE_FOCAL, PINHOLE, Lens, distort, radial_scale, undistort
from pointmap.outside.values import checked_lens
from pointmap.panorama import LOOKED_AT, looks_like_panorama, says_panorama

GIVEN = {
    "SIMPLE_RADIAL": (-0.1,),
    "RADIAL": (-0.1, 0.03),
    "OPENCV": (-0.1, 0.03, 0.002, -0.003),
    "OPENCV_FISHEYE": (-0.02, 0.01, -0.003, 0.001),
    "FULL_OPENCV": (0.1, 0.02, 0.001, -0.002, 0.01, 0.15, 0.03, 0.01),
    "FOV": (0.8,),
    "SIMPLE_RADIAL_FISHEYE": (-0.02,),
    "RADIAL_FISHEYE": (-0.02, 0.01),
    "THIN_PRISM_FISHEYE": (-0.02, 0.01, 0.001, -0.002, 0.001, 0.0005, 0.001, -0.001),
    "RAD_TAN_THIN_PRISM_FISHEYE": (0.01, *[0.001] * 5, *[0.0005] * 6),
    "SIMPLE_DIVISION": (-0.1,),
    "DIVISION": (-0.1,),
    "SIMPLE_FISHEYE": (),
    "FISHEYE": (),
    "EUCM": (0.6, 1.1),
}


def points_of_a_photo() -> Array:
    """Points of the plane z = 1, up to 48 degrees from the axis."""
    return np.random.default_rng(0).uniform(-0.8, 0.8, (300, 2))


@pytest.mark.parametrize("model", GIVEN)
def test_every_lens_is_colmaps_and_goes_there_and_back(model: str) -> None:
    flat, lens = points_of_a_photo(), Lens(model, GIVEN[model])
    shown = lens.distort(flat)
    focals = [500.0] if model in ONE_FOCAL else [500.0, 500.0]
    camera = pycolmap.Camera(
        model=model, width=640, height=480, params=[*focals, 320.0, 240.0, *lens.coefficients]
    )
    theirs = camera.img_from_cam(np.column_stack([flat, np.ones(len(flat))]))
    assert_allclose(500 * shown + [320, 240], theirs, atol=1e-6)
    assert_allclose(lens.undistort(shown), flat, atol=1e-7)
    assert bool(lens) and list(lens.parameters) == list(MODELS[model])


def test_coefficients_that_say_nothing_more_make_the_simplest_lens() -> None:
    assert checked_lens("OPENCV", [0.1, 0.0, 0.0, 0.0]) == Lens.radial(0.1)
    assert checked_lens("PINHOLE", []) == PINHOLE and not PINHOLE
    assert checked_lens("OPENCV", [0.1, 0.0, 0.01, 0.0]).model == "OPENCV"
    for model, values in (("OPENCV", [0.1]), ("MINE", []), ("SIMPLE_RADIAL", [float("nan")])):
        with pytest.raises(ValueError):
            checked_lens(model, values)


@pytest.mark.parametrize("fisheye", [False, True])
@pytest.mark.parametrize(("k1", "k2"), [(-0.2, 0.0), (-0.3, 0.05), (0.1, -0.1), (0.0, 0.0)])
def test_what_a_lens_shows_has_one_place(fisheye: bool, k1: float, k2: float) -> None:
    """Far out: what has an image comes back, and what has none is beyond a fold."""
    angle = np.radians(np.linspace(0, 88 if fisheye else 75, 200))
    flat = np.stack([np.tan(angle), np.zeros(200)], axis=1)
    shown = distort(flat, k1, k2, fisheye)
    seen = np.isfinite(shown).all(axis=1)
    back = undistort(shown[seen], k1, k2, fisheye)
    near_fold = np.gradient(shown[seen, 0]) < 1e-3
    assert seen[:40].all() and (~seen[np.argmin(seen) :]).all() == (not seen.all())
    assert_allclose(back[~near_fold], flat[seen][~near_fold], rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("fisheye", [False, True])
def test_slopes_of_the_scale_are_those_of_differences(fisheye: bool) -> None:
    square, step = np.array([1e-12, 1e-6, 0.01, 0.3, 2.0]), 1e-6
    found = radial_scale(square, -0.1, 0.03, fisheye)
    for slope, ahead, behind in (
        (found.by_square, (square * (1 + step), -0.1, 0.03), (square * (1 - step), -0.1, 0.03)),
        (found.by_k1, (square, -0.1 + step, 0.03), (square, -0.1 - step, 0.03)),
        (found.by_k2, (square, -0.1, 0.03 + step), (square, -0.1, 0.03 - step)),
    ):
        width = 2 * step * (square if slope is found.by_square else 1)
        change = radial_scale(*ahead, fisheye).scale - radial_scale(*behind, fisheye).scale
        assert_allclose(slope[2:], (change / width)[2:], rtol=1e-5, atol=1e-9)
    assert abs(found.by_square[0] - (-0.1 - fisheye / 3)) < 1e-6


def test_the_pinhole_of_a_fisheye_is_bounded_and_keeps_rays() -> None:
    K, lens = pinhole(200.0, 640, 480), Lens.solved(0.0, 0.0, True)
    moved, xy = pinhole_grid(640, 480, K, lens)
    height, width = xy.shape[:2]
    assert height * width < 2.1 * 640 * 480
    rays = pixel_rays(pixel_centres(width, height), moved)
    inside = ((xy > 0) & (xy < [640, 480])).all(axis=-1)
    assert_allclose(pixel_rays(xy[inside], K, lens), rays[inside], atol=1e-6)
    assert_allclose(project(rays[inside], K, lens), xy[inside], atol=1e-6)


def test_panoramas_are_told_from_wide_photos(tmp_path: Path) -> None:
    rng, (height, width) = np.random.default_rng(1), LOOKED_AT
    around = np.cumsum(rng.normal(0, 6, (height, width, 3)), axis=1)
    # It closes up: no drift from its one side to the other; and rows at the poles are one colour.
    around -= np.linspace(0, 1, width)[:, None] * (around[:, -1:] - around[:, :1])
    around *= np.sin(np.linspace(0, np.pi, height))[:, None, None]
    panorama = np.clip(128 + 2 * np.roll(around, 40, axis=1), 0, 255).astype(np.uint8)
    assert looks_like_panorama(panorama, 2.0)
    without_poles = np.roll(panorama, height // 2, axis=0)
    assert not looks_like_panorama(without_poles, 2.0) and looks_like_panorama(without_poles, 3.6)
    twice = np.concatenate([panorama[:, : width // 2]] * 2, axis=1)[:, ::-1]
    assert not looks_like_panorama(twice, 2.0) and not looks_like_panorama(twice, 3.6)
    assert not looks_like_panorama(np.full((height, width, 3), 90, np.uint8), 2.0)
    # A photo in a white frame has the same at its left and right, and nothing above and below.
    framed = np.full_like(panorama, 255)
    framed[16:-16, 16:-16] = panorama[16:-16, 16:-16]
    assert not looks_like_panorama(framed, 2.0) and not looks_like_panorama(framed, 3.6)
    wide = np.roll(panorama, 64, axis=0)
    pictures = {"around.png": panorama, "wide.png": wide[:120, :240], "as large.png": wide}
    for name, pixels in pictures.items():
        Image.fromarray(pixels).save(tmp_path / name)
    photos, rejected = open_photos([tmp_path / name for name in pictures])
    # Whatever it shows at its seam, a picture as large as a panorama is one.
    assert [photo.name for photo in photos] == ["wide.png"]
    assert all("panorama" in one.reason for one in rejected)
    image = Image.new("RGB", (64, 32))
    image.info["xmp"] = b'<x GPano:ProjectionType="equirectangular"/>'
    assert says_panorama(image) and not says_panorama(Image.new("RGB", (64, 32)))
