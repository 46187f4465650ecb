"""Guided matching, and again at twice the size: more correct matches, none for a wrong pose."""

from __future__ import annotations

import functools
from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch
from PIL import Image
from synthetic import Shot, save_photo, save_photos, shoot
from tiny_network import tiny_config
from two_views import photo, predict, rotation

from pointmap.camera import (
    Array,
    invert_rigid,
    project,
    rigid,
    rotation_angle_deg,
    transform_points,
)
from pointmap.images import Photo, ResizedPhoto, load_photo, open_photos
from pointmap.network import DUSt3R
from recon.inputs import Inputs
from recon.inputs.known_cameras import KnownCameras
from recon.prediction.pair_sketch import sketch_pair
from recon.prediction.photo_prior import PriorAccumulator
from recon.stage_results import (
    Alignment,
    NetworkResult,
    PairEdge,
    PairMatches,
    PhotoFeatures,
)
from recon.two_view.features import extract_features, match_features
from recon.two_view.focal_lengths import FocalOptions
from recon.two_view.gather_evidence import Matched, gather_evidence
from recon.two_view.guided_matching import Region, guided_matches, joined_matches
from recon.two_view.magnified_matching import (
    firm_pairs,
    magnified_features,
    match_again,
    pairs_to_match_again,
)


@pytest.fixture(scope="module")
def shots() -> list[Shot]:
    return shoot(2, width=320, height=240, span_deg=36)


@pytest.fixture(scope="module")
def features(shots: list[Shot]) -> list[PhotoFeatures]:
    return [extract_features(ResizedPhoto(photo(320, 240), shot.pixels)) for shot in shots]


def _relative(shots: list[Shot]) -> Array:
    return invert_rigid(shots[0].cam_to_world) @ shots[1].cam_to_world


def _region(shots: list[Shot], pose: Array, **depths: Array | float) -> Region:
    return Region(pose, shots[0].intrinsics, shots[1].intrinsics, 1.0, **depths)


def _depth_at(shot: Shot, xy: Array) -> Array:
    column, row = xy.astype(int).T
    return shot.depth[row, column].astype(np.float64)


def _error_px(matches: PairMatches, shots: list[Shot]) -> Array:
    """Return how far each match is from where the second photo shows the first one's point."""
    K = shots[0].intrinsics
    flat = (matches.xy_i - K[:2, 2]) / K[[0, 1], [0, 1]]
    z = _depth_at(shots[0], matches.xy_i)[:, None]
    points = np.concatenate([flat * z, z], axis=1)
    expected = project(transform_points(invert_rigid(_relative(shots)), points), K)
    return np.linalg.norm(matches.xy_j - expected, axis=1)


def _repeating(shots: list[Shot], features: list[PhotoFeatures]) -> list[PhotoFeatures]:
    """Return key points of the same scene points whose descriptors are those of only 60 things."""
    rng = np.random.default_rng(0)
    kinds = rng.uniform(0, 1, (60, 128))
    matches = match_features(*features, 0, 1)
    matches = matches.select(_error_px(matches, shots) < 1)
    kind = rng.integers(0, 60, len(matches))
    found = []
    for xy in (matches.xy_i, matches.xy_j):
        descriptors = kinds[kind] + 0.05 * rng.normal(size=(len(xy), 128))
        descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
        colours = np.zeros((len(xy), 3), np.uint8)
        found.append(PhotoFeatures(xy, descriptors.astype(np.float32), colours))
    return found


def test_of_repeating_things_the_true_pose_finds_what_plain_matching_cannot(shots, features):
    repeating = _repeating(shots, features)
    plain = match_features(*repeating, 0, 1)
    depth = 0.9 * _depth_at(shots[0], repeating[0].xy), 1.1 * _depth_at(shots[0], repeating[0].xy)
    region = _region(shots, _relative(shots), nearest=depth[0], farthest=depth[1])
    found = guided_matches(*repeating, 0, 1, region)
    guided = _error_px(found.matches, shots)
    assert len(plain) < 0.05 * len(repeating[0].xy)
    assert len(guided) > 0.9 * len(repeating[0].xy) and found.convincing
    assert (guided < 2).mean() > 0.99


