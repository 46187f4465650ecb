"""Cameras that few matches, all on one wall, hold, aligned anew from a depth model's maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from synthetic import Shot, shoot, visible

from pointmap.camera import Array, invert_rigid, pixel_rays, rotation_angle_deg, transform_points
from pointmap.images import Photo
from pointmap.lens import PINHOLE
from recon.alignment.align import align
from recon.alignment.align_by_maps import align_by_maps
from recon.prediction.given_maps import PriorMap
from recon.scene import Tracks
from recon.stage_results import (
    Alignment,
    Focals,
    PairEdge,
    PairEvidence,
    PairMatches,
    RelativePose,
)

WIDTH, HEIGHT, COUNT, MATCHES, OUTLIERS = 320, 240, 5, 24, 4
# Two groups of three, with one photo in both.
PAIRS = [(0, 1), (0, 2), (1, 2), (2, 3), (2, 4), (3, 4)]
PHOTOS = [
    Photo(Path(f"{k}.png"), f"{k}.png", WIDTH, HEIGHT, 1, "camera", None) for k in range(COUNT)
]


@pytest.fixture(autouse=True)
def few_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare maps at a quarter of the places: enough for these, and soon done."""
    monkeypatch.setattr("recon.prediction.small_map._PLACES", 12)


@pytest.fixture(scope="module")
def shots() -> list[Shot]:
    return shoot(COUNT, width=WIDTH, height=HEIGHT, span_deg=50)


def on_the_wall(shots: list[Shot], i: int, j: int) -> tuple[Array, Array, Array]:
    """Return points (P, 3) of the wall behind the balls that both photos see, and where."""
    rng = np.random.default_rng((i, j))
    row, column = rng.integers(0, HEIGHT, 20000), rng.integers(0, WIDTH, 20000)
    xy = np.stack([column, row], 1) + 0.5
    rays = pixel_rays(xy, shots[i].intrinsics) * shots[i].depth[row, column, None]
    points = transform_points(shots[i].cam_to_world, rays)
    wall = np.abs(points @ [0.2, 0, 1] - 2.2) < 1e-3
    there, seen = visible(shots[j], points)
    use = np.flatnonzero(wall & seen)[:MATCHES]
    assert len(use) == MATCHES
    return points[use], xy[use], there[use]


def maps(shots: list[Shot], wrong: Sequence[int] = ()) -> list[PriorMap]:
    """Disparity of a good model, scaled and shifted anew for each photo, its errors smooth."""
    found = []
    for k, shot in enumerate(shots):
        rng = np.random.default_rng(k)
        depth: NDArray[np.float64] = shot.depth.astype(np.float64)
        if k in wrong:
            depth = 1 / shots[(k + 2) % COUNT].depth[:, ::-1]
        noise = cv2.resize(
            rng.normal(0, 0.02, (5, 7)), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC
        )
        values = rng.uniform(1, 3) * (np.exp(noise) / depth + rng.uniform(-0.04, 0.04))
        found.append(PriorMap(values.astype(np.float32), "disparity"))
    return found


