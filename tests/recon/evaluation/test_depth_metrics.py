"""Depth and point metrics: hand-worked values, a second computation, planted alignments."""

from __future__ import annotations

import itertools
from typing import get_args

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation

from pointmap.camera import rigid, sample_at, transform_points
from recon.evaluation.boundaries import boundary_f1
from recon.evaluation.depth import DepthErrors, depth_errors, known_in_both, score_depths
from recon.evaluation.depth_alignment import (
    ROBUST,
    DepthAlignment,
    DepthTransform,
    fit_depth,
)
from recon.evaluation.points import cloud_scores, point_errors, register_clouds


def some_depth(count: int = 3000, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(1, 9, count)


def planted(alignment: DepthAlignment, truth: np.ndarray) -> tuple[np.ndarray, DepthTransform]:
    """A prediction that ``alignment`` can bring to the truth exactly, and how."""
    scale, shift = {"scale": (0.3, 0.0), "scale-shift": (2.5, 0.7), "disparity": (1.7, 0.05)}[
        alignment
    ]
    if alignment == "disparity":
        return 1 / ((1 / truth - shift) / scale), DepthTransform(alignment, scale, shift)
    return (truth - shift) / scale, DepthTransform(alignment, scale, shift)


@pytest.mark.parametrize("alignment", ROBUST)
@pytest.mark.parametrize("robust", [False, True])
def test_planted_scale_and_shift_come_back(alignment: DepthAlignment, robust: bool) -> None:
    truth = 1 / (0.06 + some_depth() / 20)
    predicted, wanted = planted(alignment, truth)
    fit = fit_depth(predicted, truth, alignment, robust=robust)
    assert fit is not None
    assert fit.scale == pytest.approx(wanted.scale, rel=1e-9)
    assert fit.shift == pytest.approx(wanted.shift, abs=1e-9)
    assert fit.apply(predicted, far=1e3) == pytest.approx(truth, rel=1e-9)


@pytest.mark.parametrize("alignment", ROBUST)
def test_the_robust_form_resists_30_percent_of_outliers(alignment: DepthAlignment) -> None:
    rng = np.random.default_rng(1)
    truth = 1 / (0.06 + some_depth() / 20)
    predicted, wanted = planted(alignment, truth)
    wrong = rng.random(len(truth)) < 0.3
    # One-sided and far out, in the regressor itself: the worst kind for least squares.
    predicted[wrong] *= rng.uniform(3, 30, wrong.sum())
    fit = fit_depth(predicted, truth, alignment, robust=True)
    plain = fit_depth(predicted, truth, alignment)
    assert fit is not None and plain is not None
    assert fit.scale == pytest.approx(wanted.scale, rel=1e-6)
    assert fit.shift == pytest.approx(wanted.shift, abs=1e-6)
    assert abs(plain.scale / wanted.scale - 1) > 0.2


def test_least_squares_agrees_with_a_numerical_minimum() -> None:
    rng = np.random.default_rng(2)
    p, t = rng.uniform(1, 5, (2, 200))
    for alignment, x, y in (("scale-shift", p, t), ("disparity", 1 / p, 1 / t)):
        fit = fit_depth(p, t, alignment)  # type: ignore[arg-type]
        found = np.linalg.lstsq(np.stack([x, np.ones(200)], 1), y)[0]
        assert fit is not None
        assert [fit.scale, fit.shift] == pytest.approx(found.tolist(), rel=1e-10)
    scale = fit_depth(p, t, "scale")
    assert scale is not None
    best = minimize(lambda s: float(((s * p - t) ** 2).sum()), 1.0, tol=1e-12)
    assert scale.scale == pytest.approx(best.x[0], rel=1e-6)


def test_degenerate_alignments_have_an_answer() -> None:
    assert all(fit_depth([], [], a) is None for a in get_args(DepthAlignment))
    for alignment, robust in itertools.product(("scale-shift", "disparity"), (False, True)):
        fit = fit_depth(np.full(9, 2.0), np.arange(1.0, 10), alignment, robust=robust)
        assert fit is not None and fit.shift == 0 and np.isfinite(fit.scale)
    with pytest.raises(ValueError, match="no robust form"):
        fit_depth([1.0], [1.0], "median", robust=True)
    # A shift that would put points behind the camera.
    behind = DepthTransform("scale-shift", 1.0, -5.0).apply([4.0, 7.0], far=10.0)
    assert behind.tolist() == [0.01, 2.0]
    beyond = DepthTransform("disparity", 1.0, -0.5).apply([4.0, 1.0], far=10.0)
    assert beyond.tolist() == [10.0, 2.0]


def test_errors_worked_by_hand() -> None:
    # p / t = 2, 1, 1/2: errors 1, 0, -2 of truths 1, 3, 4; logarithms ln 2, 0, -ln 2.
    errors = depth_errors([2.0, 3.0, 2.0], [1.0, 3.0, 4.0])
    log2 = np.log(2)
    assert errors.abs_rel == pytest.approx((1 + 0 + 0.5) / 3, abs=1e-12)
    assert errors.sq_rel == pytest.approx((1 + 0 + 1) / 3, abs=1e-12)
    assert errors.rmse == pytest.approx(np.sqrt(5 / 3), abs=1e-12)
    assert errors.rmse_log == pytest.approx(log2 * np.sqrt(2 / 3), abs=1e-12)
    assert errors.silog == pytest.approx(100 * log2 * np.sqrt(2 / 3), abs=1e-10)
    assert errors.log10 == pytest.approx(2 / 3 * np.log10(2), abs=1e-12)
    assert (errors.delta1, errors.delta2, errors.delta3) == pytest.approx((1 / 3, 1 / 3, 1 / 3))
    # Exactly 1.25 is not below 1.25; 1.5 is below 1.25^2 = 1.5625.
    edge = depth_errors([1.25, 1.5], [1.0, 1.0])
    assert (edge.delta1, edge.delta2) == (0.0, 1.0)


def by_the_formula(p: np.ndarray, t: np.ndarray) -> DepthErrors:
    """A second computation: plain loops over pixels, in the papers' words."""
    n = len(p)
    logs = [np.log(a) - np.log(b) for a, b in zip(p, t, strict=True)]
    worst = [max(a / b, b / a) for a, b in zip(p, t, strict=True)]
    return DepthErrors(
        sum(abs(a - b) / b for a, b in zip(p, t, strict=True)) / n,
        sum((a - b) ** 2 / b for a, b in zip(p, t, strict=True)) / n,
        (sum((a - b) ** 2 for a, b in zip(p, t, strict=True)) / n) ** 0.5,
        (sum(e**2 for e in logs) / n) ** 0.5,
        100 * (sum(e**2 for e in logs) / n - sum(logs) ** 2 / n**2) ** 0.5,
        sum(abs(np.log10(a) - np.log10(b)) for a, b in zip(p, t, strict=True)) / n,
        *(sum(w < limit for w in worst) / n for limit in (1.25, 1.5625, 1.953125)),
    )


def test_errors_agree_with_a_second_computation() -> None:
    rng = np.random.default_rng(3)
    t = rng.uniform(0.5, 20, 400)
    p = t * rng.lognormal(0.1, 0.3, 400)
    ours, other = depth_errors(p, t), by_the_formula(p, t)
    assert list(vars(ours).values()) == pytest.approx(list(vars(other).values()), abs=1e-9)
    # SILog alone doesn't change with the scale.
    assert depth_errors(5 * p, t).silog == pytest.approx(ours.silog, rel=1e-9)


def test_depth_scores_worked_by_hand() -> None:
    truth = np.array([[1.0, 2.0, 4.0, 0.0, 3.0]])
    predicted = np.array([[2.0, 4.0, 16.0, 5.0, np.nan]])
    # In both: (1, 2), (2, 4), (4, 16). Medians 2 and 4; sum(p t) / sum(p p) = 74 / 276.
    p, t = known_in_both(predicted, truth)
    for alignment, scale in (("none", 1.0), ("median", 0.5), ("scale", 74 / 276)):
        fit = fit_depth(p, t, alignment)
        assert fit is not None and fit.scale == pytest.approx(scale) and fit.shift == 0
    median = score_depths([predicted], [truth])
    assert median.abs_rel == pytest.approx(1 / 3)  # errors 0, 0 and 4 / 4
    assert median.delta == pytest.approx(2 / 3)
    assert median.coverage == 3 / 4 and median.transforms[0] == DepthTransform("median", 0.5)
    plain = score_depths([predicted], [truth], alignment="none")
    assert plain.abs_rel == pytest.approx((1 + 1 + 3) / 3) and plain.delta == 0


def test_one_scale_for_the_scene_sees_photos_that_disagree() -> None:
    rng = np.random.default_rng(0)
    truth = [rng.uniform(1, 1.1, (20, 30)) for _ in range(2)]
    predicted = [truth[0] * 3, truth[1] * 6]
    assert score_depths(predicted, truth).abs_rel == pytest.approx(0)
    together = score_depths(predicted, truth, per_sequence=True)
    assert together.transforms[0] == together.transforms[1]
    assert together.abs_rel is not None and together.abs_rel > 0.2


def test_depth_with_nothing_to_compare() -> None:
    nothing = score_depths([np.zeros((2, 2)), np.ones((2, 2))], [np.ones((2, 2)), np.zeros((2, 2))])
    assert (nothing.abs_rel, nothing.delta, nothing.coverage) == (None, None, 0)
    assert nothing.transforms == (None, None)
    for one_scale in (False, True):
        assert score_depths([], [], per_sequence=one_scale).abs_rel is None
    # One photo without prediction lowers coverage and nothing else.
    half = score_depths(
        [np.zeros((2, 2)), np.ones((2, 2))], [np.ones((2, 2))] * 2, per_sequence=True
    )
    assert (half.abs_rel, half.delta, half.coverage) == (0, 1, 0.5)


def test_sampling_takes_the_pixel_below_each_centre() -> None:
    depth = np.array([[1.0, 2.0], [3.0, 4.0]])
    assert sample_at(depth, 4, 4)[0].tolist() == [1, 1, 2, 2]
    assert sample_at(depth, 1, 1).tolist() == [[4]]
    assert np.array_equal(sample_at(np.arange(48.0).reshape(6, 8), 6, 8)[5], np.arange(40.0, 48))


def steps(*columns: float) -> np.ndarray:
    return np.tile(columns, (6, 1))


def test_boundaries_worked_by_hand() -> None:
    truth = steps(1, 1, 1, 2, 2, 2)
    assert boundary_f1(truth, truth) == pytest.approx(0.25)  # one direction of four has edges
    assert boundary_f1(7 * truth, truth) == pytest.approx(0.25)  # ratios don't know the scale
    assert boundary_f1(steps(1, 1, 2, 2, 2, 2), truth) == 0  # an edge one pixel aside
    assert boundary_f1(1 / truth, truth) == 0  # the wrong side in front
    assert boundary_f1(np.ones((6, 6)), truth) == 0
    assert boundary_f1(truth, np.ones((6, 6))) is None
    # A false edge beside the true one: recall 1, precision 1/2 in that direction, and the false
    # edge's own contrast of 2 counts at every threshold: F1 = 2 (1/8)(1/4) / (3/8).
    assert boundary_f1(steps(1, 1, 1, 2, 2, 4), truth) == pytest.approx(2 * 0.125 * 0.25 / 0.375)
    # An edge of 10 %: seen by the thresholds up to 1.10 alone, weighted by their size.
    low = steps(1, 1, 1, 1.1, 1.1, 1.1)
    ratios = np.linspace(1.05, 1.25, 10)
    assert boundary_f1(low, low) == pytest.approx(0.25 * ratios[ratios < 1.1].sum() / ratios.sum())


def test_boundaries_at_unknown_pixels_do_not_count() -> None:
    truth, predicted = steps(1, 1, 1, 2, 2, 2), steps(1, 1, 1, 2, 2, 2)
    truth[:, 3] = 0
    assert boundary_f1(predicted, truth) is None
    with pytest.raises(ValueError, match="shape"):
        boundary_f1(predicted[:5], truth)


def test_point_errors_worked_by_hand() -> None:
    truth = np.array([[0, 0, 1.0], [0, 0, 2.0], [0, 3.0, 4.0]])
    predicted = 2 * truth
    predicted[2] = [0, 6.0, 12.0]  # 2 |(0, 0, 2)| = 4 beyond, |t| = 5: relative error 0.4
    errors = point_errors(predicted, truth)
    assert errors is not None
    # The L1 scale is that of the two points that agree: 1/2.
    assert errors.relative == pytest.approx((0 + 0 + 2 / 5) / 3, abs=1e-6)
    assert errors.inliers == pytest.approx(2 / 3)
    mean_p, mean_t = (2 + 4 + np.sqrt(180)) / 3, 8 / 3
    by_hand = np.linalg.norm(predicted / mean_p - truth / mean_t, axis=1).mean()
    assert errors.normalised == pytest.approx(by_hand)
    assert point_errors(np.full((4, 3), np.nan), np.ones((4, 3))) is None
    assert point_errors(np.zeros((4, 3)), np.ones((4, 3))) is None


def test_cloud_scores_worked_by_hand() -> None:
    truth = np.array([[0, 0, 0], [1, 0, 0], [5, 0, 0.0]])
    predicted = np.array([[0, 0.1, 0], [1, 0, 0.3]])
    up, aside = np.tile([0, 0, 1.0], (3, 1)), np.array([[0, 0, -1.0], [0, 1.0, 0]])
    scores = cloud_scores(predicted, truth, threshold=0.2, predicted_normals=aside, true_normals=up)
    far = np.sqrt(16 + 0.09)
    assert scores.accuracy == pytest.approx(0.2) and scores.accuracy_median == pytest.approx(0.2)
    assert scores.completeness == pytest.approx((0.1 + 0.3 + far) / 3)
    assert scores.completeness_median == pytest.approx(0.3)
    assert scores.chamfer == pytest.approx((scores.accuracy + scores.completeness) / 2)
    assert (scores.precision, scores.recall) == (0.5, pytest.approx(1 / 3))
    assert scores.f1 == pytest.approx(2 * (1 / 2) * (1 / 3) / (5 / 6))
    assert scores.normal_consistency == pytest.approx((1 / 2 + 1 / 3) / 2)
    assert cloud_scores(predicted, truth, threshold=0.2).normal_consistency is None
    with pytest.raises(ValueError, match="nothing to compare"):
        cloud_scores(np.zeros((0, 3)), truth, threshold=1)


def test_clouds_are_registered_by_pairs_and_then_by_icp() -> None:
    rng = np.random.default_rng(4)
    truth = rng.uniform(-1, 1, (800, 3))
    R = Rotation.from_euler("xyz", [20, 40, 60], degrees=True).as_matrix()
    there = rigid(3 * R, [1, 2, 3])
    predicted = transform_points(np.linalg.inv(there), truth)
    # The pairs are a little wrong, and ICP mends what they leave.
    few = rng.choice(800, 30, replace=False)
    noisy = truth[few] + rng.normal(scale=0.005, size=(30, 3))
    found = register_clouds(predicted, truth, pairs=(predicted[few], noisy), threshold=0.1)
    # ICP is rigid: what is left is the pairs' error in scale.
    assert np.abs(transform_points(found, predicted) - truth).max() < 0.01
    shifted = register_clouds(truth + np.array([0.01, 0, 0]), truth, threshold=0.1)
    assert shifted[:3, 3] == pytest.approx([-0.01, 0, 0], abs=1e-9)
