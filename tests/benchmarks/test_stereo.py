from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from synthetic import shoot

from benchmarks import stereo


def few_views() -> list[stereo.TrueView]:
    shots = shoot(3, width=112, height=84, span_deg=20, wavelength=0.5)
    return [stereo.TrueView(s.pixels, s.depth, s.intrinsics, s.cam_to_world) for s in shots]


def test_the_prior_is_as_wrong_as_it_says() -> None:
    depth = np.full((60, 80), 2.0, np.float32)
    prior = stereo.wrong_prior(depth, seed=0)
    assert np.std(np.log(prior.depth / depth)) == pytest.approx(stereo.PRIOR_ERROR, rel=0.01)
    assert not np.array_equal(prior.depth, stereo.wrong_prior(depth, seed=1).depth)


def test_hidden_surfaces_do_not_count() -> None:
    views = few_views()
    seen = stereo.seen_by_another(views, 0)
    assert 0.5 < seen.mean() < 0.98
    assert not stereo.seen_by_another(views[:1], 0).any()


def test_scores_are_printed_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scenes = [("first", few_views(), 0.1), ("second", few_views(), 0.1)]
    monkeypatch.setattr(stereo, "rendered_scenes", lambda: iter(scenes))
    missing = tmp_path / "no scene"
    arguments = [str(missing), "--out", str(tmp_path), "--json", str(tmp_path / "stereo.json")]
    assert stereo.main(arguments) == 1
    rows = capsys.readouterr().out.splitlines()
    assert len({row.count("|") for row in rows}) == 1 and "FAILED" in rows[-1]
    first, second, real = json.loads((tmp_path / "stereo.json").read_text())["results"]
    assert first["after"] < 0.5 * first["before"] and first["within"] > 50
    assert {**first, "scene": 0, "cpu_seconds": 0} == {**second, "scene": 0, "cpu_seconds": 0}
    assert real["failure"]


def test_seeds_that_are_asked_for_are_scored_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(stereo, "generated", lambda seed: few_views())
    assert stereo.main(["--seeds", "33"]) == 0
    assert "seed +33" in capsys.readouterr().out.splitlines()[-1]


def test_scenes_are_chosen_by_their_texture(monkeypatch: pytest.MonkeyPatch) -> None:
    """One plain scene, with two priors, and textured ones until there are enough."""
    textured = few_views()
    grey = [replace(view, pixels=np.full_like(view.pixels, 99)) for view in textured]
    assert stereo.textured_share(textured) > 0.8
    assert stereo.textured_share(grey) == 0
    seeds: list[int] = []

    def generated(seed: int) -> list[stereo.TrueView]:
        seeds.append(seed)
        return grey if len(seeds) in (1, 3) else textured

    monkeypatch.setattr(stereo, "generated", generated)
    monkeypatch.setattr(stereo, "courtyard", lambda seed: textured)
    scenes = list(stereo.rendered_scenes())
    assert [error for *_, error in scenes] == [0.1, 0.1, 0.01, 0.1, 0.1, 0.1]
    assert [views is grey for _, views, _ in scenes] == [False, True, True, False, False, False]
    assert len(seeds) == 5
