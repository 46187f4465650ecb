"""Colours, view points and off-screen pictures."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import numpy as np
import pytest
from scene_factory import WALL_Z
from viz_scenes import ink

import viz.drawing.render
import viz.viewers.window
from pointmap.camera import invert_rigid, pinhole, project, transform_points
from recon.export.colour import UNKNOWN_GREY, camera_colours, confidence_to_rgb, depth_to_rgb
from recon.reconstruction import Reconstruction
from recon.scene import Mesh, PointCloud
from viz.drawing.colouring import COLOURINGS, cloud_colours, coloured_surface
from viz.drawing.render import BACKGROUND, render_scene
from viz.drawing.viewpoint import (
    Viewpoint,
    automatic_viewpoint,
    frustum_vertices,
    photo_viewpoint,
    pointed_at,
    scene_frame,
)

SIZE = {"width": 240, "height": 150}


def without_geometry(scene: Reconstruction) -> Reconstruction:
    return dataclasses.replace(scene, cloud=PointCloud.empty(), surface=Mesh.empty())


def unplaced(scene: Reconstruction) -> Reconstruction:
    views = [
        dataclasses.replace(v, camera=dataclasses.replace(v.camera, cam_to_world=None), reason="x")
        for v in scene.views
    ]
    return dataclasses.replace(scene, views=tuple(views))


# Colours


def test_depth_colours_run_from_warm_near_to_cold_far() -> None:
    depth = np.linspace(1, 10, 64, dtype=np.float32).reshape(8, 8)
    picture = depth_to_rgb(depth).astype(int)
    warmth = picture[..., 0] - picture[..., 2]
    assert picture.shape == (8, 8, 3)
    assert warmth[0, 0] > 100
    assert warmth[-1, -1] < -50


@pytest.mark.parametrize("unknown", [0.0, -1.0, np.nan, np.inf])
def test_unknown_depth_is_grey_and_leaves_the_rest_as_it_was(unknown: float) -> None:
    depth = np.linspace(1, 4, 400, dtype=np.float32).reshape(20, 20)
    holed = depth.copy()
    holed[3, 5] = unknown
    assert (depth_to_rgb(holed)[3, 5] == UNKNOWN_GREY).all()
    others = np.ones_like(depth, bool)
    others[3, 5] = False
    change = depth_to_rgb(holed)[others].astype(int) - depth_to_rgb(depth)[others]
    assert np.abs(change).max() < 20


def test_one_stray_depth_does_not_flatten_the_picture() -> None:
    depth = np.linspace(2, 4, 900, dtype=np.float32).reshape(30, 30)
    depth[0, 0] = 1e-4
    assert len(np.unique(depth_to_rgb(depth).reshape(-1, 3), axis=0)) > 50


def test_depth_without_any_contrast_or_content_gives_one_colour() -> None:
    assert len(np.unique(depth_to_rgb(np.full((4, 5), 2.5)).reshape(-1, 3), axis=0)) == 1
    assert (depth_to_rgb(np.zeros((4, 5))) == UNKNOWN_GREY).all()


def test_confidence_has_a_fixed_scale() -> None:
    whole = confidence_to_rgb(np.array([[0.0, 0.3, 0.6, 1.0]])).astype(int)
    assert (np.diff(whole.sum(axis=-1)) > 0).all()
    np.testing.assert_array_equal(confidence_to_rgb(np.array([[0.3]]))[0, 0], whole[0, 1])
    np.testing.assert_array_equal(confidence_to_rgb(np.array([[np.nan, 7.0]]))[0], whole[0, [0, 3]])


@pytest.mark.parametrize("count", [0, 1, 2, 30])
def test_cameras_have_different_colours(count: int) -> None:
    assert len(np.unique(camera_colours(count), axis=0)) == count


# View points


def test_automatic_viewpoint_holds_the_cameras_and_most_points(scene: Reconstruction) -> None:
    view = automatic_viewpoint(scene, aspect=1.6)
    focal = 100 / 2 / np.tan(np.radians(view.field_of_view_deg) / 2)
    K = pinhole(focal, 160, 100)

    def inside(points: np.ndarray) -> np.ndarray:
        pixels = project(transform_points(view.world_to_cam(), points), K)
        return ((pixels > 0) & (pixels < [160, 100])).all(axis=-1)

    centres = np.array([v.camera.cam_to_world[:3, 3] for v in scene.views])
    assert inside(centres).all()
    assert inside(scene.cloud.points).mean() > 0.85


def test_automatic_viewpoint_is_behind_above_and_upright(scene: Reconstruction) -> None:
    view = automatic_viewpoint(scene, aspect=1.6)
    centres = np.array([v.camera.cam_to_world[:3, 3] for v in scene.views])
    assert view.eye[2] < centres[:, 2].min()  # they look along +z
    assert view.eye[1] < centres[:, 1].min()  # up is -y
    world_up_in_picture = view.world_to_cam()[:3, :3] @ [0, -1, 0]
    assert abs(world_up_in_picture[0]) < 0.1
    assert world_up_in_picture[1] < -0.5


def test_the_frame_is_level_although_all_cameras_look_down(scene: Reconstruction) -> None:
    """Ups that lean with the pitch would tilt the horizon; the level x axes tell it."""
    views = []
    for k, view in enumerate(scene.views):
        yaw, pitch = np.radians([-40 + 25 * k, 35])
        turn = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
        c, s = np.cos(pitch), np.sin(pitch)
        pose = np.eye(4)
        pose[:3, :3] = turn @ np.array([[1, 0, 0], [0, c, s], [0, -s, c]])
        camera = dataclasses.replace(view.camera, cam_to_world=pose)
        views.append(dataclasses.replace(view, camera=camera))
    leaning = dataclasses.replace(without_geometry(scene), views=tuple(views))
    np.testing.assert_allclose(scene_frame(leaning).axes[:, 1], [0, 1, 0], atol=1e-6)


def test_the_floor_levels_the_frame_of_a_rolled_camera(scene: Reconstruction) -> None:
    rolled = np.radians(15)
    pose = np.eye(4)
    pose[:2, :2] = [[np.cos(rolled), -np.sin(rolled)], [np.sin(rolled), np.cos(rolled)]]
    view = dataclasses.replace(
        scene.views[0], camera=dataclasses.replace(scene.views[0].camera, cam_to_world=pose)
    )
    normals = np.tile(np.float32([[0, -1, 0], [0, 0, -1], [1, 0, 0]]), (50, 1))
    points = np.random.default_rng(0).normal(size=(150, 3)).astype(np.float32)
    cloud = dataclasses.replace(
        PointCloud.empty(),
        points=points,
        normals=normals,
        colours=np.zeros((150, 3), np.uint8),
        confidence=np.ones(150, np.float32),
    )
    frame = scene_frame(dataclasses.replace(scene, views=(view,), cloud=cloud))
    np.testing.assert_allclose(frame.axes[:, 1], [0, 1, 0], atol=1e-6)


@pytest.mark.parametrize(
    "change", [without_geometry, unplaced, lambda s: unplaced(without_geometry(s))]
)
def test_viewpoints_of_poor_scenes_are_finite(scene: Reconstruction, change: Any) -> None:
    view = automatic_viewpoint(change(scene), aspect=1.0)
    assert np.isfinite(view.world_to_cam()).all()
    assert np.linalg.norm(view.target - view.eye) > 0


def test_viewpoint_looks_at_its_target_with_up_up() -> None:
    view = Viewpoint(np.array([1.0, 2, 3]), np.array([4.0, 2, -1]), np.array([0.0, -1, 0]))
    in_camera = transform_points(view.world_to_cam(), np.array([[4.0, 2, -1], [4.0, 1, -1]]))
    np.testing.assert_allclose(in_camera, [[0, 0, 5], [0, -1, 5]], atol=1e-12)


def test_outlines_are_the_photos_corners(scene: Reconstruction) -> None:
    camera = scene.views[1].camera
    vertices = frustum_vertices(camera, camera.cam_to_world, 0.4)
    in_camera = transform_points(invert_rigid(camera.cam_to_world), vertices)
    np.testing.assert_allclose(in_camera[0], 0, atol=1e-12)
    np.testing.assert_allclose(in_camera[1:, 2], 0.4)
    w, h = camera.width, camera.height
    corners = [[0, 0], [w, 0], [w, h], [0, h]]
    np.testing.assert_allclose(project(in_camera[1:], camera.intrinsics), corners, atol=1e-9)


# Pictures


def test_pictures_show_what_is_asked_for(scene: Reconstruction, no_display: None) -> None:
    mesh = render_scene(scene, show="mesh", **SIZE)
    bare = render_scene(scene, show="mesh", cameras=False, **SIZE)
    cloud = render_scene(scene, show="cloud", cameras=False, **SIZE)
    for picture in (mesh, bare, cloud):
        assert picture.shape == (150, 240, 3)
        assert picture.dtype == np.uint8
        assert 0.02 < ink(picture).mean() < 0.9
    # The mesh is the ball alone, the cloud the wall behind it too.
    assert ink(cloud).sum() > 1.5 * ink(bare).sum()
    changed = (mesh != bare).any(axis=-1)
    assert 0.002 < changed.mean() < 0.2


def test_a_picture_projects_as_its_viewpoint_says(scene: Reconstruction, no_display: None) -> None:
    """From a photo's own camera the scene must look like the photo."""
    view = scene.views[0]  # 640x480
    pose = view.camera.cam_to_world
    fov = 2 * np.degrees(np.arctan(240 / view.camera.intrinsics[1, 1]))
    viewpoint = Viewpoint(pose[:3, 3], pose[:3, 3] + pose[:3, 2], -pose[:3, 1], float(fov))
    picture = render_scene(
        scene, show="mesh", cameras=False, width=320, height=240, viewpoint=viewpoint
    )
    K = pinhole(view.camera.intrinsics[1, 1] / 2, 320, 240)
    centre = project(transform_points(invert_rigid(pose), np.zeros(3)), K)
    rows, columns = np.nonzero(ink(picture))
    box_middle = [(columns.min() + columns.max() + 1) / 2, (rows.min() + rows.max() + 1) / 2]
    np.testing.assert_allclose(box_middle, centre, atol=2.5)


