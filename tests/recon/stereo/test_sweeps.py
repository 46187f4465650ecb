"""The plane sweep in compiled loops and in torch: what each does, and that both do the same."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from balls_before_a_wall import photo
from synthetic import Shot, shoot

from pointmap.compiled import compiled
from recon.stage_results import DepthMap
from recon.stereo import compiled_sweep, plane_sweep, refine_depths, torch_sweep
from recon.stereo.loops.paths import least_energy
from recon.stereo.photo import Votes
from recon.stereo.view import StereoView

BOTH = pytest.mark.parametrize("sweep", [compiled_sweep, torch_sweep])


@pytest.fixture(scope="module")
def shots() -> list[Shot]:
    """Four photos, the last one smaller than the others."""
    given = dict(span_deg=20, wavelength=0.5)
    large, small = shoot(4, width=128, height=96, **given), shoot(4, width=96, height=72, **given)
    return [*large[:3], small[3]]


def scorers(shots: list[Shot], sweep: ModuleType) -> plane_sweep.Scorer:
    first, *others = [photo(shot) for shot in shots]
    scorer: plane_sweep.Scorer = sweep.PhotoScorer(first, others)
    return scorer


@BOTH
def test_score_is_highest_at_the_true_depth(shots: list[Shot], sweep: ModuleType) -> None:
    true = torch.from_numpy(1 / shots[0].depth)
    surfaces = torch.stack([true * factor for factor in (0.95, 1.0, 1.05)])
    scores = scorers(shots, sweep)(surfaces)[:, 8:-8, 8:-8]
    assert (scores.argmax(0) == 1).float().mean() > 0.9
    assert scores[1].median() > 0.95
    assert float(scores.max()) <= 1.0 + 1e-3


def test_both_score_alike(shots: list[Shot]) -> None:
    true = torch.from_numpy(1 / shots[0].depth)
    # Also out of sight of some sources and of all, and behind them.
    surfaces = torch.stack([true * factor for factor in (1.0, 0.9, 1.2, 3.0, 30.0, -1.0)])
    a, b = (scorers(shots, sweep)(surfaces) for sweep in (compiled_sweep, torch_sweep))
    # A pixel at the very border of a source may count as seen by one and not by the other.
    assert ((a - b).abs() < 2e-3).float().mean() > 0.999
    assert ((a == 0) == (b == 0)).float().mean() > 0.999


@BOTH
def test_a_photo_without_sources_scores_nothing(shots: list[Shot], sweep: ModuleType) -> None:
    scores = scorers(shots[:1], sweep)(torch.ones(2, *shots[0].depth.shape))
    assert scores.shape == (2, *shots[0].depth.shape)
    assert (scores == 0).all()


def test_both_choose_alike(shots: list[Shot]) -> None:
    true = torch.from_numpy(1 / shots[0].depth)
    rng = np.random.default_rng(0)
    say = torch.from_numpy(rng.uniform(0, 0.1, true.shape).astype(np.float32))
    for votes in (None, Votes(1.05 * true, say)):
        given = 0.7 * true, 0.02 * true, 30, (0.1, 0.8), votes
        a, b = (scorers(shots, sweep).lowest(*given) for sweep in (compiled_sweep, torch_sweep))
        assert (a[0] - 15).abs().median() < 1
        assert ((a[0] - b[0]).abs() < 0.02).float().mean() > 0.995
        assert ((a[1] - b[1]).abs() < 1e-3).float().mean() > 0.995


def test_the_same_depth_comes_out_of_both(monkeypatch: pytest.MonkeyPatch) -> None:
    shots = shoot(3, width=96, height=72, span_deg=20, wavelength=0.5)
    none = np.zeros(0, np.int64)
    views = []
    for shot in shots:
        prior = wrong_prior(shot)
        views.append(StereoView(shot.pixels, shot.intrinsics, shot.cam_to_world, prior,
                                np.zeros((0, 3)), none))  # fmt: skip
    compiled_depths = list(refine_depths(views))
    monkeypatch.setattr(plane_sweep, "_sweep_on", lambda where: torch_sweep)
    for a, b in zip(compiled_depths, refine_depths(views), strict=True):
        assert (np.abs(a.depth / b.depth - 1) < 1e-3).mean() > 0.97
        assert np.abs(np.log(a.depth / b.depth)).mean() < 1e-3
        assert (np.abs(a.confidence - b.confidence) < 0.01).mean() > 0.97


def wrong_prior(shot: Shot) -> DepthMap:
    return DepthMap((1.04 * shot.depth).astype(np.float32), np.full(shot.depth.shape, 0.5, "f4"))


def lowest(sweep: ModuleType, cost: torch.Tensor, grey: torch.Tensor) -> torch.Tensor:
    """The labels (h, w) of least energy of costs (h, w, D), penalties 0.05 and 0.4."""
    if sweep is torch_sweep:
        return torch_sweep.lowest_label(torch_sweep.aggregate(cost, grey, 0.05, 0.4))
    rows = cost.permute(0, 2, 1).contiguous().numpy()
    return torch.from_numpy(least_energy(rows, grey.numpy(), np.float32(0.05), np.float32(0.4))[0])


@BOTH
def test_paths_overrule_a_lone_outlier_but_keep_steps(sweep: ModuleType) -> None:
    labels = torch.full((20, 24), 2)
    labels[:, 12:] = 7
    noisy = (torch.arange(10) - labels[..., None]).abs().clamp_max(3).float() / 3
    noisy[10, 5] = 0.3
    noisy[10, 5, 9] = 0.0
    assert (lowest(sweep, noisy, torch.full((20, 24), 0.5)).round() == labels).all()


@BOTH
def test_lowest_label_is_exact_on_a_parabola(sweep: ModuleType) -> None:
    truth = torch.full((12, 16), 5.75)
    # So shallow that no penalty cuts it off.
    volume = 1e-4 * (torch.arange(10.0) - truth[..., None]) ** 2
    found = lowest(sweep, volume, torch.zeros(12, 16))
    torch.testing.assert_close(found, truth, rtol=0, atol=1e-3)


@pytest.mark.parametrize("count", [1, 2, 9, 33])
def test_energies_of_noise_are_the_same(count: int) -> None:
    rng = np.random.default_rng(count)
    cost = torch.from_numpy(rng.random((13, 17, count), dtype=np.float32))
    grey = torch.from_numpy(rng.random((13, 17), dtype=np.float32))
    energy = torch_sweep.aggregate(cost, grey, 0.05, 0.4)
    rows = cost.permute(0, 2, 1).contiguous().numpy()
    label, least = least_energy(rows, grey.numpy(), np.float32(0.05), np.float32(0.4))
    np.testing.assert_allclose(least, energy.amin(-1), atol=1e-5)
    assert (np.abs(label - energy.argmin(-1).numpy()) <= 0.5).mean() > 0.99


@BOTH
def test_plane_fit_bridges_a_hole_and_reports_a_step(sweep: ModuleType) -> None:
    y, x = torch.meshgrid(torch.arange(30.0), torch.arange(40.0), indexing="ij")
    plane = 0.3 + 0.002 * x - 0.004 * y
    weight = torch.ones_like(plane)
    weight[12:16, 15:21] = 0
    spoiled = torch.where(weight > 0, plane, 9.0)
    fitted, residual, share = sweep.plane_fit(spoiled, weight, 5)
    torch.testing.assert_close(fitted[8:22, 8:32], plane[8:22, 8:32], rtol=0, atol=1e-4)
    assert residual[8:22, 8:32].max() < 2e-4
    assert share[14, 18] == pytest.approx(1 - 24 / 121, abs=1e-6)
    stepped = plane + 0.2 * (x > 20)
    assert sweep.plane_fit(stepped, torch.ones_like(plane), 3)[1][15, 20] > 0.02


@pytest.mark.parametrize("radius", [1, 2, 6])
def test_planes_and_medians_of_noise_are_the_same(radius: int) -> None:
    rng = np.random.default_rng(radius)
    inverse, weight = (torch.from_numpy(rng.random((19, 31), dtype=np.float32)) for _ in range(2))
    weight[weight < 0.3] = 0
    fits = (sweep.plane_fit(inverse, weight, radius) for sweep in (compiled_sweep, torch_sweep))
    for a, b in zip(*fits, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    a, b = (sweep.median_filter(inverse) for sweep in (compiled_sweep, torch_sweep))
    assert torch.equal(a, b)


def test_what_is_no_number_harms_its_surroundings_alone(shots: list[Shot]) -> None:
    true = torch.from_numpy(1 / shots[0].depth)
    spoiled = true.clone()
    spoiled[40, 50], spoiled[60, 20], spoiled[20, 90] = torch.nan, torch.inf, -torch.inf
    near = torch.zeros_like(true, dtype=torch.bool)
    for row, column in ((40, 50), (60, 20), (20, 90)):
        near[row - 2 : row + 3, column - 2 : column + 3] = True
    scorer = scorers(shots, compiled_sweep)
    before, after = scorer(true[None])[0], scorer(spoiled[None])[0]
    assert torch.equal(before[~near], after[~near])
    label, energy = scorer.lowest(0.9 * spoiled, 0.02 * true, 11, (0.1, 0.8))
    assert label.isfinite().all()
    assert energy.isfinite().all()


def test_compiled_loops_need_no_folder_to_be_kept_in(monkeypatch: pytest.MonkeyPatch) -> None:
    from numba.core.caching import IndexDataCacheFile

    found: dict[str, object] = {}
    # Of no file, so that numba finds no folder beside it.
    exec("def twice(x):\n    return 2 * x", found)
    assert compiled("f8(f8)")(found["twice"])(4.0) == 8.0

    def full(*given: object) -> None:
        raise OSError(28, "No space left on device")

    def thrice(x):
        return 3 * x

    monkeypatch.setattr(IndexDataCacheFile, "save", full)
    assert compiled("f8(f8)")(thrice)(4.0) == 12.0


def test_numba_is_imported_where_it_is_used() -> None:
    code = "import sys, recon.cli, recon.stereo.refine; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
