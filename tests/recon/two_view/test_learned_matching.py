"""Where a learned matcher's matches count, and how its key points join into tracks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from synthetic import Shot, save_photos, shoot, visible
from tiny_network import tiny_config

from pointmap.camera import pixel_rays, transform_points
from pointmap.images import open_photos
from pointmap.network import DUSt3R
from recon.inputs import Inputs
from recon.inputs.read_cameras import load_known_cameras
from recon.matchers import FoundMatches
from recon.stage_results import PairMatches, PhotoFeatures
from recon.two_view.learned_matching import match_by_model
from recon.work.folder import Work

WIDTH, HEIGHT = 320, 256


@dataclass
class Oracle:
    """Finds the same surface points in all photos; knows photos by their pixels."""

    shots: list[Shot]
    name: str = "oracle"
    licence: str = "MIT"
    content_key: str = "oracle"
    long_side: int = WIDTH
    sigma_px: float | None = 0.25
    off_px: float = 0.0
    asked: list[tuple[int, int]] = field(default_factory=list)
    blind: bool = False

    def match(self, pixels_i: NDArray[np.uint8], pixels_j: NDArray[np.uint8]) -> FoundMatches:
        i, j = (
            next(k for k, shot in enumerate(self.shots) if np.array_equal(shot.pixels, pixels))
            for pixels in (pixels_i, pixels_j)
        )
        self.asked.append((i, j))
        rng = np.random.default_rng(0)
        column, row = rng.integers(0, WIDTH, 300), rng.integers(0, HEIGHT, 300)
        xy = np.stack([column, row], 1) + 0.5
        rays = pixel_rays(xy, self.shots[0].intrinsics) * self.shots[0].depth[row, column, None]
        world = transform_points(self.shots[0].cam_to_world, rays)
        (xy_i, seen_i), (xy_j, seen_j) = (visible(self.shots[k], world, 0.01) for k in (i, j))
        both = np.flatnonzero(seen_i & seen_j & (not self.blind))
        noise = np.random.default_rng((1, i, j)).normal(0, self.off_px, (2, len(both), 2))
        return FoundMatches(xy_i[both] + noise[0], xy_j[both] + noise[1], both, both)


@pytest.fixture(scope="module")
def shots() -> list[Shot]:
    return shoot(3, width=WIDTH, height=HEIGHT, span_deg=30)


@pytest.fixture
def inputs(shots: list[Shot], tmp_path: Path) -> Inputs:
    photos, _ = open_photos(save_photos(shots, tmp_path))
    known = load_known_cameras(None, photos)
    network = DUSt3R(tiny_config(64))
    work = Work(tmp_path / "work")
    return Inputs(
        tuple(photos), known, None, network, torch.device("cpu"), work, matcher=Oracle(shots)
    )


def sift(sure: Sequence[tuple[int, int]]) -> tuple[list[PhotoFeatures], list[PairMatches]]:
    """Features, and matches that agree on a motion (pairs that are ``sure``) or on nothing."""
    rng = np.random.default_rng(1)
    xy = rng.uniform(10, 250, (100, 2))
    colours = np.zeros((100, 3), np.uint8)
    features = [PhotoFeatures(xy, np.eye(100, 128, dtype=np.float32), colours)] * 3
    number = np.arange(100)
    matches = []
    for i, j in ((0, 1), (0, 2), (1, 2)):
        other = xy + np.array([8, 3]) if (i, j) in sure else rng.uniform(10, 250, (100, 2))
        matches.append(PairMatches(i, j, xy, other, number, number, 0.5))
    return features, matches


def test_pairs_that_sift_leaves_open_get_matches_that_join_into_tracks(
    inputs: Inputs, shots: list[Shot]
) -> None:
    features, before = sift([(0, 1)])
    matches, extended = match_by_model(inputs, features, before, always=False)
    assert isinstance(inputs.matcher, Oracle) and inputs.matcher.asked == [(0, 2), (1, 2)]
    assert matches[0] is before[0]
    first, second = matches[1:]
    # The accuracy is the matcher's own, here in a picture of the photo's size.
    assert first.sigma_px == pytest.approx(0.25) and (first.i, first.j) == (0, 2)
    for m in (first, second):
        for k, index, xy in ((m.i, m.index_i, m.xy_i), (m.j, m.index_j, m.xy_j)):
            # After SIFT's own, and each where its photo's features have it.
            assert index.min() >= 100
            np.testing.assert_array_equal(extended[k].xy[index], xy)
            column, row = xy.astype(int).T
            shown = shots[k].pixels[row, column].astype(int)
            assert np.abs(extended[k].colours[index] - shown).max() <= 1
            assert len(extended[k].descriptors) == len(extended[k].xy)
    # One number of photo 2 in both pairs is one place: a track of three photos.
    shared = np.intersect1d(first.index_j, second.index_j)
    assert len(shared) > 30
    # What was found is kept.
    again, _ = match_by_model(inputs, features, before, always=False)
    assert inputs.matcher.asked == [(0, 2), (1, 2)]
    np.testing.assert_array_equal(again[1].xy_i, first.xy_i)


def test_when_told_so_all_pairs_are_its_own(inputs: Inputs) -> None:
    features, before = sift([(0, 1)])
    matches, _ = match_by_model(inputs, features, before, always=True)
    assert all(m.sigma_px == pytest.approx(0.25) for m in matches)


@pytest.mark.parametrize("off_px", [0.3, 0.6, 1.2])
def test_the_accuracy_that_a_matcher_does_not_know_is_that_of_its_matches(
    inputs: Inputs, off_px: float
) -> None:
    assert isinstance(inputs.matcher, Oracle)
    inputs.matcher.sigma_px, inputs.matcher.off_px = None, off_px
    features, before = sift([])
    matches, _ = match_by_model(inputs, features, before, always=True)
    assert len({m.sigma_px for m in matches}) == 1
    assert matches[0].sigma_px == pytest.approx(off_px, rel=0.3)
    # Too few to tell.
    inputs.matcher.blind, inputs.matcher.content_key = True, "blind"
    matches, _ = match_by_model(inputs, features, before, always=True)
    assert matches[0].sigma_px == pytest.approx(1)


def test_a_matcher_that_finds_nothing_changes_nothing(inputs: Inputs) -> None:
    assert isinstance(inputs.matcher, Oracle)
    inputs.matcher.blind = True
    features, before = sift([])
    matches, extended = match_by_model(inputs, features, before, always=False)
    for new, old in zip(matches, before, strict=True):
        np.testing.assert_array_equal(new.xy_j, old.xy_j)
    assert [len(f.xy) for f in extended] == [100] * 3