def test_empty_scenes_give_plain_pictures(scene: Reconstruction, no_display: None) -> None:
    nothing = render_scene(without_geometry(scene), cameras=False, **SIZE)
    np.testing.assert_array_equal(nothing, np.broadcast_to(BACKGROUND, nothing.shape))
    only_cameras = render_scene(without_geometry(scene), show="cloud", **SIZE)
    assert 0 < ink(only_cameras).mean() < 0.3


@pytest.mark.parametrize("show", ["mesh", "cloud"])
def test_without_opengl_numpy_draws_the_same_scene(
    scene: Reconstruction, no_display: None, monkeypatch: pytest.MonkeyPatch, show: Any
) -> None:
    drawn = ink(render_scene(scene, show=show, **SIZE))

    def fails(*_: Any) -> None:
        raise RuntimeError("no OpenGL context")

    monkeypatch.setattr(viz.drawing.render, "_open3d_drawer", fails)
    splatted = ink(render_scene(scene, show=show, **SIZE))
    assert (drawn & splatted).sum() > 0.6 * (drawn | splatted).sum()


def test_points_that_are_not_finite_are_left_out(scene: Reconstruction, no_display: None) -> None:
    points = scene.cloud.points.copy()
    points[0], points[1] = np.nan, 1e9
    odd = dataclasses.replace(scene, cloud=dataclasses.replace(scene.cloud, points=points))
    difference = ink(render_scene(odd, show="cloud", **SIZE)) ^ ink(
        render_scene(scene, show="cloud", **SIZE)
    )
    assert difference.mean() < 0.01


