"""The inference benchmark on a tiny checkpoint: it counts right and says what it measured."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import inference
from pointmap.checkpoint import save_checkpoint
from pointmap.network import DUSt3R, DUSt3RConfig


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    config = DUSt3RConfig(
        enc_embed_dim=16,
        enc_depth=1,
        enc_num_heads=2,
        dec_embed_dim=16,
        dec_depth=4,
        dec_num_heads=2,
        head_type="dpt",
        feature_dim=8,
        layer_dims=(4, 4, 4, 4),
        img_size=(64, 64),
    )
    path = tmp_path / "tiny.safetensors"
    save_checkpoint(DUSt3R(config), path, card={})
    return path


def test_both_ways_are_measured_on_the_complete_graph(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "photo.png")
    arguments = ["--network", str(weights), "--photos", "2", "4", "--device", "cpu"]
    out = tmp_path / "out.json"
    given = ["--images", str(tmp_path / "photo.png"), "--reference-pairs", "5", "--json", str(out)]
    assert inference.main([*arguments, *given]) == 0
    data = json.loads(out.read_text())
    measured = [(row["photos"], row["way"], row["pairs"]) for row in data["rows"]]
    assert measured == [(2, "reference", 2), (2, "ours", 2), (4, "reference", 5), (4, "ours", 12)]
    assert all(row["pairs_per_second"] > 0 and row["peak_gb"] > 0 for row in data["rows"])
    assert 0 <= data["gaps"][0]["largest_point"] < 0.1
    table = capsys.readouterr().out
    assert table.count("| reference | float32 |") == 2 and table.count("(CPU time: ") == 2


def test_both_ways_predict_the_same(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network, size = inference.benchmark_network(str(weights))
    network.requires_grad_(False)
    photos = inference.benchmark_photos([], 2, size)
    cpu = torch.device("cpu")
    seen = []
    monkeypatch.setattr(
        network,
        "forward",
        lambda *images: seen.append(DUSt3R.forward(network, *images)) or seen[-1],
    )
    inference.reference_way(network, photos, [(0, 1)], cpu)
    ours = inference.our_way(network, photos, [(0, 1)], cpu, torch.float32)[0]
    assert np.allclose(ours.points_j, seen[0][1].pts3d[0], atol=1e-5)
    assert np.allclose(ours.confidence_i, seen[0][0].conf[0], rtol=1e-5)
