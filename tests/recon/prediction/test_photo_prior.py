from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from synthetic import Shot, shoot
from two_views import photo, predict

from pointmap.camera import unproject
from recon.prediction.photo_prior import PriorAccumulator


@pytest.fixture(scope="module")
def shots() -> list[Shot]:
    return shoot(4, width=96, height=80)


def _accumulated(predictions, photos):
    accumulator = PriorAccumulator(photos)
    for prediction in predictions:
        accumulator.add(prediction)
    return accumulator.finish()


def _relative_error(points: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return errors relative to the distance, after one scale for all."""
    scale = np.median(np.linalg.norm(truth, axis=-1) / np.linalg.norm(points, axis=-1))
    return np.linalg.norm(scale * points - truth, axis=-1) / np.linalg.norm(truth, axis=-1)


def test_predictions_of_any_scale_average_to_the_scene(shots):
    predictions = [
        predict(shots, 0, j, noise=0.05, scale=10.0 ** (j - 2), seed=j) for j in (1, 2, 3)
    ]
    (prior, *_) = _accumulated(predictions, [photo(96, 80)] * 4)
    truth = unproject(shots[0].depth, shots[0].intrinsics)
    single = _relative_error(predictions[0].points_i, truth).mean()
    assert _relative_error(prior.points, truth).mean() < 0.65 * single  # 1 / sqrt(3) = 0.58
    assert prior.points.dtype == np.float32 and prior.confidence.dtype == np.float32


def test_confident_predictions_outweigh_unrelated_ones(shots):
    rng = np.random.default_rng(0)
    good = predict(shots, 0, 1, confidence=20.0)
    bad = replace(
        good,
        points_i=(good.points_i * np.exp(rng.normal(0, 1, (80, 96, 1)))).astype(np.float32),
        confidence_i=np.full((80, 96), 1.1, np.float32),
    )
    (prior,) = _accumulated([bad] * 5 + [good], [photo(96, 80)])
    truth = unproject(shots[0].depth, shots[0].intrinsics)
    assert np.median(_relative_error(prior.points, truth)) < 0.03
    assert np.median(prior.confidence) > 15


def test_order_of_predictions_does_not_matter(shots):
    predictions = [predict(shots, 0, j, noise=0.02, scale=j, seed=j) for j in (1, 2, 3)]
    photos = [photo(96, 80)]
    (first,) = _accumulated(predictions, photos)
    (second,) = _accumulated(predictions[::-1], photos)
    # A pixel at the edge of agreement may go either way.
    assert np.quantile(_relative_error(first.points, second.points), 0.99) < 1e-4
    assert first.focal_px == pytest.approx(second.focal_px, rel=1e-3)


def test_points_behind_the_camera_and_not_finite_ones_are_left_out(shots):
    good = predict(shots, 0, 1)
    points = good.points_i.copy()
    points[:10] = [0.1, 0.1, -3.0]
    points[10:20] = np.nan
    (prior,) = _accumulated([replace(good, points_i=points)], [photo(96, 80)])
    assert (prior.confidence[:20] == 0).all() and (prior.points[:20] == 0).all()
    assert (prior.points[20:, :, 2] > 0).all() and (prior.confidence[20:] == 10).all()
    # One more prediction that knows these pixels fills them.
    (prior,) = _accumulated([replace(good, points_i=points), good], [photo(96, 80)])
    assert (prior.points[..., 2] > 0).all()


def test_focal_is_in_original_pixels_of_an_unevenly_resized_photo(shots):
    # The network saw 96 x 80 of a photo whose x and y shrank by different factors.
    (prior,) = _accumulated([predict(shots, 0, 1)], [photo(960, 800)])
    assert prior.focal_px == pytest.approx(10 * shots[0].intrinsics[0, 0], rel=1e-3)


def test_a_photo_that_no_pair_predicted_has_an_empty_prior(shots):
    _, prior = _accumulated([predict(shots, 0, 1)], [photo(96, 80), photo(640, 480)])
    assert prior.confidence.shape == (1, 1) and prior.confidence[0, 0] == 0
    assert prior.focal_px == pytest.approx(1.2 * 640)


def test_nothing_usable_is_an_outcome_too(shots):
    good = predict(shots, 0, 1)
    behind = replace(good, points_i=-good.points_i)
    (prior,) = _accumulated([behind], [photo(96, 80)])
    assert (prior.confidence == 0).all() and np.isfinite(prior.points).all()
    assert prior.focal_px == pytest.approx(1.2 * 96)