def test_the_true_pose_finds_no_less_and_nothing_wrong(shots, features):
    plain = _error_px(match_features(*features, 0, 1), shots)
    found = guided_matches(*features, 0, 1, _region(shots, _relative(shots)))
    guided = _error_px(found.matches, shots)
    assert found.convincing
    assert (guided < 2).sum() >= (plain < 2).sum()
    assert (guided < 2).mean() > (plain < 2).mean()
    assert (guided < 2).mean() > 0.99


def test_predicted_depth_leaves_next_to_no_wrong_match(shots, features):
    depth = _depth_at(shots[0], features[0].xy)
    region = _region(shots, _relative(shots), nearest=0.95 * depth, farthest=1.05 * depth)
    along_line = guided_matches(*features, 0, 1, _region(shots, _relative(shots)))
    near_place = guided_matches(*features, 0, 1, region)
    errors = [_error_px(found.matches, shots) for found in (along_line, near_place)]
    assert (errors[1] < 2).sum() >= (errors[0] < 2).sum()
    assert (errors[1] < 2).mean() > 0.97


@pytest.mark.parametrize("turn_deg", [(0, 30, 0), (15, 0, 20)])
def test_a_wrong_pose_convinces_nobody(shots, features, turn_deg):
    wrong = _relative(shots) @ rigid(rotation(turn_deg), np.array([0.3, 0.5, -0.2]))
    assert not guided_matches(*features, 0, 1, _region(shots, wrong)).convincing


def test_other_photo_convinces_nobody(shots, features):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (240, 320, 3)).astype(np.uint8)
    other = extract_features(ResizedPhoto(photo(320, 240), noise))
    region = _region(shots, _relative(shots))
    assert not guided_matches(features[0], other, 0, 1, region).convincing


def test_swapping_the_photos_swaps_the_matches(shots, features):
    pose = _relative(shots)
    forth = guided_matches(*features, 0, 1, _region(shots, pose)).matches
    back = guided_matches(*features[::-1], 0, 1, _region(shots, invert_rigid(pose))).matches
    assert len(forth) > 50
    pairs = set(zip(forth.index_i, forth.index_j, strict=True))
    swapped = set(zip(back.index_j, back.index_i, strict=True))
    # Which rays end in front of a camera is asked of the second one alone.
    assert len(pairs & swapped) > 0.95 * len(pairs | swapped)


def test_photos_without_key_points_have_no_guided_matches(shots, features):
    none = extract_features(ResizedPhoto(photo(320, 240), np.full((240, 320, 3), 9, np.uint8)))
    for pair in ((none, features[1]), (features[0], none), (none, none)):
        found = guided_matches(*pair, 0, 1, _region(shots, _relative(shots)))
        assert len(found.matches) == 0 and not found.convincing


def test_joined_matches_come_once(features):
    matches = match_features(*features, 0, 1)
    half = matches.select(np.arange(len(matches)) % 2 == 0)
    joined = joined_matches(half, matches)
    assert len(joined) == len(matches)
    np.testing.assert_array_equal(joined.xy_i, features[0].xy[joined.index_i])
    np.testing.assert_array_equal(joined.index_i[: len(half)], half.index_i)


def _saved(shots: list[Shot], folder) -> list[Photo]:
    return open_photos(save_photos(shots, folder))[0]


