"""Photos from one place: their depth in one scale, by what they both show."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from synthetic import Shot, render

from pointmap.camera import pinhole, pixel_centres, project, rigid, rotation_exp, unproject
from pointmap.images import Photo
from pointmap.lens import Lens
from recon.depth.one_place import in_one_scale
from recon.scene import Tracks
from recon.stage_results import Alignment, PairEdge, PairMatches, PhotoPrior, RelativePose

WIDTH, HEIGHT, COUNT = 120, 90, 4
UNITS = np.array([1.0, 0.3, 2.0, 5.0])


@pytest.fixture(scope="module")
def shots() -> list[Shot]:
    """A room from its middle, turning by 15 degrees from photo to photo."""
    K = pinhole(0.95 * WIDTH, WIDTH, HEIGHT)
    turns = rotation_exp(np.array([[0, np.radians(15 * k), 0] for k in range(COUNT)]))
    return [render(K, rigid(turn, np.array([0, 0, -2.0])), WIDTH, HEIGHT) for turn in turns]


def photos() -> list[Photo]:
    return [Photo(Path(f"{k}"), f"{k}", WIDTH, HEIGHT, None, "c") for k in range(COUNT)]


def edge(i: int, j: int, shots: list[Shot]) -> PairEdge:
    """Return the exact matches of two photos, a tenth of them wrong."""
    turn = shots[j].cam_to_world[:3, :3].T @ shots[i].cam_to_world[:3, :3]
    xy = pixel_centres(WIDTH, HEIGHT)[::6, ::6].reshape(-1, 2)
    rays = np.append((xy - [WIDTH / 2, HEIGHT / 2]) / (0.95 * WIDTH), np.ones((len(xy), 1)), 1)
    there = project(rays @ turn.T, shots[j].intrinsics)
    inside = ((there > 0) & (there < [WIDTH, HEIGHT])).all(1)
    xy, there = xy[inside], there[inside]
    there[::10] = np.random.default_rng(0).uniform(0, 80, there[::10].shape)
    none = np.full(len(xy), -1, np.int64)
    pose = RelativePose(
        rigid(turn.T, np.zeros(3)), "essential", np.ones(len(xy), bool), 0.0, frozenset()
    )
    return PairEdge(PairMatches(i, j, xy, there, none, none, 0.5), pose)


def aligned(shots: list[Shot]) -> Alignment:
    edges = tuple(edge(k, k + 1, shots) for k in range(COUNT - 1))
    return Alignment(
        intrinsics=np.stack([shot.intrinsics for shot in shots]),
        lenses=(Lens(),) * COUNT,
        cam_to_world=tuple(rigid(s.cam_to_world[:3, :3], np.zeros(3)) for s in shots),
        reasons=(None,) * COUNT,
        tracks=Tracks.empty(),
        edges=edges,
        used_edges=np.ones(len(edges), bool),
        pointmap_pairs=np.zeros((0, 2), np.int64),
        depth_scale=np.full(COUNT, np.nan),
    )


def priors(shots: list[Shot]) -> list[PhotoPrior]:
    return [
        PhotoPrior(
            unproject(shot.depth / unit, shot.intrinsics).astype(np.float32),
            np.where(shot.depth > 0, 3.0, 0.0).astype(np.float32),
            100.0,
        )
        for shot, unit in zip(shots, UNITS, strict=True)
    ]


def test_photos_get_one_scale(shots: list[Shot]) -> None:
    found = in_one_scale(aligned(shots), priors(shots), photos()).depth_scale
    np.testing.assert_allclose(found / found[0], UNITS / UNITS[0], rtol=0.02)


def test_cameras_that_stand_apart_by_guess_are_near_each_other(shots: list[Shot]) -> None:
    alignment = aligned(shots)
    moved = [pose + 0.5 * k * np.eye(4, k=3) for k, pose in enumerate(alignment.cam_to_world)]
    found = in_one_scale(replace(alignment, cam_to_world=tuple(moved)), priors(shots), photos())
    depth = np.median(found.depth_scale[0] * priors(shots)[0].points[..., 2])
    assert depth > 30 * 1.5


def test_what_is_measured_stays(shots: list[Shot]) -> None:
    alignment = replace(aligned(shots), depth_scale=np.array([1.0, np.nan, np.nan, 2.0]))
    assert in_one_scale(alignment, priors(shots), photos()) is alignment
    unplaced = replace(aligned(shots), cam_to_world=(np.eye(4), None, None, None))
    assert in_one_scale(unplaced, priors(shots), photos()) is unplaced
