"""Principal points that are a little off the middle, and what they turn cameras by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from alignment_scenes import (
    FOCAL,
    HEIGHT,
    WIDTH,
    all_matches,
    arc_scene,
    evidence_of,
    phone_photos,
    pose_errors_deg,
)

from pointmap.camera import Array
from pointmap.images import Photo
from pointmap.lens import Lens
from recon.alignment.align import align
from recon.alignment.principal_points import with_principal_points
from recon.alignment.refinement import AlignOptions
from recon.alignment.solved_lenses import solved_lenses
from recon.stage_results import Alignment, PairEvidence
from recon.two_view.focal_lengths import solve_focals
from recon.two_view.relative_pose import verify_pair

COUNT = 6
PHOTOS = phone_photos(COUNT)
MIDDLE = np.array([WIDTH, HEIGHT]) / 2
OFF_PX = np.array([3.5, -2.5])


def matched(off_px: Array, k1: float = 0.0, points: int = 400) -> tuple[PairEvidence, Array]:
    """Return what photos whose principal point is off say of each other, and the true poses."""
    scene = arc_scene(COUNT, points, noise_px=0.3, span_deg=60, seed=2, k1=k1)
    return evidence_of(PHOTOS, all_matches(scene.xy + off_px)), scene.cam_to_world


def error_deg(alignment: Alignment, truth: Array) -> float:
    """Return the error of the median pair, of its rotation and its direction the larger one."""
    return float(np.median(np.maximum(*pose_errors_deg(alignment, truth))))


@pytest.mark.parametrize("k1", [0.0, -0.06])
def test_it_is_found_and_turns_the_cameras_right(k1: float) -> None:
    evidence, truth = matched(OFF_PX, k1)
    before = align(PHOTOS, evidence)
    found = with_principal_points(PHOTOS, before, evidence.focals)
    assert np.allclose(found.intrinsics[:, :2, 2], MIDDLE + OFF_PX, atol=1.0)
    assert np.ptp(found.intrinsics, axis=0).max() == 0
    assert found.intrinsics[0, 0, 0] == pytest.approx(FOCAL, rel=0.01)
    assert found.lenses == before.lenses
    assert error_deg(before, truth) > 0.2
    assert error_deg(found, truth) < 0.4 * error_deg(before, truth)


def test_in_the_middle_it_stays() -> None:
    evidence, truth = matched(np.zeros(2))
    before = align(PHOTOS, evidence)
    found = with_principal_points(PHOTOS, before, evidence.focals)
    assert np.abs(found.intrinsics[:, :2, 2] - MIDDLE).max() < 1.5
    assert error_deg(found, truth) < 0.15


def test_where_matches_hardly_tell_it_stays_near_the_middle() -> None:
    evidence, _ = matched(10 * OFF_PX, points=15)
    found = with_principal_points(PHOTOS, align(PHOTOS, evidence), evidence.focals)
    off = np.linalg.norm(found.intrinsics[:, :2, 2] - MIDDLE, axis=1)
    assert off.max() < 0.025 * WIDTH


def test_it_is_among_the_lenses_that_are_solved() -> None:
    evidence, truth = matched(OFF_PX)
    before = align(PHOTOS, evidence)
    found = solved_lenses(PHOTOS, evidence, before, AlignOptions())
    assert error_deg(found, truth) < 0.4 * error_deg(before, truth)


def held(orientations: Sequence[int], evidence: PairEvidence) -> tuple[list[Photo], PairEvidence]:
    """Return the photos as if the camera had been turned, as EXIF's orientations say, and what they
    say of each other: a picture that EXIF turns by 90 degrees clockwise stands upright then.
    """
    photos = [
        replace(p, orientation=o, turned=o != 1, width=w, height=h)
        for p, o in zip(PHOTOS, orientations, strict=True)
        for w, h in [(HEIGHT, WIDTH) if o >= 5 else (WIDTH, HEIGHT)]
    ]

    def upright(xy: Array, k: int) -> Array:
        x, y = xy.T
        new = {1: (x, y), 3: (WIDTH - x, HEIGHT - y), 6: (HEIGHT - y, x), 8: (y, WIDTH - x)}
        return np.stack(new[orientations[k]], axis=1)

    pairs = [
        replace(m, xy_i=upright(m.xy_i, m.i), xy_j=upright(m.xy_j, m.j)) for m in evidence.matches
    ]
    focals = solve_focals(photos, pairs)
    edges = [verify_pair(photos, pair, None, focals.focals_px) for pair in pairs]
    return photos, PairEvidence(pairs, [e for e in edges if e is not None], focals, [], [])


def test_one_camera_that_was_held_in_several_ways_has_one() -> None:
    evidence, truth = matched(OFF_PX)
    photos, evidence = held([1, 6, 1, 8, 3, 6], evidence)
    before = align(photos, evidence)
    found = with_principal_points(photos, before, evidence.focals)
    off = found.intrinsics[:, :2, 2] - [[photo.width / 2, photo.height / 2] for photo in photos]
    x, y = OFF_PX
    assert np.allclose(off, [(x, y), (-y, x), (x, y), (y, -x), (-x, -y), (-y, x)], atol=1.0)
    # Directions of travel are as seen by cameras that were turned.
    angle = {1: 0, 6: 90, 3: 180, 8: -90}
    turns = [np.radians(angle[photo.orientation]) for photo in photos]
    true = truth @ np.array(
        [
            [
                [np.cos(a), np.sin(a), 0, 0],
                [-np.sin(a), np.cos(a), 0, 0],
                [0, 0, 1, 0],
                [0, 0, 0, 1],
            ]
            for a in turns
        ]
    )
    assert error_deg(before, true) > 0.2
    assert error_deg(found, true) < 0.4 * error_deg(before, true)


@pytest.mark.parametrize("way", [{"turned": True}, {"orientation": 4, "turned": True}])
def test_photos_of_one_lens_that_were_turned_nobody_knows_how_keep_it_in_the_middle(
    way: dict[str, Any],
) -> None:
    evidence, _ = matched(OFF_PX)
    before = align(PHOTOS, evidence)
    photos = [replace(photo, **way) if k % 2 else photo for k, photo in enumerate(PHOTOS)]
    assert with_principal_points(photos, before, evidence.focals) is before
    # Two lenses, one of each way.
    focals = replace(evidence.focals, groups=np.arange(COUNT) % 2)
    found = with_principal_points(photos, before, focals)
    assert np.abs(found.intrinsics[:, :2, 2] - MIDDLE).min() > 1.0


def test_what_is_given_stays() -> None:
    evidence, _ = matched(OFF_PX)
    before = align(PHOTOS, evidence)
    given = replace(evidence.focals, log_sigma=np.zeros(COUNT))
    assert with_principal_points(PHOTOS, before, given) is before
    fisheye = replace(before, lenses=(Lens.solved(0.0, 0.0, True),) * COUNT)
    assert with_principal_points(PHOTOS, fisheye, evidence.focals) is fisheye
    two = replace(before, cam_to_world=before.cam_to_world[:2] + (None,) * (COUNT - 2))
    assert with_principal_points(PHOTOS, two, evidence.focals) is two