def test_second_look_relates_photos_that_the_first_did_not(tmp_path):
    shots = shoot(2, width=200, height=150, span_deg=44)
    photos = _saved(shots, tmp_path)
    coarse = [
        extract_features(ResizedPhoto(p, s.pixels), limit=60)
        for p, s in zip(photos, shots, strict=True)
    ]
    matches = [match_features(*coarse, 0, 1)]
    finer = {k: magnified_features(found) for k, found in enumerate(photos)}
    focals = [shot.intrinsics[0, 0] for shot in shots]
    second = match_again(photos, coarse, finer.__getitem__, matches, [], focals)
    assert second.changed and len(second.edges) == 1
    edge = second.edges[0]
    turn = edge.pose.cam2_to_cam1[:3, :3].T @ _relative(shots)[:3, :3]
    assert rotation_angle_deg(turn) < 1
    kept = edge.matches.select(edge.pose.inliers)
    assert (_error_px(kept, shots) < 2).mean() > 0.85
    # Numbers of the first time stay what they were, and point at the same places.
    np.testing.assert_array_equal(second.features[0].xy[: len(coarse[0].xy)], coarse[0].xy)
    np.testing.assert_array_equal(second.features[0].xy[edge.matches.index_i], edge.matches.xy_i)
    np.testing.assert_array_equal(second.features[1].xy[edge.matches.index_j], edge.matches.xy_j)


def test_second_look_is_twice_as_fine_as_the_first(tmp_path):
    (photo,) = _saved(shoot(1, width=400, height=300), tmp_path)
    again = magnified_features(photo, long_side=100)
    np.testing.assert_array_equal(
        again.xy, extract_features(load_photo(photo, long_side=200), limit=8192).xy
    )
    assert len(again.xy) < len(magnified_features(photo, long_side=200).xy)


def test_second_look_at_photos_of_different_places_changes_nothing(tmp_path):
    shots = [shoot(1, width=200, height=150)[0], shoot(1, width=200, height=150, wavelength=0.1)[0]]
    rng = np.random.default_rng(1)
    turned = np.ascontiguousarray(np.rot90(shots[1].pixels, 2)[:, ::-1])
    noisy = np.clip(turned + rng.normal(0, 4, turned.shape), 0, 255).astype(np.uint8)
    save_photo(shots[0], tmp_path / "0.png")
    Image.fromarray(noisy).save(tmp_path / "1.png")
    photos = open_photos(sorted(tmp_path.iterdir()))[0]
    coarse = [magnified_features(found) for found in photos]
    matches = [match_features(*coarse, 0, 1)]
    second = match_again(photos, coarse, coarse.__getitem__, matches, [], [190.0] * 2)
    assert not second.changed and second.edges == []


def test_loosest_photos_and_their_best_partners_are_looked_at():
    def pair(i: int, j: int, count: int) -> PairMatches:
        none = np.full(count, -1, np.int64)
        return PairMatches(i, j, np.zeros((count, 2)), np.zeros((count, 2)), none, none, 1.0)

    matches = [pair(i, j, 10 * i + j) for j in range(9) for i in range(j)]

    def chosen(loose: list[int], **settings) -> set[tuple[int, int]]:
        pairs = pairs_to_match_again(np.array(loose, np.int64), matches, 9, **settings)
        assert len({(m.i, m.j) for m in pairs}) == len(pairs)
        return {(m.i, m.j) for m in pairs}

    best_of_8 = {(i, 8) for i in (7, 6, 5, 4, 3)}
    assert chosen([8, 0]) == best_of_8 | {(0, j) for j in (8, 7, 6, 5, 4)}
    assert chosen([]) == set()
    assert chosen([8], firm={(7, 8), (4, 8)}) == best_of_8 - {(7, 8), (4, 8)}
    assert chosen([8], ties={(0, 1), (7, 8)}) == best_of_8 | {(0, 1)}
    # What groups of photos hang on, and the loosest photos, come first.
    every = chosen(list(range(8, -1, -1)), ties={(0, 1)})
    assert len(every) == 18 and best_of_8 | {(0, 1)} <= every