def test_rendering_leaves_the_display_settings_alone(
    scene: Reconstruction, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISPLAY", ":4242")
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    assert ink(render_scene(scene, **SIZE)).any()
    assert os.environ["DISPLAY"] == ":4242"
    assert "XDG_RUNTIME_DIR" not in os.environ


# What points are coloured by, and cameras that are clicked


def test_colourings_tell_depth_normals_and_confidence(scene: Reconstruction) -> None:
    coloured = (cloud_colours(scene, name).astype(int) for name in COLOURINGS)
    photo, depth, normal, confidence = coloured
    np.testing.assert_array_equal(photo, scene.cloud.colours)
    on_wall = scene.cloud.points[:, 2] == WALL_Z
    warmth = depth[:, 0] - depth[:, 2]
    assert warmth[on_wall].max() < warmth[scene.cloud.points[:, 2] < -0.95].min()
    # The wall faces the cameras: straight at the viewer, blue as in normal maps.
    towards = normal[on_wall].mean(axis=0)
    assert towards[2] > 245
    np.testing.assert_allclose(towards[:2], 127.5, atol=30)
    unsure = scene.cloud.confidence < 0.5
    assert confidence[unsure].sum(axis=1).max() < confidence[~unsure].sum(axis=1).min()


def test_the_surface_is_as_sure_as_the_points_on_it(scene: Reconstruction) -> None:
    shade = coloured_surface(scene, "confidence").colours.astype(int).sum(axis=1)
    x = scene.surface.vertices[:, 0]
    assert shade[x < -0.2].max() < shade[x > 0.2].min()
    without = dataclasses.replace(scene, cloud=PointCloud.empty())
    assert (coloured_surface(without, "confidence").colours == UNKNOWN_GREY).all()
    assert coloured_surface(without, "depth").colours.shape == scene.surface.vertices.shape


def test_the_camera_under_the_mouse_is_found(scene: Reconstruction) -> None:
    outlines = [frustum_vertices(v.camera, v.camera.cam_to_world, 0.4) for v in scene.views]
    view = automatic_viewpoint(scene, aspect=1.6)
    focal = 1 / np.tan(np.radians(view.field_of_view_deg) / 2)
    # OpenGL's camera looks along -z with y up; clip z does not matter here.
    clip = np.array([[focal / 1.6, 0, 0, 0], [0, -focal, 0, 0], [0, 0, 1, 0], [0, 0, 1, 0]])
    clip = clip @ view.world_to_cam()
    K = pinhole(focal * 50, 160, 100)
    for number, outline in enumerate(outlines):
        middle = project(transform_points(view.world_to_cam(), outline[1:].mean(axis=0)), K)
        assert pointed_at(outlines, clip, middle / [160, 100]) == number
    assert pointed_at(outlines, clip, np.array([0.01, 0.01])) is None
    # Seen from in front of it, what lies behind the eye is no target.
    assert pointed_at(outlines, np.diag([1.0, 1, 1, -1]) @ clip, np.array([0.5, 0.5])) is None


@pytest.mark.parametrize("aspect", [0.5, 1.6])
def test_a_photos_view_holds_the_whole_photo(scene: Reconstruction, aspect: float) -> None:
    view = scene.views[1]  # portrait
    seen = photo_viewpoint(scene, 1, aspect=aspect)
    corners = frustum_vertices(view.camera, view.camera.cam_to_world, 1.0)[1:]
    focal = 1 / np.tan(np.radians(seen.field_of_view_deg) / 2)
    share = project(transform_points(seen.world_to_cam(), corners), np.diag([focal, focal, 1.0]))
    reach = np.abs(share / [aspect, 1.0]).max(axis=0)
    # One of the sides fits, but for the photo's principal point.
    assert 0.97 < reach.max() < 1.03
