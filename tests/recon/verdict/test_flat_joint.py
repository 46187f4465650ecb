"""Photos that one small, flat thing alone joins to the others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from synthetic import look_at

from pointmap.camera import Array, invert_rigid, pinhole, project, transform_points
from pointmap.images import Photo
from pointmap.lens import PINHOLE
from recon.scene import Tracks
from recon.stage_results import Alignment
from recon.verdict.flat_joint import joined_by_flat
from recon.verdict.judge import judge

COUNT, WIDTH, HEIGHT = 6, 640, 480
PHOTOS = [Photo(Path(f"{k}.jpg"), f"{k}.jpg", WIDTH, HEIGHT, None, "phone") for k in range(COUNT)]
K = pinhole(600.0, WIDTH, HEIGHT)


def joined(size: float, depth: float) -> Alignment:
    """Return six photos of a wall, four to the left and two to the right, with 80 points of each
    group's own and 60 that all see, within a ``size`` and ``depth`` of the middle.
    """
    rng = np.random.default_rng(0)
    own = rng.uniform(-1, 1, (2, 80, 3)) * [0.8, 1.0, 0.5]
    points = np.concatenate([*own, rng.uniform(-1, 1, (60, 3)) * [size, size, depth]])
    # Group (2, P): left, right, and what both see.
    sees = np.zeros((2, len(points)), bool)
    sees[0, :80] = sees[1, 80:160] = sees[:, 160:] = True
    poses = [look_at([x, -0.2 * x * x, -4.0], [0.3 * x, 0.0, 0.0]) for x in _ACROSS]
    rows = [(k, point) for k in range(COUNT) for point in np.flatnonzero(sees[int(k > 3)])]
    view, point = np.array(rows).T
    xy: Array = np.concatenate(
        [
            project(transform_points(invert_rigid(pose), points[point[view == k]]), K)
            for k, pose in enumerate(poses)
        ]
    )
    black = np.zeros((len(points), 3), np.uint8)
    return Alignment(
        np.tile(K, (COUNT, 1, 1)),
        (PINHOLE,) * COUNT,
        tuple(poses),
        (None,) * COUNT,
        Tracks(points, black, point, view, xy + rng.normal(0, 0.2, xy.shape)),
        (),
        np.zeros(0, bool),
        np.zeros((0, 2), np.int64),
        np.full(COUNT, np.nan),
    )


_ACROSS = [-1.5, -1.2, -0.9, -0.6, 0.8, 1.1]


def test_photos_that_a_small_flat_thing_joins_are_found() -> None:
    assert np.flatnonzero(joined_by_flat(PHOTOS, joined(0.3, 0.0))).tolist() == [4, 5]


@pytest.mark.parametrize(("size", "depth"), [(0.3, 0.3), (1.0, 0.0)])
def test_what_has_depth_or_fills_the_picture_does_not_repeat(size: float, depth: float) -> None:
    assert not joined_by_flat(PHOTOS, joined(size, depth)).any()


def test_pointmaps_that_join_both_are_more_than_that() -> None:
    tied = replace(joined(0.3, 0.0), pointmap_pairs=np.array([[2, 4]]))
    assert not joined_by_flat(PHOTOS, tied).any()


def test_such_photos_are_told_of_unless_their_poses_were_given() -> None:
    alignment = joined(0.3, 0.0)
    verdict = judge(PHOTOS, alignment)
    assert verdict is not None
    assert [photo.name for photo in verdict.in_doubt] == ["4.jpg", "5.jpg"]
    assert all(photo.reason and "one flat thing" in photo.reason for photo in verdict.in_doubt)
    given = judge(PHOTOS, alignment, given_poses=True)
    assert given is not None and not given.in_doubt
