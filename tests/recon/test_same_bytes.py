"""A scene is the same bytes whatever threads, hashes, locale, zone or order it is made with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from synthetic import save_photos, shoot
from tiny_network import tiny_config, tiny_matched_config, write_tiny_network

from benchmarks.same_bytes import ELSEWHERE, differing, environment, make_scene
from pointmap.images import open_photos
from pointmap.inference import EncodedOnDemand, PairPrediction, predict_pairs
from pointmap.network import build_network
from pointmap.network.config import NetworkConfig

ROOT = Path(__file__).resolve().parents[2]


def test_another_environment_and_order_give_the_same_files(tmp_path: Path) -> None:
    photos = save_photos(shoot(2, width=256, height=192, span_deg=8), tmp_path)
    options = ["--weights", str(write_tiny_network(tmp_path)), "--depth-size", "64"]
    options += ["--stereo.max-planes", "24", "--matcher", "sift"]
    first = make_scene(photos, tmp_path / "first", options, environment(1))
    other = make_scene(photos[::-1], tmp_path / "other", options, environment(2, **ELSEWHERE))
    assert differing(first, other, in_order=False) == []
    (other / "points.ply").write_bytes((other / "points.ply").read_bytes()[:-1])
    assert differing(first, other, in_order=False) == ["points.ply"]


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


# Maps as large as the bundled network's, of which torch shares other parts out than of small ones.
@pytest.mark.parametrize(
    "config",
    [tiny_matched_config(384), replace(tiny_config(128), head_type="dpt")],
    ids=["matched", "dpt"],
)
@pytest.mark.usefixtures("threads")
def test_pointmaps_do_not_depend_on_the_number_of_threads(config: NetworkConfig) -> None:
    torch.manual_seed(0)
    network = build_network(config).eval()
    names = [ROOT / f"examples/courtyard/images/courtyard_0{k}.jpg" for k in range(3)]
    photos, _ = open_photos(names)
    pairs = [(0, 1), (0, 2)]

    def predicted(threads: int) -> list[PairPrediction]:
        torch.set_num_threads(threads)
        cpu = torch.device("cpu")
        encoded = EncodedOnDemand(network, photos, device=cpu)
        return list(predict_pairs(network, encoded, pairs, device=cpu))

    first = predicted(1)
    for threads in (2, 4):
        for one, other in zip(first, predicted(threads), strict=True):
            assert (one.i, one.j) == (other.i, other.j)
            for name in ("points_i", "points_j", "confidence_i", "confidence_j"):
                np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
