"""What the network says against the cameras of two photos, sure of itself and unsure."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from rooms import Taken, room

from pointmap.camera import rotation_exp
from pointmap.lens import Lens
from recon.stage_results import Alignment, NetworkResult
from recon.verdict.network_witness import NetworkWitness, network_witness


@pytest.fixture(scope="module")
def taken() -> Taken:
    return room(2)


@pytest.fixture(scope="module")
def right(taken: Taken) -> Alignment:
    """Return the cameras that the pointmaps give, with points as far as the walls."""
    return _with_points(taken.align())


def _with_points(alignment: Alignment) -> Alignment:
    points = np.random.default_rng(0).normal(0, 3, (50, 3))
    return replace(alignment, tracks=replace(alignment.tracks, points=points))


def _seen(taken: Taken, confidence: float = 3.0) -> NetworkResult:
    """Return what the network sees, of so much confidence everywhere."""
    sketches = [
        replace(
            sketch,
            confidence_i=np.full_like(sketch.confidence_i, confidence),
            confidence_j=np.full_like(sketch.confidence_j, confidence),
        )
        for sketch in taken.sketches
    ]
    return NetworkResult(((0, 1),), taken.priors, sketches, {})


def _witness(taken: Taken, cameras: Alignment, seen: NetworkResult) -> NetworkWitness:
    found = network_witness(taken.scene.photos, cameras, seen)
    assert found is not None
    return found


def _reversed(alignment: Alignment) -> Alignment:
    """Return cameras that look as they did, on the other sides of each other."""
    poses = [np.array(pose) for pose in alignment.cam_to_world]
    for pose in poses:
        pose[:3, 3] *= -1
    return replace(alignment, cam_to_world=tuple(poses))


def _turned(alignment: Alignment, degrees: float) -> Alignment:
    """Return cameras of which one looks elsewhere, from where it stands."""
    poses = [np.array(pose) for pose in alignment.cam_to_world]
    poses[1][:3, :3] @= rotation_exp(np.radians([[0.0, degrees, 0.0]]))[0]
    return replace(alignment, cam_to_world=tuple(poses))


def test_it_speaks_for_right_cameras_and_against_wrong_ones(taken: Taken, right: Alignment) -> None:
    seen = _seen(taken)
    found = _witness(taken, right, seen)
    assert found.apart_deg < 0.5 and found.focal_apart < 0.02
    assert found.against < -3
    # It tells which of the two stands where, and how each looks.
    found = _witness(taken, _reversed(right), seen)
    assert found.apart_deg == pytest.approx(180, abs=1) and found.against > 5
    found = _witness(taken, _turned(right, 25.0), seen)
    assert found.apart_deg == pytest.approx(25, abs=1) and found.against > 1


def test_without_confidence_it_says_little(taken: Taken, right: Alignment) -> None:
    unsure = _seen(taken, 1.0)
    assert -0.2 < _witness(taken, right, unsure).against < 0
    assert 0 < _witness(taken, _turned(right, 25.0), unsure).against < 0.5


def test_focal_lengths_are_compared_unless_a_file_tells_them(
    taken: Taken, right: Alignment
) -> None:
    seen, photos = _seen(taken), taken.scene.photos
    longer = replace(seen, sketches=[replace(s, focal_px=1.5 * s.focal_px) for s in seen.sketches])
    assert _witness(taken, right, longer).focal_apart == pytest.approx(np.log(1.5), abs=0.02)
    told = [replace(photo, exif_focal_px=40.0) for photo in photos]
    found = network_witness(told, right, longer)
    assert found is not None and found.focal_apart == 0


def test_of_what_it_has_not_seen_it_says_nothing(taken: Taken, right: Alignment) -> None:
    seen, photos = _seen(taken), taken.scene.photos
    assert network_witness(photos, right, replace(seen, sketches=seen.sketches[:1])) is None
    assert network_witness(photos, right, _seen(taken, 0.0)) is None
    alone = replace(right, cam_to_world=(right.cam_to_world[0], None))
    assert network_witness(photos, alone, seen) is None
    bent = replace(right, lenses=(Lens("SIMPLE_RADIAL_FISHEYE"),) * 2)
    assert network_witness(photos, bent, seen) is None
    beside = list(right.cam_to_world)
    beside[1] = np.array(beside[0])
    assert network_witness(photos, replace(right, cam_to_world=tuple(beside)), seen) is None
    more = room(3)
    assert network_witness(more.scene.photos, _with_points(more.align()), _seen(more)) is None
