import numpy as np
import pytest
from alignment_scenes import look_at

from pointmap.camera import Array
from viz.drawing.subject import looked_at, subject


def about(middle: Array, *, turn_deg: float = 360.0) -> Array:
    """Twelve cameras (12, 4, 4) at a distance of 1.1 from what they look at."""
    angles = np.radians(np.linspace(0, turn_deg, 12, endpoint=False))
    eyes = middle + np.stack([np.sin(angles), np.full(12, -0.45), -np.cos(angles)], axis=1)
    return np.stack([look_at(eye, middle) for eye in eyes])


def figure_and_room() -> tuple[Array, Array]:
    rng = np.random.default_rng(0)
    room = rng.normal(size=(5000, 3))
    room *= rng.uniform(4, 9, (5000, 1)) / np.linalg.norm(room, axis=1, keepdims=True)
    return rng.uniform(-0.2, 0.2, (300, 3)), room


def test_a_figure_on_a_table_is_the_subject_not_the_room_behind() -> None:
    figure, room = figure_and_room()
    middle = np.array([3.0, -1.0, 2.0])
    points = middle + np.concatenate([figure, room])
    np.testing.assert_array_equal(subject(points, about(middle)), points[:300])


def test_cameras_about_a_thing_find_its_middle_from_where_they_look() -> None:
    middle = np.array([3.0, -1.0, 2.0])
    np.testing.assert_allclose(looked_at(about(middle)), middle, atol=1e-9)


@pytest.mark.parametrize("outward", [False, True])
def test_photos_in_a_row_or_of_the_room_about_have_no_middle(outward: bool) -> None:
    cameras = about(np.zeros(3), turn_deg=360.0 if outward else 20.0)
    if outward:
        cameras[:, :3, 2] *= -1
        cameras[:, :3, 0] *= -1
    assert looked_at(cameras) is None


def test_what_fills_the_scene_is_all_its_subject() -> None:
    figure, _ = figure_and_room()
    np.testing.assert_array_equal(subject(10 * figure, about(np.zeros(3))), 10 * figure)


def test_what_is_far_behind_is_left_out() -> None:
    near, far = np.array([[0.0, 0.0, z] for z in (2, 2.5, 3)]), np.array([[0.0, 0.0, 40.0]])
    points = np.concatenate([near, far])
    np.testing.assert_array_equal(subject(points, np.eye(4)[None]), near)
