"""Where films go: past the cameras, round the scene, from photo to photo, through no wall."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from scene_factory import colours_at, make_scene
from view_maps import with_maps

from pointmap.camera import Array
from recon.reconstruction import Reconstruction
from recon.scene import Mesh, PointCloud
from viz.drawing.viewpoint import Viewpoint, photo_viewpoint
from viz.paths.flight import flight
from viz.paths.free_space import FreeSpace
from viz.paths.photo_to_photo import MOST_PHOTOS, photo_over, photo_to_photo
from viz.paths.turntable import turntable
from viz.video import write_video


def eyes_of(views: list[Viewpoint]) -> Array:
    return np.array([view.eye for view in views])


def centres_of(scene: Reconstruction) -> Array:
    return np.array([view.camera.cam_to_world[:3, 3] for view in scene.views])


def test_the_path_runs_smoothly_past_every_camera(tmp_path: Path) -> None:
    names = tuple(f"{k}.jpg" for k in (3, 0, 5, 1, 4, 2))
    scene = make_scene(tmp_path, names=names)
    # The order in which the photos were given jumps to and fro.
    order = (3, 0, 5, 1, 4, 2)
    scene = dataclasses.replace(scene, views=tuple(scene.views[k] for k in order))
    views = flight(scene, aspect=1.6)
    eyes, centres = eyes_of(views), centres_of(scene)
    apart = np.linalg.norm(eyes[:, None] - centres[None], axis=-1).min(axis=0)
    assert apart.max() < 0.05
    steps = np.linalg.norm(np.diff(eyes, axis=0), axis=1)
    assert steps.sum() < 1.1 * np.ptp(centres[:, 0])  # no camera is visited twice
    assert steps.max() < 2.5 * np.median(steps)
    assert np.abs(np.diff(eyes, n=2, axis=0)).max() < 0.2 * np.median(steps)  # no jerks
    for view, eye in zip(views, eyes, strict=True):
        axes = view.world_to_cam()[:3, :3]
        to_ball = -eye / np.linalg.norm(eye)
        assert axes[2] @ to_ball > 0.97
        assert axes[1] @ [0, 1, 0] > 0.9  # upright


def wall(z_low: float, z_high: float) -> Mesh:
    """A square wall at x = 0, from y = -5 to 5, that faces both ways."""
    corners = np.array([[0, y, z] for z in (z_low, z_high) for y in (-5, 5)], np.float32)
    faces = np.array([[0, 1, 2], [2, 1, 3]], np.int32)
    normals = np.tile(np.array([1, 0, 0], np.float32), (4, 1))
    return Mesh(corners, np.concatenate([faces, faces[:, ::-1]]), colours_at(corners), normals)


def with_wall(tmp_path: Path, z_high: float) -> Reconstruction:
    """Four cameras in a row at z of about -4, a wall between the second and the third; photos show
    all as empty up to 20.
    """
    scene = make_scene(tmp_path)
    views = tuple(with_maps(view, depth=0 * view.depth + 20) for view in scene.views)
    return dataclasses.replace(
        scene, views=views, surface=wall(-6.0, z_high), cloud=PointCloud.empty()
    )


def test_a_flight_goes_round_a_wall_and_keeps_off_it(tmp_path: Path) -> None:
    scene = with_wall(tmp_path, -3.5)
    views = flight(scene, aspect=1.6)
    eyes, free = eyes_of(views), FreeSpace(scene)
    assert free.clear(eyes[:-1], eyes[1:]).all()
    assert not free.clear(centres_of(scene)[1][None], centres_of(scene)[2][None])[0]
    assert free.room(eyes).min() >= 0.9 * free.clearance
    steps = np.linalg.norm(np.diff(eyes, axis=0), axis=1)
    assert steps.max() < 4 * np.median(steps)  # no cut


def test_a_flight_cuts_where_no_way_leads_on(tmp_path: Path) -> None:
    scene = with_wall(tmp_path, 30.0)
    views = flight(scene, aspect=1.6)
    eyes, free = eyes_of(views), FreeSpace(scene)
    crossing = ~free.clear(eyes[:-1], eyes[1:])
    assert crossing.sum() == 1
    side = eyes[:, 0] > 0
    assert side.any() and not side.all()
    assert np.linalg.norm(np.diff(eyes, axis=0), axis=1)[~crossing].max() < 0.1


def test_space_that_no_photo_saw_is_not_flown_through(tmp_path: Path) -> None:
    scene = with_wall(tmp_path, -3.5)
    blind = tuple(with_maps(view, depth=0 * view.depth) for view in scene.views)
    a, b = centres_of(scene)[1:3]
    assert FreeSpace(dataclasses.replace(scene, views=blind)).way(a, b) is None
    way = FreeSpace(scene).way(a, b)
    assert way is not None and way[0] == pytest.approx(a) and way[-1] == pytest.approx(b)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_photos_give_a_swing_that_loops(tmp_path: Path, count: int) -> None:
    scene = make_scene(tmp_path, names=("a.jpg", "b.jpg", "c.jpg")[:count])
    views = flight(scene, aspect=1.6)
    eyes, targets = (np.array([getattr(v, name) for v in views]) for name in ("eye", "target"))
    np.testing.assert_allclose(targets, targets[:1].repeat(len(views), axis=0))
    np.testing.assert_allclose(
        np.linalg.norm(eyes - targets, axis=1), np.linalg.norm(eyes[0] - targets[0])
    )
    steps = np.linalg.norm(eyes - np.roll(eyes, 1, axis=0), axis=1)
    assert steps.max() < 0.05 * np.linalg.norm(eyes[0] - targets[0])
    assert np.ptp(eyes[:, 0]) > 0.8 * np.linalg.norm(eyes[0] - targets[0])


def around(scene: Reconstruction, angles_deg: Array) -> Reconstruction:
    """The first view's camera turned about the y axis of the world by each of ``angles_deg``."""
    from scipy.spatial.transform import Rotation

    views = []
    for angle in angles_deg:
        turn = np.eye(4)
        turn[:3, :3] = Rotation.from_euler("y", angle, degrees=True).as_matrix()
        camera = scene.views[0].camera
        pose = turn @ camera.cam_to_world
        views.append(
            dataclasses.replace(
                scene.views[0], camera=dataclasses.replace(camera, cam_to_world=pose)
            )
        )
    return dataclasses.replace(scene, views=tuple(views))


