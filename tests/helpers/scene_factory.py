"""A small synthetic Reconstruction with exact truth, for tests of what takes one.

Cameras on an arc look at a coloured ball of radius 1 before a wall; depth comes from ray
intersection, so every number in the scene is known.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from synthetic import look_at

from pointmap.camera import (
    Array,
    invert_rigid,
    pixel_centres,
    pixel_rays,
    project,
    transform_points,
)
from pointmap.lens import Lens
from recon.reconstruction import Reconstruction
from recon.scene import (
    Camera,
    LoadedMaps,
    Mesh,
    PairRecord,
    PointCloud,
    StageRecord,
    Tracks,
    View,
)

WALL_Z = 3.0
UNREGISTERED = "c ü.jpg"
NAMES = ("a.jpg", "b b.jpg", UNREGISTERED, "d.jpg", "e.jpg")


def make_scene(
    photo_folder: Path,
    *,
    names: Sequence[str] = ("a.jpg", "b.jpg", "c.jpg", "d.jpg"),
    unregistered: Collection[str] = (),
    write_photos: bool = False,
    track_noise_px: float = 0.5,
    seed: int = 0,
    k1: float = 0.0,
) -> Reconstruction:
    """Return a scene of one view per name.

    Every other photo is portrait (480x640, own focal and principal point); depth is a tenth of the
    photo's size. Photos named in ``unregistered`` have no pose and a reason. ``write_photos`` puts
    real pictures into ``photo_folder``.
    """
    rng = np.random.default_rng(seed)
    views = []
    for index, name in enumerate(names):
        angle = np.linspace(-0.4, 0.4, len(names))[index] if len(names) > 1 else 0.0
        view = _view(
            photo_folder / name, name, index, angle, placed=name not in unregistered, k1=k1
        )
        views.append(view)
        if write_photos:
            _write_photo(view)
    cloud = _cloud(views)
    return Reconstruction(
        views=tuple(views),
        tracks=_tracks(views, rng, track_noise_px),
        cloud=cloud,
        surface=_ball_mesh(),
        pairs=(PairRecord(0, 1, 200, 150, "essential", True),) if len(names) > 1 else (),
        stages=(StageRecord("alignment", 1.25, 321.5, 2.25), StageRecord("fusion", 0.5, 400.0)),
        warnings=("c.jpg: example warning",),
        options={"seed": seed, "voxel": None, "photos": photo_folder.name},
    )


def make_mixed_scene(photo_folder: Path) -> Reconstruction:
    """Return the scene of ``NAMES``, file names with a space and an umlaut among them, of which
    ``UNREGISTERED`` has no pose.
    """
    return make_scene(photo_folder, names=NAMES, unregistered={UNREGISTERED})


def placed(scene: Reconstruction) -> list[View]:
    """Return the views that have a pose."""
    return [view for view in scene.views if view.registered]


def colours_at(points: Array) -> np.ndarray:
    """Return the scene's colour at world points (..., 3): a smooth pattern, uint8."""
    wave = 0.5 + 0.5 * np.sin(points * [5.0, 6.0, 7.0] + [0.0, 1.0, 2.0])
    return np.round(wave * 255).astype(np.uint8)


def _pose(angle: float) -> Array:
    """A camera 4 units from the ball and ``angle`` radians to the side, looking at it."""
    return look_at(4 * np.array([np.sin(angle), -0.15, -np.cos(angle)]), np.zeros(3))


def _view(path: Path, name: str, index: int, angle: float, *, placed: bool, k1: float) -> View:
    width, height = (480, 640) if index % 2 else (640, 480)
    focal_x = 610.0 + 10 * (index % 2)
    focal_y = 610.0 + 13 * (index % 2)
    K = np.array([[focal_x, 0, width / 2 + 3], [0, focal_y, height / 2 - 2], [0, 0, 1]])
    pose = _pose(angle)
    camera = Camera(K, width, height, pose if placed else None, Lens.radial(k1))
    h, w = height // 10, width // 10
    depth, points = _render(camera.intrinsics_at(w, h), pose, w, h, Lens.radial(k1))
    depth[0, 0] = 0.0
    return View(
        name=name,
        path=path,
        camera=camera,
        maps=LoadedMaps(
            pixels=colours_at(points),
            depth=depth.astype(np.float32),
            confidence=np.linspace(0, 1, h * w, dtype=np.float32).reshape(h, w),
        ),
        reason=None if placed else "too few matches with the other photos",
    )


