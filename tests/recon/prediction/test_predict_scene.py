"""Which pairs the network is asked about, and what is kept of its answers."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_network import tiny_config

from pointmap.images import open_photos
from pointmap.network import DUSt3R, PhotoTokens
from recon.inputs import Inputs
from recon.inputs.known_cameras import KnownCameras
from recon.prediction.network_pairs import SURE_MATCHES, network_pairs
from recon.prediction.photo_graph import connected_groups
from recon.prediction.predict_scene import predict_photos, predict_scene
from recon.prediction.view_graph import Pair
from recon.stage_results import PairMatches

PAIRS = ((0, 1), (0, 2), (1, 2), (2, 3), (3, 4), (4, 5), (5, 5))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    folder: Path = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for k in range(6):
        size = (48, 64, 3) if k != 4 else (64, 48, 3)
        Image.fromarray(rng.integers(0, 256, size, np.uint8)).save(folder / f"{k}.png")
    photos, _ = open_photos(sorted(folder.iterdir()))
    torch.manual_seed(0)
    network = DUSt3R(tiny_config(64)).eval()
    nothing = (None,) * len(photos)
    known = KnownCameras(nothing, nothing)
    return Inputs(tuple(photos), known, None, network, torch.device("cpu"))


def test_every_photo_has_a_prior_and_every_pair_two_sketches(inputs: Inputs) -> None:
    heard: list[tuple[int, int]] = []
    seen = predict_scene(inputs, PAIRS, advance=lambda *done: heard.append(done))
    assert seen.pairs == PAIRS and len(seen.priors) == 6 and not seen.local
    shapes = [prior.confidence.shape for prior in seen.priors]
    assert shapes == [(48, 64)] * 4 + [(64, 48), (48, 64)]
    directed = {(i, j) for pair in PAIRS for i, j in (pair, pair[::-1]) if i != j}
    assert [(s.i, s.j) for s in seen.sketches] == sorted(directed)
    assert heard[-1] == (len(PAIRS), len(PAIRS))


@pytest.mark.parametrize("known", [{0}, {0, 1, 2}, {3}, {0, 1, 2, 3, 4}])
def test_what_is_left_to_do_comes_out_bit_for_bit_the_same(inputs: Inputs, known: set[int]) -> None:
    whole = dict(predict_photos(inputs, PAIRS))
    rest = dict(predict_photos(inputs, PAIRS, known=known))
    assert set(rest) == set(range(6)) - known
    for k, photo in rest.items():
        np.testing.assert_array_equal(photo.prior.points, whole[k].prior.points)
        np.testing.assert_array_equal(photo.prior.confidence, whole[k].prior.confidence)
        assert photo.prior.focal_px == whole[k].prior.focal_px
        for one, other in zip(photo.sketches, whole[k].sketches, strict=True):
            assert (one.i, one.j) == (other.i, other.j)
            np.testing.assert_array_equal(one.points_j, other.points_j)


def test_few_photos_are_in_work_at_once(inputs: Inputs, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[int] = []
    encode = inputs.network.encode

    def counted(images: torch.Tensor) -> PhotoTokens:
        encoded.append(len(images))
        return encode(images)

    monkeypatch.setattr(inputs.network, "encode", counted)
    monkeypatch.setattr("pointmap.encoding._KEPT", 17)
    # A long chain in shuffled order: each photo is done with soon after it was begun.
    order = np.random.default_rng(0).permutation(60).tolist()
    chain = [cast(Pair, tuple(sorted(order[k : k + 2]))) for k in range(59)]
    many = replace(inputs, photos=tuple(inputs.photos[0] for _ in range(60)))
    finished = [k for k, _ in predict_photos(many, chain)]
    assert sorted(finished) == list(range(60))
    assert len(encoded) <= 66
    place = {k: n for n, k in enumerate(finished)}
    assert max(abs(place[i] - place[j]) for i, j in chain) <= 16


def _matches(i: int, j: int, count: int, shift: float = 50.0) -> PairMatches:
    xy = np.random.default_rng(i + 100 * j).uniform(0, 500, (count, 2))
    index = np.arange(count)
    return PairMatches(i, j, xy, xy + np.array([shift, 0]), index, index, 0.5)


def _asked(count: int, matches: list[PairMatches], dim: int = 0) -> Inputs:
    photos = (SimpleNamespace(width=640, height=480),) * count
    network = SimpleNamespace(config=SimpleNamespace(descriptor_dim=dim))
    return cast(Inputs, SimpleNamespace(photos=photos, network=network))


def test_each_photo_has_a_few_good_partners() -> None:
    rng = np.random.default_rng(0)
    for count, partners, asked in ((10, 3, None), (60, 1, None), (10, 1, 1), (60, 3, 3)):
        matches = [
            _matches(i, j, 20 * int(rng.integers(4, 30))) for i, j in combinations(range(count), 2)
        ]
        pairs = network_pairs(_asked(count, matches), matches, partners=asked)
        met = np.bincount(np.ravel(pairs), minlength=count)
        assert met.min() >= partners and met.mean() < 1.3 * partners
        assert pairs == tuple(sorted(set(pairs)))
        number = {(m.i, m.j): len(m) for m in matches}
        assert np.mean([number[pair] for pair in pairs]) > 1.2 * np.mean(list(number.values()))


def test_partners_are_some_way_apart() -> None:
    matches = [
        _matches(i, j, 400 if j - i == 1 else 300, shift=8.0 * (j - i))
        for i, j in combinations(range(30), 2)
        if j - i <= 8
    ]
    pairs = network_pairs(_asked(30, matches), matches)
    assert np.median([j - i for i, j in pairs]) >= 4


def test_the_network_is_asked_where_features_leave_questions() -> None:
    # Two groups of sure pairs, a photo with unsure matches alone, one with none at all.
    sure = [_matches(i, j, 200) for g in (0, 5) for i, j in combinations(range(g, g + 5), 2)]
    across = [_matches(i, j, 10 + i) for i in range(5) for j in range(5, 10)]
    loose = [_matches(k, 10, SURE_MATCHES - 1) for k in range(10)]
    pairs = set(network_pairs(_asked(12, []), [*sure, *across, *loose]))
    assert {(m.i, m.j) for m in [*across, *loose]} <= pairs
    assert (11, 11) in pairs
    assert len(connected_groups(12, pairs)) == 2


def test_all_pairs_are_predicted_where_each_counts() -> None:
    matches = [_matches(i, j, 200) for i, j in combinations(range(8), 2)]
    every = tuple((m.i, m.j) for m in matches)
    assert set(network_pairs(_asked(8, matches), matches)) < set(every)
    assert network_pairs(_asked(8, matches, dim=24), matches) == tuple(sorted(every))
    for way in ("procrustes", "pnp"):
        assert network_pairs(_asked(8, matches), matches, way) == tuple(sorted(every))  # type: ignore[arg-type]


def _of_one_geometry(i: int, j: int, right: int, wrong: int) -> PairMatches:
    """Matches of two photos that move sideways, ``wrong`` of them anywhere."""
    rng = np.random.default_rng(i + 100 * j)
    found = _matches(i, j, right + wrong, shift=0.0)
    xy_j = found.xy_i + np.stack([rng.uniform(5, 60, right + wrong), np.zeros(right + wrong)], 1)
    xy_j[right:] = rng.uniform(0, 500, (wrong, 2))
    return replace(found, xy_j=xy_j)


def test_of_many_photos_the_network_is_not_asked_what_few_matches_settle() -> None:
    groups = range(0, 15), range(15, 30)
    sure = [_matches(i, j, 200) for group in groups for i, j in combinations(group, 2)]
    partners = network_pairs(_asked(30, []), sure)
    open_ = [_of_one_geometry(i, i + 15, 8, 42) for i in range(15)]
    asked = set(network_pairs(_asked(30, []), [*sure, *open_])) - set(partners)
    assert asked <= {(m.i, m.j) for m in open_} and len(asked) >= 10
    settled = [_of_one_geometry(i, i + 15, 32, 18) for i in range(15)]
    assert network_pairs(_asked(30, []), [*sure, *settled]) == partners
