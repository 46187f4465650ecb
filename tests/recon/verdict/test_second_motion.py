"""Something large that moves through a few photos, matched as well as what stands."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from alignment_scenes import FOCAL, HEIGHT, WIDTH, all_matches, arc_scene, phone_photos

from pointmap.camera import Array, invert_rigid, pinhole, project, rotation_exp, transform_points
from pointmap.lens import PINHOLE
from recon.scene import Tracks
from recon.stage_results import Alignment, PairEdge, PairMatches, RelativePose
from recon.verdict.judge import judge
from recon.verdict.second_motion import second_motion

COUNT = 3
PHOTOS = phone_photos(COUNT)
STAND = 300


def _scene(moving: int, *, photos: int = COUNT) -> Alignment:
    """Return the true cameras of what stands, beside which so many points move, each pair's matches
    of both in one.
    """
    still = arc_scene(photos, STAND, noise_px=0.3, span_deg=12.0 * photos, visible=1.0, seed=5)
    rng = np.random.default_rng(0)
    board = rng.uniform(-0.6, 0.6, (moving, 3)) * [1.0, 1.0, 0.2] - [0, 0, 1.0]
    K = pinhole(FOCAL, WIDTH, HEIGHT)
    seen = []
    for k, pose in enumerate(still.cam_to_world):
        turned = board @ rotation_exp(np.array([[0.05 * k, 0.12 * k, 0.1 * k]]))[0].T
        moved = turned + np.array([0.2, -0.12, 0.0]) * k
        xy = project(transform_points(invert_rigid(pose), moved), K)
        seen.append(np.concatenate([still.xy[k], xy + rng.normal(0, 0.3, xy.shape)]))
    return _aligned(np.stack(seen), still.cam_to_world, still.points)


def _aligned(xy: Array, poses: Array, points: Array) -> Alignment:
    edges = []
    for matches in all_matches(xy):
        stands = matches.index_i < STAND
        edges.append(PairEdge(matches, RelativePose(np.eye(4), "essential", stands, 1.0)))
    view, point = np.nonzero(np.isfinite(xy[:, :STAND]).all(axis=2))
    return Alignment(
        np.tile(pinhole(FOCAL, WIDTH, HEIGHT), (len(xy), 1, 1)),
        (PINHOLE,) * len(xy),
        tuple(poses),
        (None,) * len(xy),
        Tracks(points, np.zeros((STAND, 3), np.uint8), point, view, xy[view, point]),
        tuple(edges),
        np.ones(len(edges), bool),
        np.zeros((0, 2), np.int64),
        np.full(len(xy), np.nan),
    )


def test_what_moves_is_counted_beside_what_stands() -> None:
    assert second_motion(PHOTOS, _scene(0)) == 0.0
    assert 0.45 < second_motion(PHOTOS, _scene(180)) < 0.9


def test_scattered_wrong_matches_are_no_motion() -> None:
    alignment = _scene(0)
    rng = np.random.default_rng(1)
    edges = []
    for edge in alignment.edges:
        m, wrong = edge.matches, rng.uniform(0, 480, (2, 150, 2))
        none = np.full(150, -1)
        more = PairMatches(
            m.i,
            m.j,
            np.concatenate([m.xy_i, wrong[0]]),
            np.concatenate([m.xy_j, wrong[1]]),
            np.concatenate([m.index_i, none]),
            np.concatenate([m.index_j, none]),
            m.sigma_px,
        )
        inliers = np.arange(len(more)) < len(m)
        edges.append(PairEdge(more, RelativePose(np.eye(4), "essential", inliers, 1.0)))
    assert second_motion(PHOTOS, replace(alignment, edges=tuple(edges))) == 0.0


def test_few_photos_with_something_large_that_moves_are_doubtful() -> None:
    still, moves = judge(PHOTOS, _scene(0)), judge(PHOTOS, _scene(220))
    assert still is not None and moves is not None
    assert still.word == "sound"
    assert moves.word == "doubtful" and "another motion" in moves.reason


def test_of_more_photos_others_tell() -> None:
    photos = phone_photos(5)
    assert second_motion(photos, _scene(180, photos=5)) == 0.0
