"""Photos of two places that look alike are told apart by what stands around what matches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from alignment_scenes import phone_photos

from pointmap.camera import Array, pinhole, project
from pointmap.lens import Lens
from recon.alignment.compared_pictures import ComparedPictures
from recon.alignment.doppelgangers import contradicting_group, contradiction, suspicion
from recon.scene import Tracks
from recon.stage_results import Alignment, PairEdge, PairMatches, RelativePose

FOCAL = 560.0


def _look(position: Array) -> Array:
    """Return cam_to_world of a camera that looks along +z, turned a little to the middle."""
    angle = np.arctan2(-position[0], 12.0)
    pose = np.eye(4)
    pose[:3, :3] = [
        [np.cos(angle), 0, np.sin(angle)],
        [0, 1, 0],
        [-np.sin(angle), 0, np.cos(angle)],
    ]
    pose[:3, 3] = position
    return pose


def _scene(rng: np.random.Generator, *, two_places: bool, fence: bool = False) -> Alignment:
    """Twelve photos before one house front, all aligned as one scene.

    The odd photos show either the same place or another, of which only the front is equal. A
    ``fence`` hides the right half of the place from the even photos.
    """
    front = np.column_stack([rng.uniform(-2, 2, 900), rng.uniform(-2, 2, 900), np.full(900, 6.0)])
    sides = [
        np.column_stack([x, rng.uniform(-3, 3, 900), rng.uniform(5, 8, 900)])
        for x in (
            rng.uniform(2.2, 5, 900) * rng.choice([-1, 1], 900),
            rng.uniform(2.2, 5, 900) * rng.choice([-1, 1], 900),
        )
    ]
    near = np.column_stack(
        [rng.uniform(-0.2, 2.5, 300), rng.uniform(-2, 2, 300), np.full(300, 3.0)]
    )
    points = np.concatenate([front, *sides, near])
    part = np.repeat([0, 1, 2, 3], [900, 900, 900, 300])
    poses = [_look(np.array([x, 0.1 * (k % 3), 0.0])) for k, x in enumerate(np.linspace(-1, 1, 12))]
    K = pinhole(FOCAL, 640, 480)
    seen = []
    for k, pose in enumerate(poses):
        xy = project((points - pose[:3, 3]) @ pose[:3, :3], K)
        there = (xy > 0).all(axis=1) & (xy < [640, 480]).all(axis=1)
        even = k % 2 == 0
        there &= ~((part == 2) if even or not two_places else (part == 1))
        if not two_places:
            there &= part != 2
        hidden = (points[:, 0] > 0.0) & (points[:, 2] > 4)
        there &= (~hidden if even else np.ones_like(hidden)) if fence else part != 3
        if fence:
            there &= (part != 3) | even
        kept = np.flatnonzero(there & (rng.random(len(points)) < 0.6))
        seen.append((kept, xy[kept]))
    tracks = Tracks(
        points,
        np.zeros((len(points), 3), np.uint8),
        np.concatenate([kept for kept, _ in seen]),
        np.repeat(np.arange(12), [len(kept) for kept, _ in seen]),
        np.concatenate([xy for _, xy in seen]),
    )
    edges = tuple(_edge(i, j) for i in range(12) for j in range(i + 1, 12))
    return Alignment(
        intrinsics=np.tile(K, (12, 1, 1)),
        lenses=(Lens(),) * 12,
        cam_to_world=tuple(poses),
        reasons=(None,) * 12,
        tracks=tracks,
        edges=edges,
        used_edges=np.ones(len(edges), bool),
        pointmap_pairs=np.zeros((0, 2), np.int64),
        depth_scale=np.ones(12),
    )


def _edge(i: int, j: int) -> PairEdge:
    none = np.zeros(0, np.int64)
    matches = PairMatches(i, j, np.zeros((0, 2)), np.zeros((0, 2)), none, none, 0.5)
    return PairEdge(matches, RelativePose(np.eye(4), "essential", np.zeros(0, bool), 1.0))


NOT_COMPARED = ComparedPictures.none()
PHOTOS = phone_photos(12)


@pytest.mark.parametrize("seed", range(3))
def test_two_equal_fronts_with_other_surroundings_are_two_places(seed: int) -> None:
    scene = _scene(np.random.default_rng(seed), two_places=True)
    group = contradicting_group(PHOTOS, scene, NOT_COMPARED)
    assert group is not None
    odd = np.arange(12) % 2 == 1
    assert (group == odd).all() or (group == ~odd).all()


@pytest.mark.parametrize("fence", [False, True])
def test_one_place_is_not_divided_by_missed_or_hidden_points(fence: bool) -> None:
    alignment = _scene(np.random.default_rng(0), two_places=False, fence=fence)
    assert contradicting_group(PHOTOS, alignment, NOT_COMPARED) is None


def test_a_scene_without_points_is_not_divided() -> None:
    alignment = _scene(np.random.default_rng(0), two_places=False)
    nothing = replace(alignment, tracks=Tracks.empty())
    assert contradicting_group(PHOTOS, nothing, NOT_COMPARED) is None


def test_pictures_that_miss_what_others_show_divide_a_scene_that_points_don_t() -> None:
    alignment = _scene(np.random.default_rng(0), two_places=False)
    pairs = np.array([(i, j) for i in range(12) for j in range(i + 1, 12) if (i + j) % 2])
    missing, there = np.full((2, len(pairs)), [[25], [35]])
    compared = ComparedPictures(pairs, missing, there)

    _, group = contradiction(PHOTOS, alignment, compared, tie=0.3)
    strength, _ = contradiction(PHOTOS, alignment, replace(compared, missing=missing // 25))

    odd = np.arange(12) % 2 == 1
    assert (group == odd).all() or (group == ~odd).all()
    assert strength == 0


@pytest.mark.parametrize("times", [3, 6])
def test_many_photos_are_suspected_only_beyond_what_their_pairs_tie(times: int) -> None:
    few = replace(_scene(np.random.default_rng(0), two_places=False), tracks=Tracks.empty())
    pairs = np.array([(i, j) for i in range(12) for j in range(i + 1, 12) if (i + j) % 2])
    compared = ComparedPictures(pairs, *np.full((2, len(pairs)), [[2], [18]]))
    many = replace(
        few,
        intrinsics=np.tile(few.intrinsics, (times, 1, 1)),
        lenses=few.lenses * times,
        cam_to_world=few.cam_to_world * times,
        reasons=few.reasons * times,
        depth_scale=np.tile(few.depth_scale, times),
    )
    none = ComparedPictures.none()
    with_them, without = suspicion(PHOTOS, few, compared, none)
    assert with_them == suspicion(PHOTOS, few, compared)[0] > 6
    assert without == suspicion(PHOTOS, few, none)[0] < with_them
    assert suspicion(phone_photos(12 * times), many, compared)[0] == 0