@pytest.mark.parametrize(("sector", "round_"), [(300, True), (140, False)])
def test_a_turntable_turns_as_far_as_the_photos_saw(
    tmp_path: Path, sector: float, round_: bool
) -> None:
    scene = around(make_scene(tmp_path), np.linspace(0, sector, 12))
    views = turntable(scene, aspect=1.6, count=60)
    eyes = eyes_of(views)
    angles = np.unwrap(np.arctan2(eyes[:, 0], eyes[:, 2]))
    assert np.ptp(np.degrees(angles)) == pytest.approx(354 if round_ else sector, abs=8)
    # Whichever way: the film can be looped.
    steps = np.linalg.norm(eyes - np.roll(eyes, 1, axis=0), axis=1)
    assert steps.max() < 2.5 * steps.mean()
    if not round_:
        seen = centres_of(scene)
        outermost = eyes[[np.argmin(angles), np.argmax(angles)]][:, [0, 2]]
        ends = seen[[0, -1]][:, [0, 2]]
        cosines = (outermost @ ends.T) / np.outer(
            np.linalg.norm(outermost, axis=1), np.linalg.norm(ends, axis=1)
        )
        assert (cosines.max(axis=1) > 0.98).all()


def test_from_photo_to_photo_each_lies_over_its_own_view(tmp_path: Path) -> None:
    scene = make_scene(tmp_path, k1=-0.05, write_photos=True)
    frames = photo_to_photo(scene, aspect=1.6)
    stays = {}
    for frame in frames:
        if frame.share == 1:
            stays.setdefault(frame.index, frame.view)
    assert sorted(stays) == [0, 1, 2, 3]
    for index, view in stays.items():
        centre = scene.views[index].camera.cam_to_world[:3, 3]
        np.testing.assert_allclose(view.eye, centre, atol=1e-9)
    # Ball and wall come straight: as a pinhole with the film's field of view would see them.
    over, there = photo_over(scene.views[0], stays[0], 320, 200)
    from scene_factory import _render

    from pointmap.camera import pinhole
    from pointmap.lens import PINHOLE

    focal = 100 / np.tan(np.radians(stays[0].field_of_view_deg) / 2)
    pose = scene.views[0].camera.cam_to_world
    _, points = _render(pinhole(float(focal), 320, 200), pose, 320, 200, PINHOLE)
    whole = there == 1
    assert 0.4 < whole.mean() < 1
    off = np.abs(over[whole].astype(int) - colours_at(points)[whole])
    assert np.median(off) < 12


def test_many_photos_make_no_endless_film(tmp_path: Path) -> None:
    scene = around(make_scene(tmp_path), np.linspace(0, 60, 3 * MOST_PHOTOS))
    frames = photo_to_photo(dataclasses.replace(scene, surface=Mesh.empty()), aspect=1.6)
    assert len({frame.index for frame in frames}) == MOST_PHOTOS
    assert {0, 3 * MOST_PHOTOS - 1} <= {frame.index for frame in frames}


def test_the_film_of_photos_shows_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import cv2

    monkeypatch.setattr("viz.paths.photo_to_photo._STAY_FRAMES", 4)
    monkeypatch.setattr("viz.paths.photo_to_photo._FADE_FRAMES", 1)
    monkeypatch.setattr("viz.paths.photo_to_photo._FLY_FRAMES", 2)
    scene = make_scene(tmp_path, names=("a.jpg", "b.jpg"), write_photos=True)
    size = {"width": 160, "height": 96}
    reader = cv2.VideoCapture(str(write_video(scene, tmp_path / "f.mp4", film="photos", **size)))
    frames = [reader.read()[1][..., ::-1] for _ in range(4 + 2 + 4)]
    index = photo_to_photo(scene, aspect=160 / 96)[0].index
    view = photo_viewpoint(scene, index, aspect=160 / 96)
    over, there = photo_over(scene.views[index], view, 160, 96)
    whole = there == 1
    assert np.abs(frames[1].astype(int) - over)[whole].mean() < 16  # compression
    assert np.abs(frames[4].astype(int) - over)[whole].mean() > 20
