"""A pose from scene points and pixels: noise, wrong matches, chance, and points in one spot."""

from __future__ import annotations

import numpy as np
import pytest
from synthetic import look_at

from pointmap.camera import Array, invert_rigid, pinhole, project, transform_points
from pointmap.lens import Lens as Distortion
from recon.localise.resection import Lens, Resection, Sightings, resect, resect_unknown
from recon.scene import Camera

WIDTH, HEIGHT, FOCAL = 640, 480, 560.0
BENT = Distortion.radial(-0.04)
POSE = look_at(np.array([0.5, -1.0, -3.6]), np.array([0.1, 0.3, 0.3]))
KNOWN = Lens(Camera(pinhole(FOCAL, WIDTH, HEIGHT), WIDTH, HEIGHT, None, BENT), 0.0, "known")


def sightings(right: int, wrong: int, *, reach: float = 1.0, seed: int = 0) -> Sightings:
    """Points in a box of half width ``reach``, seen with half a pixel's noise; and wrong ones."""
    rng = np.random.default_rng(seed)
    centre = np.array([0.1, 0.3, 0.3])
    points = centre + rng.uniform(-reach, reach, (right + wrong, 3))
    in_camera = transform_points(invert_rigid(POSE), points)
    xy = project(in_camera, KNOWN.camera.intrinsics, BENT) + rng.normal(0, 0.5, (len(points), 2))
    xy[right:] = rng.uniform(0, [WIDTH, HEIGHT], (wrong, 2))
    return Sightings(np.arange(len(points)), xy, points)


def centre_error(found: Resection | None) -> float:
    assert found is not None and found.camera.cam_to_world is not None
    return float(np.linalg.norm(found.camera.cam_to_world[:3, 3] - POSE[:3, 3]))


@pytest.mark.parametrize("wrong", [0, 120])
def test_the_pose_is_found_among_wrong_matches(wrong: int) -> None:
    seen = sightings(60, wrong)
    known = resect(seen, KNOWN)
    unknown = resect_unknown(seen, WIDTH, HEIGHT)
    assert centre_error(known) < 0.01 and centre_error(unknown) < 0.06
    assert known is not None and unknown is not None
    assert known.inliers >= 57 and unknown.inliers >= 57 and known.certain and unknown.certain
    assert known.camera.lens == BENT and known.camera.intrinsics[0, 0] == FOCAL
    assert abs(unknown.camera.intrinsics[0, 0] / FOCAL - 1) < 0.02


def test_the_sigmas_are_those_of_the_errors() -> None:
    found = [resect(sightings(60, 20, seed=seed), KNOWN) for seed in range(20)]
    error = np.sqrt(np.mean([centre_error(one) ** 2 for one in found]))
    said = np.median([one.position_sigma for one in found if one is not None])
    assert 0.5 < said / error < 2


def test_wrong_matches_alone_are_no_pose() -> None:
    for seed in range(3):
        chance = sightings(0, 600, seed=seed)
        assert resect(chance, KNOWN) is None
        assert resect_unknown(chance, WIDTH, HEIGHT) is None


def test_points_in_one_spot_hold_no_pose() -> None:
    found = resect(sightings(60, 0, reach=0.02), KNOWN)
    assert found is None or not found.certain


def test_one_key_point_counts_once() -> None:
    """Whatever number of scene points a key point is matched with."""
    few = sightings(8, 0)
    again: list[Array] = [few.keypoint, few.xy, few.points]
    assert resect(Sightings(*(np.repeat(column, 5, axis=0) for column in again)), KNOWN) is None
