"""A tiny exact renderer for tests: planes and spheres ray-cast in NumPy under a solid texture.

Depth is the analytic intersection at the pixel centre (+0.5 convention), so it is true to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pointmap.camera import (
    Array,
    invert_rigid,
    pinhole,
    pixel_centres,
    pixel_rays,
    project,
    rigid,
    transform_points,
)
from pointmap.lens import PINHOLE, Lens
from recon.scene import Camera, LoadedMaps, Tracks, View


@dataclass(frozen=True)
class Plane:
    """All points p with ``normal . p == offset``, seen only from ``normal . p < offset``.

    ``contrast`` 0 paints it plain.
    """

    normal: tuple[float, float, float]
    offset: float
    contrast: float = 1.0


@dataclass(frozen=True)
class Sphere:
    centre: tuple[float, float, float]
    radius: float
    contrast: float = 1.0


Surface = Plane | Sphere

# y points down: a floor at y = 1, two walls meeting behind three balls.
ROOM: tuple[Surface, ...] = (
    Plane((0.0, 1.0, 0.0), 1.0),
    Plane((0.2, 0.0, 1.0), 2.2),
    Plane((1.0, 0.0, -0.3), 2.4),
    Plane((-1.0, 0.0, -0.3), 2.4),
    Sphere((-0.6, 0.4, 0.2), 0.6),
    Sphere((0.7, 0.6, -0.2), 0.4),
    Sphere((0.2, 0.75, -0.9), 0.25),
)


@dataclass(frozen=True)
class Shot:
    """One rendered photo: ``pixels`` (h, w, 3) uint8, true ``depth`` (h, w) float32, its camera."""

    pixels: NDArray[np.uint8]
    depth: NDArray[np.float32]
    intrinsics: Array
    cam_to_world: Array
    lens: Lens = PINHOLE


def solid_texture(points: Array, wavelength: float = 0.25, seed: int = 0) -> Array:
    """Return colours (..., 3) in [0, 1]: random 3D waves of lengths around ``wavelength``."""
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(36, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    lengths = wavelength * np.exp(rng.uniform(-1.0, 1.0, 36))
    waves = np.sin(points @ (directions * (2 * np.pi / lengths[:, None])).T + rng.uniform(0, 6, 36))
    return np.clip(0.5 + waves @ rng.normal(size=(36, 3)) * 0.05, 0, 1)


def render(
    intrinsics: Array,
    cam_to_world: Array,
    width: int,
    height: int,
    *,
    surfaces: Sequence[Surface] = ROOM,
    wavelength: float = 0.25,
    lens: Lens = PINHOLE,
) -> Shot:
    """Ray-cast ``surfaces`` through every pixel centre; pixels that miss get depth 0 and black."""
    rays = pixel_rays(pixel_centres(width, height), intrinsics, lens) @ cam_to_world[:3, :3].T
    origin = cam_to_world[:3, 3]
    depth = np.full((height, width), np.inf)
    contrast = np.zeros((height, width))
    for surface in surfaces:
        with np.errstate(divide="ignore", invalid="ignore"):
            z = _hit(surface, rays, origin)
        nearer = (z > 1e-6) & (z < depth)
        depth[nearer], contrast[nearer] = z[nearer], surface.contrast
    missed = ~np.isfinite(depth)
    depth[missed] = 0
    colour = solid_texture(origin + rays * depth[..., None], wavelength) - 0.5
    colour = 0.5 + colour * contrast[..., None]
    colour[missed] = 0
    pixels = np.round(colour * 255).astype(np.uint8)
    return Shot(pixels, depth.astype(np.float32), intrinsics, cam_to_world, lens)


def _hit(surface: Surface, rays: Array, origin: Array) -> Array:
    """Return z-depth (h, w) of the first hit in front; NaN or <= 0 where there is none."""
    if isinstance(surface, Plane):
        normal = np.array(surface.normal)
        return max(surface.offset - origin @ normal, 0.0) / (rays @ normal)
    to_origin = origin - np.array(surface.centre)
    a, b = (rays**2).sum(-1), rays @ to_origin
    c = to_origin @ to_origin - surface.radius**2
    return (-b - np.sqrt(b**2 - a * c)) / a


def look_at(position: Array, target: Array) -> Array:
    """Return cam_to_world (4, 4) of an upright camera (world y down) at ``position``."""
    forward = np.asarray(target, float) - position
    forward /= np.linalg.norm(forward)
    right = np.cross([0.0, 1.0, 0.0], forward)
    right /= np.linalg.norm(right)
    return rigid(np.stack([right, np.cross(forward, right), forward], axis=1), position)


def arc_of_cameras(count: int, *, radius: float = 4.0, span_deg: float = 60.0) -> list[Array]:
    """Return ``count`` cam_to_world on an arc in front of ROOM, all looking at its middle."""
    angles = np.radians(np.linspace(-span_deg / 2, span_deg / 2, count))
    heights = -0.6 - 0.3 * np.cos(np.arange(count) * 2.0)
    middle = np.array([0.0, 0.3, 0.3])
    return [
        look_at(np.array([radius * np.sin(a), y, -radius * np.cos(a)]), middle)
        for a, y in zip(angles, heights, strict=True)
    ]


def shoot(
    count: int,
    *,
    width: int = 160,
    height: int = 120,
    span_deg: float = 60.0,
    wavelength: float = 0.25,
    surfaces: Sequence[Surface] = ROOM,
    lens: Lens = PINHOLE,
) -> list[Shot]:
    """Render ``count`` photos of ``surfaces`` from an arc of cameras."""
    K = pinhole(0.95 * width, width, height)
    return [
        render(K, pose, width, height, surfaces=surfaces, wavelength=wavelength, lens=lens)
        for pose in arc_of_cameras(count, span_deg=span_deg)
    ]


def save_photo(shot: Shot, path: Path, **options: Any) -> Path:
    """Write a photo and return its file; folders are made, ``options`` are Pillow's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(shot.pixels).save(path, **options)
    return path


