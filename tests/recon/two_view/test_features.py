from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from scipy import ndimage
from synthetic import Shot, save_photo, shoot
from two_views import photo, predict

from benchmarks.pointmap_matches import match_pointmaps, reciprocal_neighbours
from pointmap.camera import invert_rigid, pixel_centres, project, transform_points
from pointmap.images import ResizedPhoto
from recon.inputs import read_inputs
from recon.options import Options
from recon.stage_results import PhotoFeatures
from recon.two_view.features import extract_features, match_features
from recon.two_view.find_features import find_features

PAIR = Path(__file__).parents[2] / "data" / "geometry" / "pair01.npz"


def _features(pixels: np.ndarray, width: int | None = None, height: int | None = None):
    h, w = pixels.shape[:2]
    return extract_features(ResizedPhoto(photo(width or w, height or h), pixels))


def _transfer(xy: np.ndarray, source: Shot, target: Shot) -> np.ndarray:
    """Return where the scene points at ``xy`` of one shot appear in the other."""
    column, row = xy.astype(int).T
    K = source.intrinsics
    z = source.depth[row, column]
    rays = np.concatenate([(xy - K[:2, 2]) / K[[0, 1], [0, 1]], np.ones((len(xy), 1))], 1)
    world = transform_points(source.cam_to_world, rays * z[:, None])
    return project(transform_points(invert_rigid(target.cam_to_world), world), target.intrinsics)


@pytest.fixture(scope="module")
def shots() -> list[Shot]:
    return shoot(3, width=320, height=240, span_deg=24)


def test_positions_are_original_pixels_with_centres_at_a_half():
    # Round spots at known places of a 3 x 2 times larger photo, rendered at reduced size.
    truth = np.array([[60.0, 80.0], [200.4, 60.2], [310.7, 150.9], [120.0, 170.0]])
    scale = np.array([3.0, 2.0])
    centres = pixel_centres(128, 120) * scale
    distance = (((centres[:, :, None] - truth) / (4 * scale)) ** 2).sum(-1)
    grey = 40 + 180 * np.exp(-distance / 2).sum(-1)
    pixels = np.repeat(np.round(grey).astype(np.uint8)[..., None], 3, axis=2)
    found = _features(pixels, 384, 240).xy
    nearest = np.abs(found[None] - truth[:, None]).max(-1).argmin(1)
    np.testing.assert_allclose(found[nearest] / scale, truth / scale, atol=0.1)


def test_describing_all_key_points_at_once_gives_the_same(shots, monkeypatch):
    seen = ResizedPhoto(photo(320, 240), shots[0].pixels)
    # Some of so many are of the finest octave, without which OpenCV's second pyramid is another.
    chosen_alone = extract_features(seen, limit=500)
    monkeypatch.setattr("recon.two_view.features._ALL_AT_ONCE", 1000)
    at_once = extract_features(seen, limit=500)
    assert len(at_once.xy) == 500
    np.testing.assert_array_equal(at_once.xy, chosen_alone.xy)
    np.testing.assert_array_equal(at_once.descriptors, chosen_alone.descriptors)


def test_matches_of_two_photos_agree_with_the_scene(shots):
    i, j = _features(shots[0].pixels), _features(shots[1].pixels)
    matches = match_features(i, j, 0, 1)
    error = np.linalg.norm(_transfer(matches.xy_i, shots[0], shots[1]) - matches.xy_j, axis=1)
    assert len(matches) > 100
    assert (error < 2).mean() > 0.9
    np.testing.assert_array_equal(i.xy[matches.index_i], matches.xy_i)
    np.testing.assert_array_equal(j.xy[matches.index_j], matches.xy_j)
    assert len(np.unique(matches.index_j)) == len(matches)


def test_swapping_the_photos_swaps_the_matches(shots):
    i, j = _features(shots[0].pixels), _features(shots[1].pixels)
    forth, back = match_features(i, j, 0, 1), match_features(j, i, 0, 1)
    pairs = set(zip(forth.index_i, forth.index_j, strict=True))
    assert pairs == set(zip(back.index_j, back.index_i, strict=True))


