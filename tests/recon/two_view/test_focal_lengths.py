from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from two_views import camera_at, cloud, make_matches, photo

from pointmap.camera import pinhole, pixel_centres, pixel_rays
from recon.prediction.pointmap_focal import weiszfeld_focal
from recon.stage_results import FocalEstimate, PairMatches, PhotoPrior
from recon.two_view import focal_lengths
from recon.two_view.focal_lengths import FocalOptions, focal_from_epipolar, solve_focals

GEOMETRY = Path(__file__).parents[2] / "data" / "geometry" / "pair01.npz"
DEFAULT = FocalEstimate(1.2 * 640, 0.4, "default")


def _pointmap(focal: float, width: int = 64, height: int = 48, seed: int = 0):
    """Return points (h, w, 3) of random depth and their pixels from the centre."""
    rng = np.random.default_rng(seed)
    centres = pixel_centres(width, height)
    depth = rng.uniform(1, 6, (height, width, 1))
    return pixel_rays(centres, pinhole(focal, width, height)) * depth, centres - [
        width / 2,
        height / 2,
    ]


def test_weiszfeld_equals_the_stored_reference():
    data = np.load(GEOMETRY)
    # The reference's grid: integer pixels, principal point at (W / 2, H / 2), no confidence.
    pixels = pixel_centres(96, 72) - 0.5 - [48, 36]
    for name, expected in zip(("points_i", "back_points_j"), data["focal_weiszfeld"], strict=True):
        found = weiszfeld_focal(data[name], pixels, fallback_px=100)
        assert found.focal_px == pytest.approx(expected, rel=2e-4)


@pytest.mark.skipif("POINTMAP_SHARED" not in os.environ, reason="POINTMAP_SHARED is not set")
def test_weiszfeld_equals_the_reference_on_all_stored_pairs():
    folder = Path(os.environ["POINTMAP_SHARED"]) / "parity"
    stored = np.load(folder / "ga_n8_inputs.npz")
    expected = np.load(folder / "geometry_goldens.npz")["focal/weiszfeld"]
    bits = stored["pts1_hi"].astype(np.uint16) << 8 | stored["pts1_lo"]
    pixels = pixel_centres(96, 72) - 0.5 - [48, 36]
    found = [
        weiszfeld_focal(points, pixels, fallback_px=100).focal_px
        for points in bits.view(np.float16).astype(np.float32)
    ]
    np.testing.assert_allclose(found, expected, rtol=3e-4)
    weighted = [
        weiszfeld_focal(points, pixels, 1 + conf / 16, fallback_px=100).focal_px
        for points, conf in zip(bits.view(np.float16), stored["conf1_q"], strict=True)
    ]
    truth = float(stored["truth_focal"])
    reference_error = np.abs(expected / truth - 1).mean()
    assert np.abs(np.array(weighted) / truth - 1).mean() <= 1.02 * reference_error


def test_exact_points_give_the_exact_focal_with_high_certainty():
    points, pixels = _pointmap(52.0)
    found = weiszfeld_focal(points, pixels, fallback_px=77)
    assert found.focal_px == pytest.approx(52.0, rel=1e-9)
    assert found.source == "network" and found.log_sigma == pytest.approx(0.05)


def test_scale_of_the_points_does_not_matter():
    points, pixels = _pointmap(52.0)
    found = weiszfeld_focal(1e4 * points, pixels, fallback_px=77)
    assert found.focal_px == pytest.approx(52.0, rel=1e-9)


def test_outliers_hardly_move_the_focal():
    points, pixels = _pointmap(52.0)
    rng = np.random.default_rng(1)
    wrong = rng.random(points.shape[:2]) < 0.3
    points[wrong] = rng.normal([0, 0, 3], 1, (wrong.sum(), 3))
    assert weiszfeld_focal(points, pixels, fallback_px=77).focal_px == pytest.approx(52, rel=0.01)


