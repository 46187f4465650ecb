"""Poses, focal lengths and maps' lines solved together: exact on exact maps, slopes as they are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from synthetic import Shot, shoot, visible

from pointmap.camera import Array, invert_rigid, pixel_rays, rotation_angle_deg, transform_points
from recon.alignment.joint_maps import JointMaps, LiftedMatches, MapState, MapView
from recon.alignment.poses_from_maps import believed, grow_from_maps, lifted, tell_focals
from recon.prediction.given_maps import PriorMap
from recon.prediction.small_map import SmallMap, made_small

# So small that no map is made smaller: its pixels are the photo's.
WIDTH, HEIGHT, COUNT = 128, 96, 4
PAIRS = [(0, 1), (0, 2), (1, 2), (1, 3), (2, 3)]
FACTORS, SHIFTS = (1.7, 0.6, 2.4, 1.1), (0.03, -0.02, 0.0, 0.05)


@pytest.fixture(scope="module")
def shots() -> list[Shot]:
    return shoot(COUNT, width=WIDTH, height=HEIGHT, span_deg=45)


def disparity(shot: Shot, k: int) -> SmallMap:
    values = FACTORS[k] * (1 / shot.depth.astype(np.float64) + SHIFTS[k])
    return made_small(PriorMap(values.astype(np.float32), "disparity"), "disparity")


def problem(shots: list[Shot], wrong: int | None = None) -> tuple[JointMaps, MapState]:
    """What the photos say of each other, and the true state; the map of photo ``wrong`` shows
    another place.
    """
    maps = [disparity(shot, k) for k, shot in enumerate(shots)]
    if wrong is not None:
        other = shots[wrong]
        maps[wrong] = disparity(replace(other, depth=1 / other.depth[:, ::-1]), wrong)
    centre = np.array([WIDTH / 2, HEIGHT / 2])
    views = [MapView(map_, centre, 1.0, 0.5, 0) for map_ in maps]
    matches = {}
    for i, j in PAIRS:
        rng = np.random.default_rng((i, j))
        row, column = rng.integers(4, HEIGHT - 4, 400), rng.integers(4, WIDTH - 4, 400)
        xy = np.stack([column, row], 1) + 0.5
        rays = pixel_rays(xy, shots[i].intrinsics) * shots[i].depth[row, column, None]
        there, seen = visible(shots[j], transform_points(shots[i].cam_to_world, rays))
        value_i = maps[i].between_pixels(xy)[0]
        value_j = maps[j].between_pixels(there)[0]
        use = np.flatnonzero(seen & np.isfinite(value_i) & np.isfinite(value_j))[:60]
        matches[i, j] = LiftedMatches(xy[use], there[use], value_i[use], value_j[use])
    lines = np.array(
        [[np.log(m.level / f), -f * s / m.level]
         for m, f, s in zip(maps, FACTORS, SHIFTS, strict=True)]
    )  # fmt: skip
    focal = np.log(shots[0].intrinsics[:1, 0])
    state = MapState(np.array([shot.cam_to_world for shot in shots]), lines, focal)
    return JointMaps(views, matches, focal, np.array([0.1])), state


def turned_deg(state: MapState, shots: list[Shot]) -> float:
    """The worst error of the photos' rotations beside the first one's."""
    found = [invert_rigid(state.cam_to_world[0]) @ pose for pose in state.cam_to_world]
    true = [invert_rigid(shots[0].cam_to_world) @ shot.cam_to_world for shot in shots]
    errors = [a[:3, :3].T @ b[:3, :3] for a, b in zip(found, true, strict=True)]
    return float(rotation_angle_deg(np.array(errors)).max())


def nudged(state: MapState, step: Array) -> MapState:
    """The state after a step (8 N + 1,) of its unknowns, as the solver takes it."""
    from recon.alignment.joint_maps import _moved

    return _moved(state, step)


def test_the_truth_agrees_and_lifts_to_where_points_lie(shots: list[Shot]) -> None:
    joint, truth = problem(shots)
    for k in range(COUNT):
        told = joint.agreement(truth, k, [j for j in range(COUNT) if j != k])
        assert told.fits > 0.9 and told.agree > 4 * told.contradict
        assert believed(joint, truth, k, range(COUNT))
        places = joint.views[k].map_.places
        points = lifted(joint, truth.log_focal, k, places, joint.views[k].map_.at, truth.lines[k])
        row, column = np.floor(places).astype(int).T[::-1]
        assert points[:, 2] == pytest.approx(shots[k].depth[row, column], rel=1e-4)


def test_slopes_are_how_matches_move(shots: list[Shot]) -> None:
    joint, truth = problem(shots)
    rng = np.random.default_rng(0)
    state = nudged(truth, rng.normal(0, 0.01, 8 * COUNT + 1))
    i, j = 1, 3
    matches = joint.matches[i, j]
    # Of errors that are whitened alike everywhere: how far whitening itself changes is left out.
    joint = replace(joint, sigma=1e-6)
    _, joined = joint.match_errors(state, i, j, matches)
    columns = [*range(8 * i, 8 * i + 8), *range(8 * j, 8 * j + 8)]
    for place, column in [*enumerate(columns), (16, 8 * COUNT)]:
        step = np.zeros(8 * COUNT + 1)
        step[column] = 1e-6
        ahead = joint.match_errors(nudged(state, step), i, j, matches)[1][:, :, -1]
        behind = joint.match_errors(nudged(state, -step), i, j, matches)[1][:, :, -1]
        slope = joined[:, :, place]
        if place == 16:  # one focal length, of both photos
            slope = slope + joined[:, :, 17]
        numeric = (ahead - behind) / 2e-6
        assert numeric == pytest.approx(slope, rel=1e-3, abs=1e-3 * np.abs(slope).max() + 1e-6)


def test_what_is_a_little_off_is_solved(shots: list[Shot]) -> None:
    joint, truth = problem(shots)
    rng = np.random.default_rng(1)
    step = rng.normal(0, 0.03, 8 * COUNT + 1)
    step[:6] = 0  # the first one's pose is the frame
    step[-1] = 0.08
    state = nudged(truth, step)
    assert turned_deg(state, shots) > 2
    found, cost = joint.solve(state, range(COUNT), focals=True)
    assert cost < joint.solve(state, range(COUNT), rounds=0)[1]
    assert turned_deg(found, shots) < 0.5
    assert abs(found.log_focal[0] - truth.log_focal[0]) < 0.02
    assert np.array_equal(found.cam_to_world[0], truth.cam_to_world[0])


def test_of_one_photo_alone_nothing_else_moves(shots: list[Shot]) -> None:
    joint, truth = problem(shots)
    step = np.zeros(8 * COUNT + 1)
    step[16:22] = 0.05
    found, _ = joint.solve(nudged(truth, step), range(COUNT), only=2)
    assert turned_deg(found, shots) < 0.5
    others = [0, 1, 3]
    assert np.array_equal(found.cam_to_world[others], truth.cam_to_world[others])
    assert np.array_equal(found.lines[others], truth.lines[others])


def test_cameras_grow_from_matches_and_maps_alone(shots: list[Shot]) -> None:
    joint, _ = problem(shots)
    grown = grow_from_maps(joint)
    assert grown is not None and sorted(grown.placed) == list(range(COUNT)) == sorted(grown.trusted)
    assert turned_deg(grown.state, shots) < 1


def test_a_map_of_another_place_is_not_believed(shots: list[Shot]) -> None:
    joint, truth = problem(shots, wrong=2)
    assert not believed(joint, truth, 2, range(COUNT))
    grown = grow_from_maps(joint)
    assert grown is not None and 2 not in grown.trusted and {0, 1, 3} == set(grown.trusted)
    # By the maps of the others it still gets its place.
    assert turned_deg(grown.state, shots) < 2


def test_without_matches_there_is_nothing_to_start_from(shots: list[Shot]) -> None:
    joint, _ = problem(shots)
    assert grow_from_maps(replace(joint, matches={})) is None


def test_photos_in_one_direction_tell_no_focal_length(shots: list[Shot]) -> None:
    _, truth = problem(shots)
    assert tell_focals(truth, range(COUNT))
    assert not tell_focals(truth, range(3))
    alike = replace(truth, cam_to_world=np.tile(truth.cam_to_world[:1], (COUNT, 1, 1)))
    assert not tell_focals(alike, range(COUNT))