def test_portrait_matches_landscape(shots):
    upright = _features(shots[0].pixels)
    turned = _features(np.ascontiguousarray(np.rot90(shots[0].pixels)))
    matches = match_features(upright, turned, 0, 1)
    # A quarter turn to the left takes (x, y) to (y, width - x).
    expected = np.stack([matches.xy_i[:, 1], 320 - matches.xy_i[:, 0]], axis=1)
    assert len(matches) > 0.5 * len(upright.xy)
    assert (np.linalg.norm(matches.xy_j - expected, axis=1) < 1).mean() > 0.95


def test_colours_are_those_under_the_key_points():
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[20:32, 36:48] = (250, 120, 10)
    features = _features(pixels)
    inside = ((features.xy > [38, 22]) & (features.xy < [46, 30])).all(1)
    assert inside.any()
    assert (features.colours[inside] == (250, 120, 10)).all()


def test_plain_photo_has_no_features_and_no_matches(shots):
    plain = _features(np.full((120, 160, 3), 128, np.uint8))
    matches = match_features(plain, _features(shots[0].pixels), 0, 1)
    assert plain.xy.shape == (0, 2) and plain.descriptors.shape == (0, 128)
    assert len(matches) == 0 and matches.index_j.dtype == np.int64


def test_repeated_structure_is_no_match():
    rng = np.random.default_rng(0)
    base = rng.normal(size=(3, 128))
    # Two versions of the first key point in photo j: which one is it?
    j = np.concatenate([base, base[:1]]) + 0.01 * rng.normal(size=(4, 128))
    i = base + 0.01 * rng.normal(size=base.shape)
    matches = match_features(_with_descriptors(i), _with_descriptors(j), 0, 1)
    np.testing.assert_array_equal(matches.index_i, [1, 2])


def _with_descriptors(descriptors: np.ndarray) -> PhotoFeatures:
    unit = descriptors / np.linalg.norm(descriptors, axis=1, keepdims=True)
    count = len(unit)
    return PhotoFeatures(
        np.zeros((count, 2)), unit.astype(np.float32), np.zeros((count, 3), np.uint8)
    )


def test_pointmap_matches_are_the_same_scene_points(shots):
    photos = [photo(1601, 1203), photo(1601, 1203)]
    ij, ji = predict(shots, 0, 1), predict(shots, 1, 0, scale=3.0)
    matches = match_pointmaps(ij, ji, photos, limit=500)
    scale = np.array([1601 / 320, 1203 / 240])
    expected = _transfer(matches.xy_i / scale, shots[0], shots[1])
    error = np.linalg.norm(matches.xy_j / scale - expected, axis=1)
    assert len(matches) == 500
    assert np.median(error) < 0.75
    assert matches.sigma_px == pytest.approx(0.75 * scale.mean())
    assert (matches.index_i == -1).all() and (matches.index_j == -1).all()


def test_pointmap_matches_prefer_confident_pixels(shots):
    ij, ji = predict(shots, 0, 1), predict(shots, 1, 0)
    ij.confidence_i[:, :160] = 1.5
    ji.confidence_j[:, :160] = 1.5
    matches = match_pointmaps(ij, ji, [photo(320, 240)] * 2, limit=200)
    assert (matches.xy_i[:, 0] > 160).all()


def test_unrelated_pointmaps_do_not_match(shots):
    ij, ji = predict(shots, 0, 1), predict(shots, 1, 0)
    ij.points_j[..., 2] += 50
    ji.points_j[..., 2] = -1
    assert len(match_pointmaps(ij, ji, [photo(320, 240)] * 2)) == 0


def test_reciprocal_neighbours_equal_the_stored_reference():
    data = np.load(PAIR)
    points_1 = data["points_i"].reshape(-1, 3).astype(np.float32)
    points_2 = data["points_j"].reshape(-1, 3).astype(np.float32)
    index_1, index_2 = reciprocal_neighbours(points_1, points_2)
    expected = np.unpackbits(data["in_P2"])[: len(points_2)].astype(bool)
    found = np.zeros(len(points_2), bool)
    found[index_2] = True
    # Points stored in half precision coincide here and there; their order is the tree's.
    assert abs(found.sum() - data["recip_count"]) <= 3
    assert (found != expected).sum() <= 6
    both = expected[index_2]
    assert (data["nn2_in_P1"][index_2[both]] == index_1[both]).mean() > 0.999