def test_confidence_silences_what_is_wrong():
    points, pixels = _pointmap(52.0)
    confidence = np.ones(points.shape[:2])
    points[:30, :, :2] *= 0.5
    confidence[:30] = 1e-3
    assert weiszfeld_focal(points, pixels, fallback_px=77).focal_px > 60
    found = weiszfeld_focal(points, pixels, confidence, fallback_px=77)
    assert found.focal_px == pytest.approx(52, rel=1e-2)


@pytest.mark.parametrize("case", ["behind", "mirrored", "not finite", "zeros", "one ray", "empty"])
def test_degenerate_points_give_the_fallback(case):
    points, pixels = _pointmap(52.0)
    if case == "behind":
        points[..., 2] *= -1
    elif case == "mirrored":
        points[..., :2] *= -1
    elif case == "not finite":
        points[:] = np.nan
    elif case == "zeros":
        points[:] = 0
    elif case == "one ray":
        points[..., :2] = 0
    else:
        points, pixels = points[:0], pixels[:0]
    assert weiszfeld_focal(points, pixels, fallback_px=77) == FocalEstimate(77, 0.4, "default")


def _scene(
    focal: float, *, noise_px: float = 0.3, outliers: float = 0.1, second: float | None = None
) -> list[PairMatches]:
    """Return the matches of four photos of one cloud; ``second`` is the last photo's focal."""
    poses = [
        camera_at([-1.2, 0.1, -5.0], [2, 12, 0]),
        camera_at([-0.3, -0.5, -4.2], [-7, 3, 3]),
        camera_at([0.8, 0.3, -4.7], [4, -11, -2]),
        camera_at([1.6, -0.2, -4.0], [1, -20, 5]),
    ]
    K = [pinhole(focal, 640, 480)] * 3 + [pinhole(second or focal, 640, 480)]
    return [
        make_matches(
            cloud(400),
            poses[i],
            poses[j],
            K[i],
            K[j],
            noise_px=noise_px,
            outliers=outliers,
            i=i,
            j=j,
            seed=10 * i + j,
        )
        for i in range(4)
        for j in range(i + 1, 4)
    ]


@pytest.mark.parametrize("focal", [420.0, 640.0, 1100.0])
def test_epipolar_focal_is_found_from_a_wrong_prior(focal):
    found = focal_from_epipolar(_scene(focal), [photo()] * 4, prior=DEFAULT)
    assert found.source == "epipolar"
    assert found.focal_px == pytest.approx(focal, rel=0.02)
    assert found.log_sigma < 0.1


def test_epipolar_focal_is_the_same_twice_and_scales_with_the_photo():
    pairs = _scene(600.0)[:3]
    once = focal_from_epipolar(pairs, [photo()] * 4, prior=DEFAULT)
    assert focal_from_epipolar(pairs, [photo()] * 4, prior=DEFAULT) == once
    larger = [
        PairMatches(p.i, p.j, 4 * p.xy_i, 4 * p.xy_j, p.index_i, p.index_j, 2.0) for p in pairs
    ]
    prior = FocalEstimate(4 * DEFAULT.focal_px, 0.4, "default")
    found = focal_from_epipolar(larger, [photo(2560, 1920)] * 4, prior=prior)
    assert found.focal_px == pytest.approx(4 * once.focal_px, rel=0.01)


def test_one_wrong_pair_does_not_win():
    pairs = _scene(600.0)
    # The pair of photos 2 and 3, of another place with another focal length, self-consistent.
    pairs[5] = _scene(1500.0, outliers=0.0)[5]
    found = focal_from_epipolar(pairs, [photo()] * 4, prior=DEFAULT)
    assert found.focal_px == pytest.approx(600, rel=0.03)


def test_turning_on_the_spot_tells_no_wrong_focal():
    K = pinhole(500, 640, 480)
    pair = make_matches(
        cloud(500), camera_at([0, 0, -5]), camera_at([0, 0, -5], [3, 10, 2]), K, K, noise_px=0.3
    )
    found = focal_from_epipolar([pair], [photo()] * 2, prior=DEFAULT)
    assert abs(np.log(found.focal_px / 500)) < 3 * found.log_sigma
    assert found.log_sigma >= 0.1