def test_pairs_of_one_photo_are_matched_again_one_after_the_other() -> None:
    """So that photos of a long walk, in any order, are looked at once."""
    rng = np.random.default_rng(0)
    place = rng.permutation(300)
    none = np.zeros((0, 2))
    matches = [
        PairMatches(*sorted((place[k], place[k + step])), none, none, none[:, 0], none[:, 0], 1.0)
        for step in (1, 2)
        for k in range(300 - step)
    ]
    pairs = pairs_to_match_again(rng.permutation(300), matches, 300)
    looked_at = 0

    @functools.lru_cache(32)
    def look(photo: int) -> None:
        nonlocal looked_at
        looked_at += 1

    for m in pairs:
        look(m.i)
        look(m.j)
    assert looked_at < 330  # 1031 in the order in which they were chosen


@pytest.mark.parametrize(("placed", "firm"), [((0,), {(1, 2)}), ((0, 1), set()), ((), {(1, 2)})])
def test_photos_that_only_lack_a_tie_to_the_scene_are_not_matched_again(
    placed: tuple[int, ...], firm: set[tuple[int, int]]
) -> None:
    edges = [
        cast(PairEdge, SimpleNamespace(matches=SimpleNamespace(i=i, j=j),
                                       pose=SimpleNamespace(inliers=np.ones(count, bool))))
        for i, j, count in ((0, 1, 20), (1, 2, 150), (2, 3, 149))
    ]  # fmt: skip
    has_place = np.isin(np.arange(4), placed)
    alignment = cast(Alignment, SimpleNamespace(placed=has_place, edges=edges))
    assert firm_pairs(alignment) == firm


def _evidence(shots, features, predictions):
    """Return what the pipeline's matching stage makes of two photos and a network's predictions."""
    photos = [photo(320, 240), photo(320, 240)]
    known = KnownCameras((None, None), (None, None))
    accumulator = PriorAccumulator(photos)
    for prediction in predictions:
        accumulator.add(prediction)
    sketches = [sketch_pair(prediction, photos[prediction.i]) for prediction in predictions]
    network = NetworkResult(((0, 1),), accumulator.finish(), sketches, {})
    inputs = Inputs(tuple(photos), known, None, DUSt3R(tiny_config(64)), torch.device("cpu"))
    options = FocalOptions(focal_px=float(shots[0].intrinsics[0, 0]))
    matches = [match_features(*features, 0, 1)]
    return gather_evidence(Matched(inputs, features, matches, network), options)


def test_trusted_pointmaps_lead_to_matches_that_plain_matching_cannot_find(shots, features):
    repeating = _repeating(shots, features)
    evidence = _evidence(shots, repeating, [predict(shots, 0, 1), predict(shots, 1, 0)])
    assert len(evidence.matches[0]) < 0.05 * len(repeating[0].xy)
    (edge,) = evidence.edges
    kept = edge.matches.select(edge.pose.inliers)
    assert len(kept) > 0.7 * len(repeating[0].xy)
    assert (_error_px(kept, shots) < 2).mean() > 0.98
    turn = edge.pose.cam2_to_cam1[:3, :3].T @ _relative(shots)[:3, :3]
    assert rotation_angle_deg(turn) < 0.5


@pytest.mark.parametrize("doubt", ["unsure", "contradicting itself"])
def test_pointmaps_that_are_not_trusted_change_nothing(shots, features, doubt):
    there, back = predict(shots, 0, 1), predict(shots, 1, 0)
    sure = 10.0 if doubt == "contradicting itself" else 1.5
    wrong = transform_points(rigid(rotation((0, 25, 0)), np.array([1.0, 0, 0])), back.points_j)
    back = replace(back, points_j=wrong.astype(np.float32))
    maps = [
        replace(
            found,
            confidence_i=np.full_like(found.confidence_i, sure),
            confidence_j=np.full_like(found.confidence_j, sure),
        )
        for found in (there, back)
    ]
    repeating = _repeating(shots, features)
    assert _evidence(shots, repeating, maps).edges == []
    (edge,) = _evidence(shots, features, maps).edges
    plain = match_features(*features, 0, 1)
    np.testing.assert_array_equal(edge.matches.index_i, plain.index_i)
    np.testing.assert_array_equal(edge.matches.index_j, plain.index_j)