def _render(K: Array, pose: Array, width: int, height: int, lens: Lens) -> tuple[Array, Array]:
    """z-depth (h, w) and world points (h, w, 3) of the first hit: the ball, else the wall."""
    rays = pixel_rays(pixel_centres(width, height), K, lens) @ pose[:3, :3].T
    centre = pose[:3, 3]
    wall = (WALL_Z - centre[2]) / rays[..., 2]
    a, b, c = (rays**2).sum(-1), rays @ centre, centre @ centre - 1
    root = b**2 - a * c
    ball = np.where(root > 0, (-b - np.sqrt(np.maximum(root, 0))) / a, np.inf)
    depth = np.minimum(ball, wall)
    return depth, centre + rays * depth[..., None]


def _tracks(views: list[View], rng: np.random.Generator, noise_px: float) -> Tracks:
    """Points on the ball's near side, seen by every placed camera that it faces."""
    directions = rng.normal(size=(60, 3))
    points = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    points = points[points[:, 2] < -0.4]
    point_index, view_index, positions = [], [], []
    for index, view in enumerate(views):
        if view.camera.cam_to_world is None:
            continue
        facing = ((view.camera.cam_to_world[:3, 3] - points) * points).sum(1) > 0
        rows = np.flatnonzero(facing)
        in_camera = transform_points(invert_rigid(view.camera.cam_to_world), points[rows])
        positions.append(project(in_camera, view.camera.intrinsics, view.camera.lens))
        point_index.append(rows)
        view_index.append(np.full(len(rows), index))
    if not positions:
        return Tracks.empty()
    xy = np.concatenate(positions)
    return Tracks(
        points=points,
        colours=colours_at(points),
        point_index=np.concatenate(point_index).astype(np.int64),
        view_index=np.concatenate(view_index).astype(np.int64),
        xy=xy + rng.normal(scale=noise_px, size=xy.shape) if noise_px else xy,
    )


def _cloud(views: list[View]) -> PointCloud:
    parts = []
    for view in views:
        if view.camera.cam_to_world is not None:
            h, w = view.depth.shape
            pose, lens = view.camera.cam_to_world, view.camera.lens
            _, points = _render(view.depth_intrinsics, pose, w, h, lens)
            parts.append(points[1::5, 1::5].reshape(-1, 3))
    points = np.concatenate([*parts, np.zeros((0, 3))])
    on_ball = np.abs(np.linalg.norm(points, axis=1) - 1) < 1e-6
    normals = np.where(on_ball[:, None], points, [0.0, 0.0, -1.0])
    return PointCloud(
        points=points.astype(np.float32),
        colours=colours_at(points),
        normals=normals.astype(np.float32),
        confidence=np.linspace(0.2, 1, len(points), dtype=np.float32),
    )


def _ball_mesh(rows: int = 12, columns: int = 24) -> Mesh:
    """The ball as a grid of latitudes and longitudes, poles left open."""
    latitude, longitude = np.meshgrid(
        np.linspace(-1.4, 1.4, rows), np.arange(columns) * 2 * np.pi / columns, indexing="ij"
    )
    points = np.stack(
        [
            np.cos(latitude) * np.cos(longitude),
            np.sin(latitude),
            np.cos(latitude) * np.sin(longitude),
        ],
        axis=-1,
    ).reshape(-1, 3)
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b = index[:-1], np.roll(index, -1, axis=1)[:-1]
    c, d = np.roll(index, -1, axis=1)[1:], index[1:]
    faces = np.concatenate([np.stack([a, d, c], -1), np.stack([a, c, b], -1)]).reshape(-1, 3)
    return Mesh(
        vertices=points.astype(np.float32),
        faces=faces.astype(np.int32),
        colours=colours_at(points),
        normals=points.astype(np.float32),
    )


def _write_photo(view: View) -> None:
    from PIL import Image

    view.path.parent.mkdir(parents=True, exist_ok=True)
    size = (view.camera.width, view.camera.height)
    Image.fromarray(view.pixels).resize(size).save(view.path)