def scene(shots: list[Shot], turned_deg: float) -> Alignment:
    """The cameras, of which the last two are turned about the wall; matches of the wall alone, in
    each pair some that are wrong.
    """
    angle = np.radians(turned_deg)
    turn = np.eye(4)
    turn[:3, :3] = cv2.Rodrigues(np.array([0, angle, 0]))[0]
    middle = np.mean([on_the_wall(shots, i, j)[0].mean(0) for i, j in PAIRS], axis=0)
    turn[:3, 3] = middle - turn[:3, :3] @ middle
    poses = [
        turn @ shot.cam_to_world if k >= COUNT - 2 else shot.cam_to_world
        for k, shot in enumerate(shots)
    ]
    edges, parts, number, view, xy = [], [], [], [], []
    for i, j in PAIRS:
        points, *seen = on_the_wall(shots, i, j)
        rng = np.random.default_rng((i, j, 1))
        seen = [s + rng.normal(0, 0.3, s.shape) for s in seen]
        start = sum(map(len, parts))
        parts.append(points)
        for k, where in zip((i, j), seen, strict=True):
            number.append(start + np.arange(MATCHES))
            view.append(np.full(MATCHES, k))
            xy.append(where)
        seen[1][:OUTLIERS] += rng.uniform(15, 40, (OUTLIERS, 2))
        keys = np.arange(MATCHES) + 1000 * len(edges)
        matches = PairMatches(i, j, *seen, keys, keys, 0.5)
        step = invert_rigid(poses[i]) @ poses[j]
        step[:3, 3] /= np.linalg.norm(step[:3, 3])
        edges.append(PairEdge(matches, RelativePose(step, "essential", np.ones(MATCHES, bool), 1)))
    every = np.concatenate(parts)
    tracks = Tracks(
        every, np.zeros((len(every), 3), np.uint8), np.concatenate(number), np.concatenate(view),
        np.concatenate(xy),
    )  # fmt: skip
    return Alignment(
        np.array([shot.intrinsics for shot in shots]), (PINHOLE,) * COUNT, tuple(poses),
        (None,) * COUNT, tracks, tuple(edges), np.ones(len(edges), bool),
        np.zeros((0, 2), np.int64), np.full(COUNT, np.nan),
    )  # fmt: skip


def aligned(shots: list[Shot], before: Alignment, given: list[PriorMap]) -> Alignment | None:
    focal = 1.08 * shots[0].intrinsics[0, 0]
    groups = np.zeros(COUNT, np.int64)
    focals = Focals(np.full(COUNT, focal), np.full(COUNT, 0.1), ("network",) * COUNT, groups)

    def again(edges: Sequence[PairEdge], start: Alignment) -> Alignment:
        return align(PHOTOS, PairEvidence([], list(edges), focals, [], []), start=start)

    return align_by_maps(PHOTOS, before, given, focals, again)


def turned_deg(found: Alignment, shots: list[Shot]) -> float:
    """How far cameras are turned to each other, at most, beside how they truly are."""
    worst = 0.0
    for i in range(COUNT):
        for j in range(i):
            a, b = found.cam_to_world[i], found.cam_to_world[j]
            assert a is not None and b is not None
            true = invert_rigid(shots[i].cam_to_world) @ shots[j].cam_to_world
            off = (invert_rigid(a) @ b)[:3, :3].T @ true[:3, :3]
            worst = max(worst, float(rotation_angle_deg(off)))
    return worst


def test_groups_that_are_turned_to_each_other_turn_back_also_beside_a_wrong_map(
    shots: list[Shot],
) -> None:
    before = scene(shots, turned_deg=35)
    found = aligned(shots, before, maps(shots, wrong=(1,)))
    assert found is not None
    assert turned_deg(before, shots) == pytest.approx(35, abs=0.1)
    assert turned_deg(found, shots) < 4
    # Matches that don't fit the maps are gone, those that do are there.
    counts = [len(edge.matches) for edge in found.edges]
    assert np.median(counts) == MATCHES - OUTLIERS


def test_maps_in_metres_have_no_shift(shots: list[Shot]) -> None:
    metric = [PriorMap(np.float32(2.5) * shot.depth, "metres") for shot in shots]
    found = aligned(shots, scene(shots, turned_deg=35), metric)
    assert found is not None and turned_deg(found, shots) < 4


def test_cameras_that_the_maps_agree_with_stay(shots: list[Shot]) -> None:
    assert aligned(shots, scene(shots, turned_deg=0), maps(shots)) is None


def test_cameras_that_tracks_hold_stay(shots: list[Shot]) -> None:
    before = scene(shots, turned_deg=35)
    tracks = before.tracks
    often = replace(
        tracks,
        point_index=np.tile(tracks.point_index, 10),
        view_index=np.tile(tracks.view_index, 10),
        xy=np.tile(tracks.xy, (10, 1)),
    )
    assert aligned(shots, replace(before, tracks=often), maps(shots)) is None


@pytest.mark.parametrize("wrong", [(1, 2), range(COUNT)])
def test_wrong_maps_do_not_move_right_cameras(shots: list[Shot], wrong: Sequence[int]) -> None:
    assert aligned(shots, scene(shots, turned_deg=0), maps(shots, wrong)) is None