def test_random_matches_leave_the_prior():
    rng = np.random.default_rng(0)
    index = np.arange(60)
    pair = PairMatches(
        0, 1, rng.uniform(0, 480, (60, 2)), rng.uniform(0, 480, (60, 2)), index, index, 0.5
    )
    assert focal_from_epipolar([pair], [photo()] * 2, prior=DEFAULT) == DEFAULT


def test_a_photo_of_another_camera_is_solved_against_the_known_ones():
    matches = _scene(600.0, second=900.0)
    photos = [photo()] * 3 + [photo(key="other")]
    focals = solve_focals(photos, matches)
    np.testing.assert_allclose(focals.focals_px, [600, 600, 600, 900], rtol=0.03)
    np.testing.assert_array_equal(focals.groups, [0, 0, 0, 1])
    assert focals.sources == ("epipolar",) * 4


def test_given_focal_beats_exif_and_exif_beats_matches():
    matches = _scene(600.0)
    photos = [photo(exif=610.0)] * 3 + [photo(key="other")]
    focals = solve_focals(photos, matches)
    assert focals.sources[:3] == ("exif",) * 3
    np.testing.assert_allclose(focals.focals_px[:3], 610.0)
    focals = solve_focals(photos, matches, options=FocalOptions(focal_px=555.0))
    np.testing.assert_array_equal(focals.focals_px, [555.0] * 4)
    np.testing.assert_array_equal(focals.log_sigma, [0.0] * 4)
    focals = solve_focals(photos, matches, options=FocalOptions(use_exif=False))
    assert focals.sources == ("epipolar",) * 4


def _prior(focal: float, confidence: float) -> PhotoPrior:
    return PhotoPrior(
        np.ones((4, 4, 3), np.float32), np.full((4, 4), confidence, np.float32), focal
    )


def test_without_matches_the_network_counts_as_much_as_it_is_confident():
    photos = [photo(), photo()]
    weak = solve_focals(photos, [], [_prior(500, 1.2), _prior(520, 1.2)])
    strong = solve_focals(photos, [], [_prior(500, 8.0), _prior(520, 8.0)])
    assert weak.sources == strong.sources == ("network",) * 2
    assert weak.focals_px == pytest.approx([np.sqrt(500 * 520)] * 2)
    assert strong.log_sigma[0] < 0.2 * weak.log_sigma[0]
    nothing = solve_focals(photos, [], [_prior(500, 0.0), _prior(520, 0.0)])
    assert nothing.sources == ("default",) * 2
    assert nothing.focals_px == pytest.approx([1.2 * 640] * 2)


def test_unshared_focals_keep_apart():
    focals = solve_focals([photo()] * 4, _scene(600.0), options=FocalOptions(share_focal=False))
    np.testing.assert_array_equal(focals.groups, np.arange(4))
    assert (focals.log_sigma >= 0.15).all()


def test_many_cameras_are_asked_for_fewer_pairs_each(monkeypatch: pytest.MonkeyPatch):
    asked: list[PairMatches] = []
    monkeypatch.setattr(focal_lengths, "_pair_profile", lambda pair, *_: asked.append(pair))
    pair, known = _scene(600.0)[0], 25
    for count, one_camera, most in ((4, False, 20), (60, False, 4), (60, True, 20)):
        asked.clear()
        names = ["known"] * known + ["one" if one_camera else f"{k}" for k in range(count)]
        photos = [replace(photo(), camera_key=name) for name in names]
        matches = [replace(pair, i=i, j=j) for j in range(known, len(names)) for i in range(known)]
        if one_camera:
            matches += [replace(pair, i=i, j=i + 1) for i in range(known, len(names) - 1)]
        solve_focals(photos, matches, known_px=[600.0] * known + [None] * count)
        assert len(asked) == (most if one_camera else most * count)
