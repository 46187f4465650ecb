"""The two-view evaluation on predictions whose errors are known, and its sets of pairs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from synthetic import Shot, shoot
from tiny_network import tiny_config
from truth_files import write_posed_photos
from two_views import predict

from pointmap.errors import InputError
from pointmap.images import Photo, ResizedPhoto
from pointmap.inference import PairPrediction
from pointmap.network import DUSt3R
from recon.evaluation.command import main
from recon.evaluation.two_view import (
    evaluate_pairs,
    score_pairs,
    summarise,
    summarise_by_overlap,
)
from recon.evaluation.two_view_data import (
    PosedPhotos,
    TwoViewPair,
    held_out_scenes,
    read_posed_photos,
)
from recon.scene import Camera

CONFIG = tiny_config(64)  # fmt: skip


def posed(shots: list[Shot], *pairs: TwoViewPair) -> PosedPhotos:
    height, width = shots[0].depth.shape
    return PosedPhotos(
        "room",
        tuple(
            ResizedPhoto(Photo(Path("x"), "x", width, height, None, ""), shot.pixels)
            for shot in shots
        ),
        tuple(Camera(shot.intrinsics, width, height, shot.cam_to_world) for shot in shots),
        tuple(shot.depth.astype(np.float64) for shot in shots),
        pairs,
    )


def both_ways(shots: list[Shot], i: int, j: int, scale: float) -> list[PairPrediction]:
    return [predict(shots, i, j, scale=scale), predict(shots, j, i, scale=2 * scale)]


def test_exact_predictions_score_fully() -> None:
    shots = shoot(3, span_deg=40)
    scene = posed(shots, TwoViewPair(0, 1, 0.5), TwoViewPair(1, 2, 0.2))
    outcomes = score_pairs(scene, both_ways(shots, 0, 1, 3.0) + both_ways(shots, 1, 2, 0.2))
    for outcome in outcomes:
        assert max(outcome.procrustes_deg) < 0.01 and max(outcome.pnp_deg) < 0.1
        assert max(outcome.focal_percent) < 0.1
        assert len(outcome.points) == len(outcome.depth) == 2
        assert max(error.relative for error in outcome.points) < 1e-5
        assert [delta for _, delta in outcome.depth] == [1, 1]
    total = summarise(outcomes)
    assert total.procrustes is not None and total.procrustes.auc[5] > 99.5
    assert (total.procrustes.rra15, total.procrustes.rta15, total.procrustes.maa30) == (100,) * 3
    bins = summarise_by_overlap(outcomes)
    assert [s.pairs for s in bins.values()] == [1, 1, 0, 1]
    assert bins["overlap 60-100 %"].procrustes is None


def test_a_wrong_pose_is_seen_for_what_it_is() -> None:
    shots = shoot(2, span_deg=30)
    # The network believes that camera 2 stands where a third one does.
    moved = shoot(3, span_deg=60)
    claimed = [shots[0], replace(shots[1], cam_to_world=moved[2].cam_to_world)]
    outcome = score_pairs(posed(shots, TwoViewPair(0, 1)), both_ways(claimed, 0, 1, 1.0))[0]
    assert 10 < outcome.procrustes_deg[0] < 25
    assert outcome.pnp_deg[0] == pytest.approx(outcome.procrustes_deg[0], abs=1)
    assert 0.02 < outcome.points[0].relative < 0.2
    assert outcome.depth[0][0] < 1e-5  # each photo's own depth is right all the same


def test_predictions_of_nothing_cost_everything() -> None:
    shots = shoot(2)
    blank = [
        replace(p, points_i=0 * p.points_i, points_j=0 * p.points_j)
        for p in both_ways(shots, 0, 1, 1.0)
    ]
    outcome = score_pairs(posed(shots, TwoViewPair(0, 1)), blank)[0]
    assert outcome.procrustes_deg == outcome.pnp_deg == (180, 180)
    assert outcome.points == outcome.depth == ()
    summary = summarise([outcome])
    assert summary.depth_abs_rel is None and summary.procrustes is not None
    assert summary.procrustes.rra15 == 0


def test_real_pairs_are_those_turned_less_than_the_limit(tmp_path: Path) -> None:
    shots = shoot(3, span_deg=60, width=128, height=96)
    write_posed_photos(tmp_path, shots)
    scene = read_posed_photos(tmp_path, CONFIG, max_angle_deg=35)
    assert [(pair.i, pair.j) for pair in scene.pairs] == [(0, 1), (1, 2)]
    assert scene.photos[0].pixels.shape == (48, 64, 3)
    assert scene.depths[0] is not None
    assert scene.depths[0] == pytest.approx(shots[0].depth, abs=6e-4)
    (tmp_path / "images/1.png").unlink()
    with pytest.raises(InputError, match="no such file"):
        read_posed_photos(tmp_path, CONFIG, max_angle_deg=35)


def test_the_held_out_set_is_rendered_and_scored() -> None:
    first = list(held_out_scenes(CONFIG, scenes=1))
    assert first[0].pairs and first[0].photos[0].pixels.shape == (48, 64, 3)
    assert all(0.1 <= (pair.overlap or 0) <= 1 for pair in first[0].pairs)
    torch.manual_seed(0)
    network = DUSt3R(CONFIG).eval()
    outcomes = evaluate_pairs(network, first[0], device=torch.device("cpu"))
    assert [outcome.pair for outcome in outcomes] == list(first[0].pairs)
    assert all(0 <= e <= 180 for outcome in outcomes for e in outcome.procrustes_deg)


def test_the_command_prints_a_table_and_writes_every_pair(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_posed_photos(tmp_path / "room", shoot(2, span_deg=20, width=64, height=48))
    figures = tmp_path / "out/figures.json"
    command = ["two-view", str(tmp_path / "room"), "--held-out", "0", "--json", str(figures)]
    assert main(command) == 0
    assert "| room | 1 |" in capsys.readouterr().out
    data = json.loads(figures.read_text())
    assert len(data["pairs"]) == 1 and data["summary"]["room"]["depth_abs_rel"] > 0
    assert main(["two-view", str(tmp_path / "nowhere")]) == 2
    assert "cameras.json is missing" in capsys.readouterr().err
