"""Planted scales, shifts and focal lengths: found exactly, with noise, among outliers."""

from __future__ import annotations

import numpy as np
import pytest
from synthetic import shoot, visible

from pointmap.camera import pixel_rays, transform_points
from recon.prediction.affine_fit import Kind, ValueMatches, fit_affine, recover_shift_and_focal

WIDTH, HEIGHT, FOCAL = 160, 120, 0.95 * 160
KINDS: tuple[Kind, ...] = ("disparity", "depth")
SHIFTS = (0.9, -0.35, 0.5)


def values_of(z: np.ndarray, kind: Kind, scale: float, shift: float) -> np.ndarray:
    """What a map holds whose depth is ``scale x value + shift`` (or the inverse of that)."""
    return ((1 / z if kind == "disparity" else z) - shift) / scale


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [0.02, 30.0])
def test_planted_scale_and_shift_are_exact(kind: Kind, scale: float) -> None:
    z = np.random.default_rng(0).uniform(1, 5, 300)
    values = values_of(z, kind, scale, 0.07)
    fit = fit_affine(values, z, kind=kind)
    assert fit is not None
    assert fit.scale == pytest.approx(scale, rel=1e-9)
    assert fit.shift == pytest.approx(0.07, rel=1e-7)
    np.testing.assert_allclose(fit.depth(values), z, rtol=1e-9)
    assert fit.error < 1e-9


@pytest.mark.parametrize("kind", KINDS)
def test_a_third_of_wrong_points_changes_nothing_and_noise_little(kind: Kind) -> None:
    rng = np.random.default_rng(1)
    z = rng.uniform(1, 5, 400)
    values = values_of(z, kind, 3.0, -0.1)
    wrong = rng.random(400) < 0.35
    spoiled = np.where(wrong, rng.uniform(0.3, 20, 400), z)
    exact = fit_affine(values, spoiled, kind=kind)
    assert exact is not None
    assert exact.scale == pytest.approx(3.0, rel=1e-6)
    assert exact.shift == pytest.approx(-0.1, rel=1e-5)
    noisy = fit_affine(values, spoiled * np.exp(0.02 * rng.normal(size=400)), kind=kind)
    assert noisy is not None
    assert np.abs(noisy.depth(values) / z - 1).max() < 0.03


def test_what_no_line_fits_is_said() -> None:
    z = np.linspace(1, 3, 20)
    assert fit_affine(np.ones(20), z, kind="depth") is None
    assert fit_affine(z[:2], z[:2], kind="depth") is None
    # A map that falls where depth rises is no depth.
    assert fit_affine(-z, z, kind="depth") is None
    fit = fit_affine(z, z, kind="depth")
    assert fit is not None and fit.depth([-1.0, 2.0]).tolist() == pytest.approx([0, 2])
    assert fit_affine([np.nan, *z], [1.0, *z], kind="depth") == fit


def planted(kind: Kind, *, noise: float = 0.0, outliers: float = 0.0) -> list[ValueMatches]:
    """Matches of three photos from an arc, whose maps have the planted shifts."""
    shots = shoot(3, width=WIDTH, height=HEIGHT, span_deg=50)
    rng = np.random.default_rng(2)
    found = []
    for i, j in ((0, 1), (1, 2), (0, 2)):
        column, row = rng.integers(0, WIDTH, 700), rng.integers(0, HEIGHT, 700)
        first = np.stack([column, row], 1) + 0.5
        z = shots[i].depth[row, column].astype(np.float64)
        world = transform_points(
            shots[i].cam_to_world, pixel_rays(first, shots[i].intrinsics) * z[:, None]
        )
        second, seen = visible(shots[j], world)
        z_j = transform_points(np.linalg.inv(shots[j].cam_to_world), world)[:, 2]
        xy = [first[seen] - [WIDTH / 2, HEIGHT / 2], second[seen] - [WIDTH / 2, HEIGHT / 2]]
        maps = []
        for k, depth in ((i, z[seen]), (j, z_j[seen])):
            depth = depth * np.exp(noise * rng.normal(size=len(depth)))
            # In the unit where value + shift is proportional to depth or its inverse.
            exact = 1 / depth if kind == "disparity" else depth
            level = np.median(exact)
            maps.append((exact / level - 0.3 * SHIFTS[k]) * (k + 1))
        wrong = rng.random(seen.sum()) < outliers
        maps[1] = np.where(wrong, rng.permutation(maps[1]), maps[1])
        xy[1][wrong] += rng.normal(size=(wrong.sum(), 2)) * 20
        found.append(ValueMatches(i, j, xy[0], xy[1], maps[0], maps[1]))
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("noise", "outliers", "focal_error", "shift_error"),
    [
        (0.0, 0.0, 1e-6, 1e-6),
        (0.01, 0.0, 0.015, 0.015),
        (0.0, 0.3, 1e-6, 1e-6),
        (0.01, 0.3, 0.015, 0.015),
    ],
)
def test_shifts_and_focal_are_found_from_matches_alone(
    kind: Kind, noise: float, outliers: float, focal_error: float, shift_error: float
) -> None:
    matches = planted(kind, noise=noise, outliers=outliers)
    found = recover_shift_and_focal(matches, kind=kind)
    assert found is not None
    assert abs(np.log(found.focal / FOCAL)) < focal_error
    for view in range(3):
        assert abs(found.shifts[view] / (view + 1) - 0.3 * SHIFTS[view]) < shift_error
    assert abs(np.log(found.focal / FOCAL)) < 5 * found.focal_log_sigma
    assert found.error < 1e-9 if noise == 0 else found.error == pytest.approx(noise, rel=0.8)


def test_matches_that_do_not_tell_are_no_answer() -> None:
    assert recover_shift_and_focal([], kind="depth") is None
    few = planted("depth")[0]
    few = ValueMatches(0, 1, few.xy_i[:8], few.xy_j[:8], few.value_i[:8], few.value_j[:8])
    assert recover_shift_and_focal([few], kind="depth") is None
    # Twice the same photo: every focal length and every shift agree with themselves.
    m = planted("depth")[0]
    same = ValueMatches(0, 1, m.xy_i, m.xy_i, m.value_i, m.value_i)
    assert recover_shift_and_focal([same], kind="depth") is None
