"""The frame that a scene gets: level, on its floor, along its walls, and nothing else changed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from synthetic import arc_of_cameras, render

from pointmap.camera import Array, invert_rigid, pinhole, rigid, transform_points
from recon.export.glb import y_up_from
from recon.scene import Camera, LoadedMaps, View, World
from recon.world.frame import moved, settled
from recon.world.surfaces import find_surfaces


def room(count: int = 5, in_world: Array | None = None) -> list[View]:
    """Photos of the synthetic room (y down, its floor at y = 1), as another world holds them."""
    world = np.eye(4) if in_world is None else in_world
    K = pinhole(150, 160, 120)
    views = []
    for k, pose in enumerate(arc_of_cameras(count)):
        shot = render(K, pose, 160, 120)
        maps = LoadedMaps(shot.pixels, shot.depth, np.ones_like(shot.depth))
        views.append(View(f"{k}.jpg", Path(f"{k}.jpg"), Camera(K, 160, 120, world @ pose), maps))
    return views


def poses(views: list[View] | tuple[View, ...]) -> Array:
    return np.array([view.camera.cam_to_world for view in views])


def test_z_is_up_from_the_floor_and_y_along_the_walls() -> None:
    tilted = rigid(Rotation.from_rotvec([0.5, -0.3, 1.1]).as_matrix(), [3, -2, 5])
    views, world, turn = settled(room(in_world=tilted), "upright")
    assert world.kind == "upright" and world.up == (0, 0, 1)
    assert turn is not None
    new_from_room = turn @ tilted
    # The room's y axis points down, its floor is at y = 1.
    up = new_from_room[:3, :3] @ [0, -1, 0]
    assert np.degrees(np.arccos(up[2])) < 1.5
    assert abs(transform_points(new_from_room, np.array([[0, 1.0, 0]]))[0, 2]) < 0.02
    # Two thirds of the walls stand square to (1, 0, -0.3) and its mirror image; y is along one.
    forward = poses(views)[:, :3, 2].mean(axis=0)
    assert forward[1] > 0.5 and abs(forward[0]) < 0.5
    points = find_surfaces(views).points
    assert np.abs(np.median(points[:, :2], axis=0)).max() < 1e-6
    assert np.isclose(np.linalg.det(turn[:3, :3]), 1)


def test_the_frame_does_not_depend_on_the_one_before() -> None:
    first, world, _ = settled(room(), "upright")
    for seed in range(3):
        turned = rigid(Rotation.random(random_state=seed).as_matrix(), [seed, 1, 2])
        second, again, _ = settled(room(in_world=turned), "upright")
        np.testing.assert_allclose(poses(second), poses(first), atol=1e-3)
        assert again.up_sigma_deg == pytest.approx(world.up_sigma_deg, rel=1e-3)


def test_worlds_that_are_to_stay_stay_bit_equal() -> None:
    tilted = rigid(Rotation.from_rotvec([0.5, 0, 0]).as_matrix(), [3, -2, 5])
    before = room(in_world=tilted)
    for kind, given in (("first-camera", None), ("upright", World("given"))):
        views, world, turn = settled(before, kind, given)  # type: ignore[arg-type]
        assert turn is None and np.array_equal(poses(views), poses(before))
        assert world.kind == ("first-camera" if given is None else "given")
        assert world.up is not None
        assert np.dot(world.up, tilted[:3, :3] @ [0, -1, 0]) > np.cos(np.radians(1.5))
    known = World("upright", (0.0, 0.0, 1.0), 0.7)
    assert settled(before, "upright", known)[1:] == (known, None)


def test_photos_without_a_place_get_none_and_scenes_without_any_stay_empty() -> None:
    views = room(3)
    lost = replace(views[1], camera=replace(views[1].camera, cam_to_world=None), reason="lost")
    found, _, turn = settled([views[0], lost, views[2]], "upright")
    assert found[1] is lost and turn is not None
    nothing, world, turn = settled([lost], "upright")
    assert nothing == (lost,) and turn is None and world.up is None


def test_depth_unknown_everywhere_or_not_finite_is_no_floor() -> None:
    for value in (0.0, np.nan, np.inf):
        views = [
            replace(v, maps=LoadedMaps(v.pixels, np.full_like(v.depth, value), v.confidence))
            for v in room(3)
        ]
        found, world, _ = settled(views, "upright")
        assert np.isfinite(poses(found)).all()
        assert world.up_sigma_deg is not None and np.isfinite(world.up_sigma_deg)


def test_moving_a_view_moves_nothing_within_it() -> None:
    view = room(1)[0]
    turn = rigid(Rotation.from_rotvec([0.2, 0.1, 0]).as_matrix(), [1, 2, 3])
    there = moved(view, turn)
    assert there.maps is view.maps and view.camera.cam_to_world is not None
    assert there.camera.cam_to_world is not None
    back = invert_rigid(turn) @ there.camera.cam_to_world
    np.testing.assert_allclose(back, view.camera.cam_to_world, atol=1e-12)


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_gltf_gets_up_along_y_by_quarter_turns(axis: int, sign: float) -> None:
    up = np.full(3, 0.1)
    up[axis] = sign
    x, y, z = (up / np.linalg.norm(up)).tolist()
    turn = y_up_from(World("given", (x, y, z), 1.0))[:3, :3]
    assert np.array_equal(turn @ (sign * np.eye(3)[axis]), [0, 1, 0])
    assert np.array_equal(turn @ turn.T, np.eye(3)) and np.linalg.det(turn) == pytest.approx(1)


def test_an_unknown_world_is_taken_for_a_cameras() -> None:
    assert np.array_equal(y_up_from(World()), np.diag([1.0, -1, -1, 1]))