def test_a_photo_has_so_many_of_its_key_points_at_most(shots: list[Shot], tmp_path: Path) -> None:
    save_photo(shots[0], tmp_path / "0.png")
    inputs = read_inputs([tmp_path], Options())
    every, some = find_features(inputs)[0], find_features(inputs, limit=50)[0]
    assert len(some.xy) == 50 < len(every.xy)
    assert {tuple(xy) for xy in some.xy.tolist()} <= {tuple(xy) for xy in every.xy.tolist()}


def test_leaves_that_are_others_in_each_photo_leave_key_points_to_what_stays() -> None:
    """Fine and of high contrast, beside larger patterns of low contrast: a wall behind leaves."""
    rng = np.random.default_rng(0)
    wall = ndimage.gaussian_filter(rng.normal(size=(240, 160)), 4)
    wall = 128 + 60 * wall / np.abs(wall).max()

    def seen() -> PhotoFeatures:
        leaves = ndimage.gaussian_filter(rng.normal(size=(240, 160)), 0.8)
        leaves = 128 + 40 * leaves / leaves.std()
        grey = np.concatenate([leaves, wall], axis=1).clip(0, 255).astype(np.uint8)
        pixels = np.repeat(grey[:, :, None], 3, axis=2)
        return extract_features(ResizedPhoto(photo(320, 240), pixels), limit=150)

    first, second = seen(), seen()
    assert len(first.xy) == 150
    matches = match_features(first, second, 0, 1)
    still = (np.abs(matches.xy_i - matches.xy_j) < 0.5).all(axis=1) & (matches.xy_i[:, 0] > 160)
    assert still.sum() > 60


def test_key_points_of_a_smaller_picture_are_at_the_same_places_and_less_sure(
    shots: list[Shot], tmp_path: Path
) -> None:
    save_photo(shots[0], tmp_path / "0.png")
    inputs = read_inputs([tmp_path], Options())
    whole, half = find_features(inputs)[0], find_features(inputs, long_side=160)[0]
    assert half.sigma_px == pytest.approx(2 * whole.sigma_px)
    assert half.xy.max() > 200
    matches = match_features(half, whole, 0, 1)
    assert len(matches) > 30
    off = np.linalg.norm(matches.xy_i - matches.xy_j, axis=1)
    assert np.median(off) < 0.7


def test_of_what_was_cut_out_the_rest_of_the_picture_is_not_searched(shots, monkeypatch):
    pixels = np.zeros((480, 640, 3), np.uint8)
    pixels[240:, 320:] = shots[0].pixels
    usable = np.zeros((480, 640), bool)
    usable[320:460, 400:620] = True
    seen = ResizedPhoto(photo(640, 480), pixels, usable)
    searched = []

    def create(**options: Any) -> Any:
        sift = cv2.SIFT.create(**options)

        def detect(grey: np.ndarray, where: np.ndarray) -> Any:
            searched.append(grey.shape)
            return sift.detectAndCompute(grey, where)

        return SimpleNamespace(detectAndCompute=detect)

    monkeypatch.setattr(cv2, "SIFT_create", create)
    found = extract_features(seen)
    monkeypatch.setattr("recon.two_view.features._part", lambda where: np.s_[0:, 0:])
    of_all = extract_features(seen)
    assert searched == [(480 - 256, 640 - 320), (480, 640)]
    assert len(found.xy) > 100
    # Large key points at the rim see some of what was left.
    same = (np.abs(found.xy[:, None] - of_all.xy).max(axis=2) < 1e-3).any(axis=1)
    assert same.mean() > 0.98
    assert abs(len(found.xy) - len(of_all.xy)) < 0.02 * len(of_all.xy)
