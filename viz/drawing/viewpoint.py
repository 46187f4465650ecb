"""Where to look from: the upright frame of a scene, an automatic view point, camera outlines.

Everything here is NumPy geometry in the world frame (see :mod:`pointmap.camera`), shared by the
off-screen pictures, the window, the plots and the report's 3D view.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array, invert_rigid, pixel_rays, rigid, transform_points
from recon.export.glb import neighbour_distances
from recon.scene import Camera, Scene
from recon.world.frame import level_forward
from recon.world.gravity import cameras_up, level_up
from viz.drawing.subject import subject

FRUSTUM_EDGES: NDArray[np.int32] = np.array(
    [[0, 1], [0, 2], [0, 3], [0, 4], [1, 2], [2, 3], [3, 4], [4, 1]], np.int32
)
"""Edges (8, 2) between the vertices of :func:`frustum_vertices`."""

_SAMPLE = 50_000  # points that are enough to find a centre and an extent


@dataclass(frozen=True)
class SceneFrame:
    """An upright frame around the scene.

    ``axes`` (3, 3): columns are right, down and forward in the world, level with the horizon that
    the cameras suggest, forward being where they look. ``centre`` (3,): the middle of the scene.
    ``radius``: distance from the centre that holds 90 % of it, > 0.
    """

    centre: Array
    axes: Array
    radius: float

    def to_frame(self, points: NDArray[np.floating]) -> Array:
        """Return world ``points`` (..., 3) along right, down, forward from the centre."""
        return (np.asarray(points, np.float64) - self.centre) @ self.axes


@dataclass(frozen=True)
class Viewpoint:
    """A picture's view point: ``eye``, ``target``, ``up`` (3,) world, vertical field of view."""

    eye: Array
    target: Array
    up: Array
    field_of_view_deg: float = 42.0

    def world_to_cam(self) -> Array:
        """Return the 4x4 matrix into the OpenCV camera that looks from ``eye`` at ``target``."""
        cam_to_world = rigid(_look_axes(self.target - self.eye, self.up), self.eye)
        return invert_rigid(cam_to_world)


def registered_cameras(scene: Scene) -> list[tuple[int, Camera, Array]]:
    """Return (index into views, camera, cam_to_world) of the photos that were placed."""
    return [
        (index, view.camera, view.camera.cam_to_world)
        for index, view in enumerate(scene.views)
        if view.camera.cam_to_world is not None
    ]


def best_show(scene: Scene) -> Literal["mesh", "cloud"]:
    """Return what is worth showing first: the mesh, or the cloud where there is no mesh."""
    return "mesh" if len(scene.surface.faces) else "cloud"


def scene_frame(scene: Scene) -> SceneFrame:
    """Return the upright frame of ``scene``; of a scene without points or cameras too."""
    matrices = np.array([pose for _, _, pose in registered_cameras(scene)])
    matrices = matrices if len(matrices) else np.eye(4)[None]
    up = _up(scene, matrices)
    axes = _look_axes(level_forward(matrices[:, :3, 2], up), up)
    centres = matrices[:, :3, 3]
    points = subject(_sample_points(scene), matrices)
    if len(points) == 0:
        spread = float(np.ptp(centres, axis=0).max())
        radius = spread if spread > 0 else 1.0
        return SceneFrame(centres.mean(axis=0) + axes[:, 2] * radius, axes, radius)
    centre = np.median(points, axis=0)
    radius = float(np.percentile(np.linalg.norm(points - centre, axis=1), 90))
    return SceneFrame(centre, axes, radius if radius > 0 else 1.0)


def automatic_viewpoint(scene: Scene, *, aspect: float, yaw_deg: float = 14.0) -> Viewpoint:
    """Return a view from behind and above the cameras that shows scene and cameras.

    ``aspect`` is the picture's width / height. The view looks where the cameras look on average,
    ``yaw_deg`` to the side of it and lower, so that the depth of the scene shows.
    """
    frame = scene_frame(scene)
    poses = np.array([pose for _, _, pose in registered_cameras(scene)]).reshape(-1, 4, 4)
    forwards = poses[:, :3, 2] if len(poses) else frame.axes[:, 2][None]
    lowered = np.degrees(np.arcsin(np.clip((forwards @ frame.axes[:, 1]).mean(), -1, 1)))
    # A little steeper than the cameras look, neither along the ground nor straight down.
    pitch, yaw = np.radians([np.clip(lowered + 16.0, 20.0, 60.0), yaw_deg])
    direction = frame.axes @ np.array(
        [np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)]
    )
    points = subject(_sample_points(scene), poses)
    if len(points) == 0:
        points = frame.centre + frame.radius * np.vstack([np.eye(3), -np.eye(3)])
    centres = poses[:, :3, 3]
    near = np.linalg.norm(centres - frame.centre, axis=1) < 5 * frame.radius
    return _fit_view(points, centres[near], direction, -frame.axes[:, 1], aspect)


def photo_viewpoint(scene: Scene, index: int, *, aspect: float) -> Viewpoint:
    """Return the view of placed photo ``index``: from its centre, wide enough to hold all of it in
    a picture of ``aspect`` (width / height). The target lies at the photo's median depth.
    """
    view = scene.views[index]
    pose = view.camera.cam_to_world
    assert pose is not None
    depth = view.depth
    known = depth[np.isfinite(depth) & (depth > 0)]
    ahead = float(np.median(known)) if len(known) else scene_frame(scene).radius
    K, w, h = view.camera.intrinsics, view.camera.width, view.camera.height
    slope = max(h / 2 / K[1, 1], w / 2 / K[0, 0] / aspect)
    return Viewpoint(
        eye=pose[:3, 3],
        target=pose[:3, 3] + ahead * pose[:3, 2],
        up=-pose[:3, 1],
        field_of_view_deg=float(np.degrees(2 * np.arctan(slope))),
    )


