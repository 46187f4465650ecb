"""Cameras from pointmaps alone, and together with feature tracks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from alignment_scenes import pose_errors_deg
from hypothesis import given, settings
from hypothesis import strategies as st
from rooms import HEIGHT, WIDTH, Taken, depth_ratio, room, take
from synthetic import Shot, shoot
from two_views import camera_at, photo, predict, rotation

from benchmarks.pointmap_scenes import (
    EXACT,
    Errors,
    RoomScene,
    cast_depth,
    complete_pairs,
    make_room,
    predictions,
    random_pose,
    ring_pairs,
)
from pointmap.camera import Array, invert_rigid, rigid, transform_points
from pointmap.inference import PairPrediction
from recon.prediction.pair_sketch import sketch_pair
from recon.prediction.photo_prior import PriorAccumulator
from recon.stage_results import Alignment
from recon.two_view.epipolar import angles_between_deg
from recon.two_view.pointmap_pose import PointmapPoses, pointmap_poses


@pytest.fixture(scope="module")
def five() -> Taken:
    return room(5)


def centre_error(found: Alignment, truth: Array) -> float:
    """Mean distance of the centres after a similarity, over the truth's median distance."""
    from pointmap.camera import fit_similarity

    mine = np.stack([pose[:3, 3] for pose in found.cam_to_world])
    true = truth[:, :3, 3]
    scale, R, t = fit_similarity(mine, true)
    distances = np.linalg.norm(true[:, None] - true[None], axis=-1)
    error = np.linalg.norm(scale * mine @ R.T + t - true, axis=1).mean()
    return float(error / np.median(distances[distances > 0]))


def test_exact_pointmaps_give_the_exact_scene():
    taken = room(5, EXACT)
    found = taken.align()
    rotations, directions = pose_errors_deg(found, taken.scene.cam_to_world)
    assert rotations.max() < 0.01 and directions.max() < 0.01
    assert centre_error(found, taken.scene.cam_to_world) < 1e-4
    assert found.intrinsics[:, 0, 0] == pytest.approx(taken.scene.intrinsics[0, 0], rel=1e-4)
    ratio = depth_ratio(taken, found)
    assert np.abs(ratio / np.median(ratio) - 1).max() < 1e-4


def test_errors_of_the_pairs_average_out(five: Taken):
    found = five.align()
    rotations, _ = pose_errors_deg(found, five.scene.cam_to_world)
    # Each pair's rotation is off by 0.5 degrees per axis: 0.8 on average.
    assert rotations.mean() < 0.6 and rotations.max() < 1.0
    assert centre_error(found, five.scene.cam_to_world) < 0.015
    ratio = depth_ratio(five, found)
    assert np.abs(ratio / np.median(ratio) - 1).mean() < 0.015
    assert len(found.pointmap_pairs) == 10


def test_world_is_the_first_photo_with_median_depth_one(five: Taken):
    found = five.align()
    assert np.array_equal(found.cam_to_world[0], np.eye(4))
    depths = [
        scale * np.median(prior.points[..., 2])
        for scale, prior in zip(found.depth_scale, five.priors, strict=True)
    ]
    assert np.median(depths) == pytest.approx(1.0)