def save_photos(shots: Sequence[Shot], folder: Path) -> list[Path]:
    """Write photos as 0.png, 1.png, ... and return their files."""
    return [save_photo(shot, folder / f"{k}.png") for k, shot in enumerate(shots)]


def visible(shot: Shot, points: Array, tolerance: float = 0.01) -> tuple[Array, NDArray[np.bool_]]:
    """Return pixels (P, 2) of world points and whether the photo truly sees each."""
    camera_points = transform_points(invert_rigid(shot.cam_to_world), points)
    height, width = shot.depth.shape
    xy = project(camera_points, shot.intrinsics, shot.lens)
    inside = np.isfinite(xy).all(-1) & (xy >= 0).all(-1) & (xy < [width, height]).all(-1)
    column, row = np.where(inside[:, None], xy, 0).astype(int).T
    z = camera_points[:, 2]
    return xy, inside & (np.abs(shot.depth[row, column] - z) < tolerance * z)


def sample_tracks(shots: Sequence[Shot], per_shot: int = 60, seed: int = 0) -> Tracks:
    """Return exact tracks: random pixels of every photo, seen where they are truly visible."""
    rng = np.random.default_rng(seed)
    points = []
    for shot in shots:
        height, width = shot.depth.shape
        row, column = rng.integers(0, height, per_shot), rng.integers(0, width, per_shot)
        hit = shot.depth[row, column] > 0
        xy = np.stack([column + 0.5, row + 0.5], -1)[hit]
        camera = pixel_rays(xy, shot.intrinsics, shot.lens) * shot.depth[row, column][hit, None]
        points.append(transform_points(shot.cam_to_world, camera))
    world = np.concatenate(points)
    rows = []
    for index, shot in enumerate(shots):
        xy, seen = visible(shot, world)
        rows.append((np.flatnonzero(seen), np.full(seen.sum(), index), xy[seen]))
    point_index, view_index, xy = (np.concatenate(column) for column in zip(*rows, strict=True))
    return Tracks(world, np.zeros((len(world), 3), np.uint8), point_index, view_index, xy)


def view_of(shot: Shot, *, shift_px: float = 0.0, **changes: np.ndarray) -> View:
    """The exact photo as a view; ``shift_px`` moves its principal point to break the convention."""
    height, width = shot.depth.shape
    intrinsics = shot.intrinsics.copy()
    intrinsics[:2, 2] += shift_px
    exact = {
        "depth": shot.depth,
        "confidence": np.ones(shot.depth.shape, np.float32),
        "pixels": shot.pixels,
    }
    camera = Camera(intrinsics, width, height, shot.cam_to_world, shot.lens)
    return View("a.jpg", Path("a.jpg"), camera, LoadedMaps(**(exact | changes)))