def pointed_at(outlines: Sequence[Array], clip_from_world: Array, share: Array) -> int | None:
    """Return which camera of ``outlines`` (each (5, 3)) is drawn at ``share`` of the picture.

    ``share`` (2,) in [0, 1] from the top left; ``clip_from_world`` (4, 4) as OpenGL has it. The
    nearest of those whose photo or side covers the place; None beside them all.
    """
    best, nearest = None, np.inf
    place = np.array([2 * share[0] - 1, 1 - 2 * share[1]])
    for number, vertices in enumerate(outlines):
        clip = np.column_stack([vertices, np.ones(5)]) @ clip_from_world.T
        if (clip[:, 3] <= 0).any():
            continue
        flat = clip[:, :2] / clip[:, 3:]
        inside = any(
            _inside_triangle(place, flat[list(corners)])
            for corners in ((1, 2, 3), (1, 3, 4), (0, 1, 2), (0, 2, 3), (0, 3, 4), (0, 4, 1))
        )
        if inside and clip[0, 3] < nearest:
            best, nearest = number, clip[0, 3]
    return best


def _inside_triangle(place: Array, corners: Array) -> bool:
    """Return whether ``place`` (2,) lies within the triangle (3, 2), whichever way it turns."""
    edge, to_place = np.roll(corners, -1, axis=0) - corners, place - corners
    side = edge[:, 0] * to_place[:, 1] - edge[:, 1] * to_place[:, 0]
    return bool((side >= 0).all() or (side <= 0).all())


def _fit_view(
    points: Array, cameras: Array, direction: Array, up: Array, aspect: float
) -> Viewpoint:
    """Return the view along ``direction`` (3,) that holds most ``points`` and all ``cameras``."""
    axes = _look_axes(direction, up)
    view = Viewpoint(np.zeros(3), direction, up)
    # A margin of 8 % around what is to be seen.
    slope = 0.92 * np.tan(np.radians(view.field_of_view_deg) / 2)
    slopes = np.array([slope * aspect, slope])
    points, cameras = points @ axes, cameras @ axes
    bounds = np.vstack([np.percentile(points, [2, 98], axis=0), cameras])
    middle = (bounds.min(axis=0) + bounds.max(axis=0)) / 2

    def distances(seen: Array) -> Array:
        """How far back the eye must be for each point to be inside the picture."""
        return (np.abs(seen - middle)[:, :2] / slopes).max(axis=1) - (seen - middle)[:, 2]

    spread = float(np.linalg.norm(bounds.max(axis=0) - bounds.min(axis=0))) or 1.0
    # Not all points: a few far ones would make everything else small.
    distance = max(
        float(np.percentile(distances(points), 94)),
        float(distances(cameras).max(initial=0.0)),
        0.1 * spread,
    )
    target = axes @ middle
    return replace(view, eye=target - axes[:, 2] * distance, target=target)


def frustum_depth(scene: Scene) -> float:
    """Return how long to draw the camera outlines, in scene units.

    Half the usual distance between neighbouring cameras, within 5 to 16 % of the scene's radius.
    """
    radius = scene_frame(scene).radius
    centres = np.array([pose[:3, 3] for _, _, pose in registered_cameras(scene)])
    if len(centres) < 2:
        return 0.16 * radius
    apart = float(np.median(neighbour_distances(centres)))
    return float(np.clip(0.5 * apart, 0.05 * radius, 0.16 * radius))


def frustum_vertices(camera: Camera, cam_to_world: Array, depth: float) -> Array:
    """Return the outline (5, 3) of a camera in the world.

    Its centre, then the photo's corners at ``depth``, from the top left clockwise.
    """
    w, h = camera.width, camera.height
    pixels = np.array([[0, 0], [w, 0], [w, h], [0, h]], np.float64)
    rays = pixel_rays(pixels, camera.intrinsics, camera.lens) * depth
    return transform_points(cam_to_world, np.vstack([np.zeros(3), rays]))


def _sample_points(scene: Scene) -> Array:
    """Return up to 50k finite points (N, 3) of the cloud, else the mesh, else the tracks."""
    sources = (
        scene.cloud.points,
        scene.surface.vertices,
        scene.tracks.points,
    )
    for points in sources:
        finite = np.asarray(points, np.float64)[:: max(1, len(points) // _SAMPLE)]
        finite = finite[np.isfinite(finite).all(axis=1)]
        if len(finite):
            return finite
    return np.zeros((0, 3))


def _up(scene: Scene, cam_to_world: Array) -> Array:
    """Return the unit up direction (3,): the scene's, or what cameras (N, 4, 4) and normals say."""
    if scene.world.up is not None:
        return np.array(scene.world.up)
    return level_up(cameras_up(cam_to_world), scene.cloud.normals)


def _look_axes(forward: Array, up: Array) -> Array:
    """Return OpenCV camera axes (3, 3), columns right, down, forward, for a view direction."""
    forward = forward / np.linalg.norm(forward)
    right = np.cross(forward, up)
    if np.linalg.norm(right) < 1e-6:
        right = np.cross(forward, np.eye(3)[np.argmin(np.abs(forward))])
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(forward, right), forward], axis=1)
