"""Groups of photos that few tracks join get one scale from a depth model's maps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from synthetic import Shot, shoot, visible

from pointmap.camera import Array, pixel_rays, transform_points
from pointmap.images import Photo
from pointmap.lens import PINHOLE
from recon.alignment.with_depth_maps import with_depth_maps
from recon.prediction.given_maps import PriorMap
from recon.scene import Tracks
from recon.stage_results import Alignment, Focals

WIDTH, HEIGHT, OFF = 320, 240, 1.3


@pytest.fixture(scope="module")
def shots() -> list[Shot]:
    return shoot(6, width=WIDTH, height=HEIGHT, span_deg=50)


def photos() -> list[Photo]:
    return [Photo(Path(f"{k}.png"), f"{k}.png", WIDTH, HEIGHT, 1, "camera", None) for k in range(6)]


def points_seen(shots: list[Shot], by: tuple[int, ...], count: int) -> tuple[Array, Array]:
    """Return points (P, 3) that all of these photos see, and where (P, len(by), 2)."""
    rng = np.random.default_rng(by)
    shot = shots[by[0]]
    row, column = rng.integers(0, HEIGHT, 5 * count), rng.integers(0, WIDTH, 5 * count)
    xy = np.stack([column, row], 1) + 0.5
    rays = pixel_rays(xy, shot.intrinsics) * shot.depth[row, column, None]
    points = transform_points(shot.cam_to_world, rays)
    found = [visible(shots[k], points) for k in by]
    use = np.flatnonzero(np.all([seen for _, seen in found], axis=0))[:count]
    return points[use], np.stack([xy[use] for xy, _ in found], 1)


def two_halves(shots: list[Shot], points: int = 60) -> Alignment:
    """Cameras of two halves, which points seen by two photos alone join: the second half is too
    large, and every point is where it is seen.
    """
    middle = shots[3].cam_to_world[:3, 3]
    cameras = [shot.cam_to_world.copy() for shot in shots]
    for k in (4, 5):
        cameras[k][:3, 3] = middle + OFF * (cameras[k][:3, 3] - middle)
    parts, number, view, xy = [], [], [], []
    for by in ((0, 1, 2), (3, 4, 5), (2, 3)):
        found, seen = points_seen(shots, by, points if len(by) == 3 else points // 3)
        start = sum(map(len, parts))
        parts.append(middle + OFF * (found - middle) if by[0] == 3 else found)
        for n, k in enumerate(by):
            number.append(start + np.arange(len(found)))
            view.append(np.full(len(found), k))
            xy.append(seen[:, n])
    every = np.concatenate(parts)
    tracks = Tracks(
        every, np.zeros((len(every), 3), np.uint8), np.concatenate(number), np.concatenate(view),
        np.concatenate(xy),
    )  # fmt: skip
    none = np.zeros((0, 2), np.int64)
    return Alignment(
        np.array([shot.intrinsics for shot in shots]), (PINHOLE,) * 6, tuple(cameras), (None,) * 6,
        tracks, (), np.zeros(0, bool), none, np.full(6, np.nan),
    )  # fmt: skip


def maps(shots: list[Shot], wrong: tuple[int, ...] = ()) -> list[PriorMap]:
    """Disparity of a good model, scaled and shifted anew for each photo, its errors smooth."""
    found = []
    for k, shot in enumerate(shots):
        rng = np.random.default_rng(k)
        depth: NDArray[np.float64] = shot.depth.astype(np.float64)
        if k in wrong:
            depth = 1 / shots[(k + 3) % 6].depth[:, ::-1]
        noise = cv2.resize(
            rng.normal(0, 0.03, (5, 7)), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC
        )
        values = rng.uniform(1, 3) * (np.exp(noise) / depth + rng.uniform(-0.05, 0.05))
        found.append(PriorMap(values.astype(np.float32), "disparity"))
    return found


def focals(shots: list[Shot], log_sigma: float = 0.1) -> Focals:
    focal = shots[0].intrinsics[0, 0]
    groups = np.zeros(6, np.int64)
    return Focals(np.full(6, focal), np.full(6, log_sigma), ("network",) * 6, groups)


def second_half(found: Alignment, shots: list[Shot]) -> float:
    """How large the second half is beside the first, in true lengths of either."""
    step = []
    for pair in ((0, 2), (3, 5)):
        a, b = (found.cam_to_world[k] for k in pair)
        assert a is not None and b is not None
        true = shots[pair[0]].cam_to_world[:3, 3] - shots[pair[1]].cam_to_world[:3, 3]
        step.append(np.linalg.norm(a[:3, 3] - b[:3, 3]) / np.linalg.norm(true))
    return float(step[1] / step[0])


@pytest.mark.parametrize("wrong", [(), (1, 4)])
def test_halves_that_few_tracks_join_come_to_one_scale(
    shots: list[Shot], wrong: tuple[int, ...]
) -> None:
    before = two_halves(shots)
    assert second_half(before, shots) == pytest.approx(OFF)
    found = with_depth_maps(photos(), before, maps(shots, wrong), focals(shots))
    assert second_half(found, shots) == pytest.approx(1, abs=0.08)
    assert found.intrinsics[:, 0, 0] == pytest.approx(shots[0].intrinsics[0, 0], rel=0.05)
    # Key points are where they were seen, still.
    assert (found.tracks.xy == before.tracks.xy).all() and len(found.reasons) == 6


def test_a_focal_length_that_is_known_stays(shots: list[Shot]) -> None:
    found = with_depth_maps(photos(), two_halves(shots), maps(shots), focals(shots, 0.0))
    assert (found.intrinsics == np.array([shot.intrinsics for shot in shots])).all()
    assert second_half(found, shots) == pytest.approx(1, abs=0.08)


def test_cameras_that_tracks_hold_or_pointmaps_placed_stay_as_they_are(shots: list[Shot]) -> None:
    before = two_halves(shots)
    tracks = before.tracks
    often = {
        key: np.concatenate([getattr(tracks, key)] * 8)
        for key in ("point_index", "view_index", "xy")
    }
    held = replace(before, tracks=replace(tracks, **often))
    assert with_depth_maps(photos(), held, maps(shots), focals(shots)) is held
    seen = tracks.view_index != 5
    alone = replace(
        tracks, point_index=tracks.point_index[seen], view_index=tracks.view_index[seen],
        xy=tracks.xy[seen],
    )  # fmt: skip
    loose = replace(before, tracks=alone)
    assert with_depth_maps(photos(), loose, maps(shots), focals(shots)) is loose
    nothing = [PriorMap(np.zeros((60, 80), np.float32), "disparity")] * 6
    assert with_depth_maps(photos(), before, nothing, focals(shots)) is before
