import cv2
import numpy as np
import pytest
from synthetic import Shot, shoot

from recon.depth.resampling import upsample_depth
from recon.stage_results import DepthMap


@pytest.fixture(scope="module")
def pairs() -> list[tuple[Shot, Shot]]:
    """Photos with their depth at full and at two fifths of the size."""
    large = shoot(2, width=640, height=480, wavelength=0.6)
    return list(zip(large, shoot(2, width=256, height=192, wavelength=0.6), strict=True))


def near_edges(depth: np.ndarray, radius: int = 3) -> np.ndarray:
    """Pixels (h, w) within ``radius`` of a discontinuity of the true depth."""
    bend = np.abs(cv2.Laplacian(1 / depth, cv2.CV_32F)) * depth > 0.03
    return cv2.dilate(bend.astype(np.uint8), np.ones((2 * radius + 1,) * 2)) > 0


def relative_error(depth: np.ndarray, truth: np.ndarray, where: np.ndarray) -> float:
    return float(np.mean(np.abs(depth - truth)[where] / truth[where]))


def test_edges_follow_the_photo(pairs: list[tuple[Shot, Shot]]) -> None:
    for large, small in pairs:
        found = upsample_depth(DepthMap(small.depth, np.ones_like(small.depth)), large.pixels)
        size = large.depth.shape[::-1]
        nearest = cv2.resize(small.depth, size, interpolation=cv2.INTER_NEAREST)
        linear = 1 / cv2.resize(1 / small.depth, size)
        edges = near_edges(large.depth)
        error = relative_error(found.depth, large.depth, edges)
        assert error < 0.2 * relative_error(nearest, large.depth, edges)
        assert error < 0.3 * relative_error(linear, large.depth, edges)
        assert relative_error(found.depth, large.depth, ~edges) < 2e-4


def test_no_worse_than_the_working_resolution_when_its_edges_are_off(
    pairs: list[tuple[Shot, Shot]],
) -> None:
    """Depth whose foreground is a pixel too fat, as matching windows make it."""
    for large, small in pairs:
        fat = cv2.erode(small.depth, np.ones((3, 3), np.uint8))
        found = upsample_depth(DepthMap(fat, np.ones_like(fat)), large.pixels)
        looked_up = cv2.resize(fat, large.depth.shape[::-1], interpolation=cv2.INTER_NEAREST)
        edges = near_edges(large.depth, 7)
        before = relative_error(looked_up, large.depth, edges)
        assert relative_error(found.depth, large.depth, edges) <= before


def test_nothing_lies_between_two_surfaces(pairs: list[tuple[Shot, Shot]]) -> None:
    large, small = pairs[0]
    found = upsample_depth(DepthMap(small.depth, np.ones_like(small.depth)), large.pixels).depth
    low, high = (f(large.depth, np.ones((13, 13), np.uint8)) for f in (cv2.erode, cv2.dilate))
    apart = high > 1.3 * low
    between = (found > 1.1 * low) & (found < 0.9 * high)
    true_between = (large.depth > 1.1 * low) & (large.depth < 0.9 * high)
    assert (apart & between).sum() < 1.2 * (apart & true_between).sum() + 20


def test_unknown_stays_unknown_and_spoils_nothing(pairs: list[tuple[Shot, Shot]]) -> None:
    large, small = pairs[0]
    depth, confidence = small.depth.copy(), np.full(small.depth.shape, 0.7, np.float32)
    depth[60:90, 100:140] = 0
    depth[10, 10] = np.nan
    found = upsample_depth(DepthMap(depth, confidence), large.pixels)
    assert np.isfinite(found.depth).all()
    hole = found.depth[150:225, 250:350]
    assert (hole == 0).all() and (found.confidence[150:225, 250:350] == 0).all()
    assert (found.depth > 0).mean() > 0.95
    known = (found.depth > 0) & ~near_edges(large.depth, 6)
    assert relative_error(found.depth, large.depth, known) < 1e-3
    assert set(np.unique(found.confidence)) == {np.float32(0), np.float32(0.7)}


def test_the_same_size_comes_back_as_it_is(pairs: list[tuple[Shot, Shot]]) -> None:
    _, small = pairs[0]
    depth = DepthMap(small.depth, np.ones_like(small.depth))
    assert upsample_depth(depth, small.pixels) is depth
    nothing = DepthMap(np.zeros((6, 8), np.float32), np.zeros((6, 8), np.float32))
    assert (upsample_depth(nothing, small.pixels).depth == 0).all()
