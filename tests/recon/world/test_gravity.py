"""Up from cameras, lines and surfaces, each alone and all against each other."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pointmap.camera import Array, invert_rigid, pinhole, project, rigid, transform_points
from pointmap.lens import Lens
from recon.scene import Camera, LoadedMaps, View
from recon.world.gravity import estimate_up
from recon.world.surfaces import Surfaces
from recon.world.vertical_lines import Lines, find_lines, joined

NO_LINES = Lines(np.zeros((0, 3)), np.zeros(0))
NO_SURFACES = Surfaces(np.zeros((0, 3)), np.zeros((0, 3)), True)
Z = np.array([0.0, 0.0, 1.0])


def cameras(headings_deg: Array, pitch_deg: float = 0.0, roll_deg: float = 0.0) -> Array:
    """Cameras (N, 4, 4) of a z-up world at those headings, looking down by ``pitch_deg``."""
    rng = np.random.default_rng(0)
    level = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]], float)  # looks along y
    rolls = rng.normal(0, roll_deg, len(headings_deg)) if roll_deg else np.zeros(len(headings_deg))
    turns = np.column_stack([headings_deg, np.full(len(headings_deg), -pitch_deg), rolls])
    return np.array(
        [
            rigid(Rotation.from_euler("ZXY", turn, degrees=True).as_matrix() @ level, [k, 0, 1.5])
            for k, turn in enumerate(turns)
        ]
    )


def some_lines(upright: int, others: int, noise_deg: float = 0.5) -> Lines:
    """Planes of upright lines seen from anywhere, and of lines that stand in no relation to up."""
    rng = np.random.default_rng(1)
    normals = np.cross(Z, rng.normal(size=(upright, 3)))
    normals = np.vstack([normals, rng.normal(size=(others, 3))])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    normals += rng.normal(0, np.radians(noise_deg), normals.shape)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return Lines(normals, np.full(len(normals), 0.1))


def surfaces(up: Array, share: float) -> Surfaces:
    """1000 normals, of which ``share`` are of a floor with normal ``up``, and the rest of walls."""
    rng = np.random.default_rng(2)
    floor = np.tile(up, (int(1000 * share), 1))
    walls = np.cross(Z, rng.normal(size=(1000 - len(floor), 3)))
    normals = np.vstack([floor, walls]) + rng.normal(0, 0.05, (1000, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return Surfaces(np.zeros((1000, 3)), normals, True)


def tilt_deg(up: Array, true: Array = Z) -> float:
    return float(np.degrees(np.arccos(np.clip(up @ true, -1, 1))))


def leaning(degrees: float) -> Array:
    return np.array([np.sin(np.radians(degrees)), 0, np.cos(np.radians(degrees))])


def test_cameras_around_a_thing_tell_up_however_far_they_look_down() -> None:
    poses = cameras(np.arange(0, 360, 30.0), pitch_deg=40, roll_deg=2)
    found = estimate_up(poses, NO_LINES, NO_SURFACES)
    assert tilt_deg(found.direction) < 2
    assert 0.3 < found.sigma_deg < 3


def test_upright_lines_tell_how_far_cameras_of_one_heading_look_down() -> None:
    poses = cameras(np.zeros(6), pitch_deg=25)
    alone = estimate_up(poses, NO_LINES, NO_SURFACES)
    assert tilt_deg(alone.direction) > 20 and alone.sigma_deg > 10
    found = estimate_up(poses, some_lines(60, 200), NO_SURFACES)
    assert tilt_deg(found.direction) < 0.5
    assert found.sigma_deg < 1.5


def test_a_floor_tells_it_too_and_a_wall_is_none() -> None:
    poses = cameras(np.zeros(6), pitch_deg=25)
    found = estimate_up(poses, NO_LINES, surfaces(Z, 0.2))
    assert tilt_deg(found.direction) < 1
    walls = estimate_up(cameras(np.zeros(6), pitch_deg=5), NO_LINES, surfaces(Z, 0.0))
    assert tilt_deg(walls.direction) < 6


def test_lines_say_more_than_a_street_that_goes_downhill() -> None:
    poses = cameras(np.arange(-40, 40, 10.0), pitch_deg=10)
    found = estimate_up(poses, some_lines(80, 80), surfaces(leaning(6), 0.3))
    assert tilt_deg(found.direction) < 1


def test_photos_stored_on_their_side_do_not_turn_the_scene() -> None:
    poses = cameras(np.arange(0, 180, 15.0), pitch_deg=10, roll_deg=1)
    poses[::4, :3, :3] = poses[::4, :3, :3] @ Rotation.from_euler("z", 90, True).as_matrix()
    found = estimate_up(poses, some_lines(60, 60), surfaces(Z, 0.2))
    assert tilt_deg(found.direction) < 1


def test_a_network_that_sees_a_floor_is_believed_less_than_photos_that_confirm_it() -> None:
    poses = cameras(np.zeros(1), pitch_deg=10)
    floor = surfaces(leaning(15), 0.3)
    guessed = Surfaces(floor.points, floor.normals, False)
    sure = [estimate_up(poses, NO_LINES, s).sigma_deg for s in (floor, guessed)]
    assert sure[0] < 2 and sure[1] > 4


@pytest.mark.parametrize("k1", [0.0, -0.1])
def test_lines_of_a_picture_lie_in_planes_with_up(k1: float) -> None:
    import cv2

    (pose,) = cameras(np.array([20.0]), pitch_deg=18)
    K = pinhole(500, 640, 480)
    picture = np.full((480, 640, 3), 90, np.uint8)
    for x in np.linspace(-3, 3, 9):
        post = np.column_stack([np.full(40, x - 2), np.full(40, 6.0), np.linspace(-2, 4, 40)])
        xy = project(transform_points(invert_rigid(pose), post), K, Lens.radial(k1))
        xy = xy[np.isfinite(xy).all(axis=1)]
        corners = np.round((xy - 0.5) * 16).astype(np.int32)[None]
        cv2.polylines(picture, list(corners), False, (220, 220, 220), 3, cv2.LINE_AA, 4)
    maps = LoadedMaps(picture, np.zeros((480, 640), np.float32), np.zeros((480, 640), np.float32))
    lines = find_lines(View("a.jpg", "a.jpg", Camera(K, 640, 480, pose, Lens.radial(k1)), maps))  # type: ignore[arg-type]
    assert len(lines.lengths) >= 10
    off = np.degrees(np.arcsin(np.abs(lines.normals @ Z)))
    assert np.median(off) < 0.3
    assert (lines.lengths >= 0.04).all()


def test_a_picture_without_a_line_has_none() -> None:
    maps = LoadedMaps(
        np.full((48, 64, 3), 90, np.uint8),
        np.zeros((48, 64), np.float32),
        np.zeros((48, 64), np.float32),
    )
    view = View("a.jpg", "a.jpg", Camera(pinhole(50, 64, 48), 64, 48, np.eye(4)), maps)  # type: ignore[arg-type]
    assert joined([find_lines(view)]).normals.shape == (0, 3)