@pytest.mark.parametrize("wrong", [0.2, 0.4])
def test_wrong_pairs_are_outvoted(wrong: float):
    """Both predictions of a wrong pair agree on a random pose, so that nothing but the other pairs
    gives it away."""
    scene = make_room(12, WIDTH, HEIGHT, span_deg=360)
    pairs = ring_pairs(12, 8)
    rng = np.random.default_rng(1)
    chosen = rng.permutation(len(pairs) // 2)[: round(wrong * len(pairs) / 2)]
    lies = {}
    for i, j in (pairs[2 * k] for k in chosen):
        lies[i, j] = random_pose(rng)
        lies[j, i] = invert_rigid(lies[i, j])
    clean, found = (
        take(scene, list(predictions(scene, pairs, wrong=w))).align() for w in ({}, lies)
    )
    errors = [pose_errors_deg(a, scene.cam_to_world)[0] for a in (clean, found)]
    assert np.median(errors[1]) < 2 * np.median(errors[0])
    used = {tuple(pair) for pair in found.pointmap_pairs.tolist()}
    assert not used & set(lies)


def test_wild_pixels_do_no_harm(five: Taken):
    clean = pose_errors_deg(five.align(), five.scene.cam_to_world)[0]
    wild = room(5, Errors(outliers=0.3))
    found = pose_errors_deg(wild.align(), wild.scene.cam_to_world)[0]
    assert np.median(found) < 2 * np.median(clean)
    ratio = depth_ratio(wild, wild.align())
    assert np.median(np.abs(ratio / np.median(ratio) - 1)) < 0.02


@pytest.mark.parametrize("sure", [False, True])
def test_a_photo_of_another_place_is_left_out_with_the_reason(sure: bool):
    """The network either contradicts itself about it, or makes up a pose that it repeats."""
    rng = np.random.default_rng(3)
    lies = {}
    for k in range(5):
        lies[k, 5] = random_pose(rng, 2.0)
        lies[5, k] = invert_rigid(lies[k, 5]) if sure else random_pose(rng, 2.0)
    found = room(6, wrong=lies).align()
    assert [pose is None for pose in found.cam_to_world] == [False] * 5 + [True]
    assert ("contradict" if sure else "not connected") in found.reasons[5]
    rotations, _ = pose_errors_deg(
        replace(found, cam_to_world=found.cam_to_world[:5]),
        room(6).scene.cam_to_world[:5],
    )
    assert rotations.max() < 1.2


@pytest.mark.parametrize("count", [9, 14])
def test_two_sides_that_look_alike_do_not_fold_the_scene(count: int):
    """A row of photos along half a circle. The network takes the last two for the first two: it is
    sure that they were taken from where those were. All other pairs say otherwise."""
    scene = make_room(count, WIDTH, HEIGHT, span_deg=170)
    pairs = [(i, j) for i, j in complete_pairs(count) if abs(i - j) <= 3]
    lies = {}
    for i, j in ((0, count - 1), (1, count - 2)):
        step = invert_rigid(scene.cam_to_world[i]) @ scene.cam_to_world[i + 1]
        lies[i, j], lies[j, i] = step, invert_rigid(step)
    found = take(scene, list(predictions(scene, [*pairs, *lies], wrong=lies))).align()
    rotations, directions = pose_errors_deg(found, scene.cam_to_world)
    assert rotations.max() < 3 and np.median(directions) < 2
    assert not {tuple(pair) for pair in found.pointmap_pairs.tolist()} & set(lies)


@pytest.mark.parametrize("known", [(0, 1, 2, 3, 4), (1, 3), (2,)])
def test_known_poses_are_bit_equal_and_the_rest_follows(five: Taken, known: tuple[int, ...]):
    truth = five.scene.cam_to_world
    given_poses = [pose if k in known else None for k, pose in enumerate(truth)]
    found = five.align(known_cam_to_world=given_poses)
    for k in known:
        assert np.array_equal(found.cam_to_world[k], truth[k])
    rotations, _ = pose_errors_deg(found, truth)
    assert rotations.max() < 1.2
    if len(known) > 1:
        # Depth is in the units of the known poses.
        assert np.abs(depth_ratio(five, found) - 1).mean() < 0.03


@settings(max_examples=3, deadline=None)
@given(st.lists(st.floats(-3, 3), min_size=6, max_size=6), st.floats(0.01, 100))
def test_known_poses_moved_by_a_similarity_move_the_rest(five: Taken, six: list[float], scale):
    world = rigid(rotation(40 * np.array(six[:3])), np.array(six[3:]))
    truth = five.scene.cam_to_world
    moved = world @ truth
    moved[:, :3, 3] *= scale
    first, second = (
        five.align(known_cam_to_world=[poses[0], poses[1], None, poses[3], None])
        for poses in (truth, moved)
    )
    for k in (2, 4):
        back = second.cam_to_world[k].copy()
        back[:3, 3] /= scale
        np.testing.assert_allclose(invert_rigid(world) @ back, first.cam_to_world[k], atol=1e-5)
    np.testing.assert_allclose(second.depth_scale, scale * first.depth_scale, rtol=1e-5)


@settings(max_examples=3, deadline=None)
@given(st.lists(st.floats(1e-3, 1e3), min_size=20, max_size=20))
def test_the_scale_of_any_pair_does_not_matter(five: Taken, scales: list[float]):
    said = [
        replace(p, points_i=p.points_i * np.float32(s), points_j=p.points_j * np.float32(s))
        for p, s in zip(predictions(five.scene, complete_pairs(5)), scales, strict=True)
    ]
    first, second = five.align(), take(five.scene, said).align()
    for a, b in zip(first.cam_to_world, second.cam_to_world, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


@settings(max_examples=3, deadline=None)
@given(st.permutations(range(5)))
def test_the_order_of_the_photos_does_not_matter(five: Taken, order: list[int]):
    place = {k: n for n, k in enumerate(order)}
    scene = replace(
        five.scene, cam_to_world=five.scene.cam_to_world[order], depth=five.scene.depth[order]
    )
    said = [
        replace(p, i=place[p.i], j=place[p.j]) for p in predictions(five.scene, complete_pairs(5))
    ]
    said.sort(key=lambda p: (p.i, p.j))
    first, second = five.align(), take(scene, said).align()
    reordered = [second.cam_to_world[place[k]] for k in range(5)]
    rotations, directions = pose_errors_deg(first, np.stack(reordered))
    assert rotations.max() < 0.05 and directions.max() < 0.1


def test_swapping_a_pair_inverts_its_pose():
    taken = room(3, EXACT)
    poses = pointmap_poses(taken.sketches, taken.priors, taken.scene.photos, taken.focals)
    relative = dict(zip(map(tuple, poses.similarities.pairs.tolist()),
                        poses.similarities.cam2_to_cam1, strict=True))  # fmt: skip
    for i, j in ((0, 1), (0, 2), (1, 2)):
        turned, direction = angles_between_deg(relative[i, j], invert_rigid(relative[j, i]))
        assert turned < 0.01 and direction < 0.01


# What makes a pair's pointmaps trustworthy.


@pytest.fixture(scope="module")
def shots() -> list[Shot]:
    return shoot(3, width=160, height=128, span_deg=40)


def _poses(*said: PairPrediction) -> PointmapPoses:
    photos = [photo(640, 512)] * 3
    accumulator = PriorAccumulator(photos)
    for prediction in said:
        accumulator.add(prediction)
    priors = accumulator.finish()
    focals = np.array([prior.focal_px for prior in priors])
    return pointmap_poses([sketch_pair(p, photo(640, 512)) for p in said], priors, photos, focals)


def test_good_pointmaps_are_trusted(shots: list[Shot]):
    poses = _poses(predict(shots, 0, 1, noise=0.01), predict(shots, 1, 0, noise=0.01, scale=5))
    assert (poses.weights > 0.9).all() and poses.trusted_pairs.tolist() == [[0, 1]]
    truth = invert_rigid(shots[0].cam_to_world) @ shots[1].cam_to_world
    turned, direction = angles_between_deg(poses.hints()[0, 1], truth)
    assert turned < 0.1 and direction < 0.3


def test_one_direction_off_is_not_trusted(shots: list[Shot]):
    forth, back = predict(shots, 0, 1), predict(shots, 1, 0)
    off = rigid(rotation([0, 12, 0]), [0.3, 0, 0])
    back = replace(back, points_j=transform_points(off, back.points_j).astype(np.float32))
    assert not _poses(forth, back).weights.any()
    assert not _poses(forth).weights.any()


def test_a_network_of_habit_is_not_trusted(shots: list[Shot]):
    # Whatever it sees, the other photo is from a step to the right.
    step = camera_at([0.8, 0, 0], [0, -10, 0])
    forth, back = predict(shots, 0, 1), predict(shots, 1, 0)
    own = [forth.points_i, back.points_i]
    forth = replace(forth, points_j=transform_points(step, own[1]).astype(np.float32))
    back = replace(back, points_j=transform_points(step, own[0]).astype(np.float32))
    assert not _poses(forth, back).weights.any()


def test_a_network_that_always_says_same_place_is_not_trusted(shots: list[Shot]):
    forth, back = predict(shots, 0, 1), predict(shots, 1, 0)
    rng = np.random.default_rng(0)
    flat = forth.points_i
    jitter = [np.exp(rng.normal(0, 0.01, flat.shape)).astype(np.float32) for _ in range(4)]
    forth = replace(forth, points_i=flat * jitter[0], points_j=flat * jitter[1])
    back = replace(back, points_i=flat * jitter[2], points_j=flat * jitter[3])
    assert not _poses(forth, back).weights.any()


@pytest.mark.parametrize("case", ["unsure", "random", "behind", "not finite"])
def test_weak_pointmaps_are_not_trusted(shots: list[Shot], case: str):
    forth, back = predict(shots, 0, 1), predict(shots, 1, 0)
    if case == "unsure":
        forth, back = (predict(shots, a, b, confidence=1.5) for a, b in ((0, 1), (1, 0)))
    elif case == "random":
        rng = np.random.default_rng(0)
        forth, back = (
            replace(
                p,
                points_i=rng.normal(size=p.points_i.shape).astype(np.float32),
                points_j=rng.normal(size=p.points_j.shape).astype(np.float32),
            )
            for p in (forth, back)
        )
    else:
        value = np.float32(-1 if case == "behind" else np.nan)
        forth, back = (
            replace(p, points_i=p.points_i * value, points_j=p.points_j * value)
            for p in (forth, back)
        )
    assert not _poses(forth, back).weights.any()


def test_two_photos_are_a_scene():
    taken = room(2)
    found = taken.align()
    assert found.reasons == (None, None)
    assert pose_errors_deg(found, taken.scene.cam_to_world)[0].max() < 1.5


def test_photos_that_only_turned_stand_in_one_place():
    middle = make_room(3, WIDTH, HEIGHT)
    poses = np.stack(
        [middle.cam_to_world[1] @ rigid(rotation([0, a, 0]), np.zeros(3)) for a in (-15, 0, 15)]
    )
    depth = np.stack([cast_depth(pose, middle.intrinsics, WIDTH, HEIGHT) for pose in poses])
    scene = RoomScene(poses, middle.intrinsics, depth)
    found = take(scene, list(predictions(scene, complete_pairs(3)))).align()
    assert found.reasons == (None,) * 3
    assert pose_errors_deg(found, poses)[0].max() < 1.5
    assert np.abs(np.stack(found.cam_to_world)[:, :3, 3]).max() < 0.01
