"""A 3D model put into a photo: the real scene hides what is behind it, and it shades the ground."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array, pixel_centres, pixel_rays, project, rigid, transform_points
from pointmap.errors import InputError
from viz.effects.photo_depth import PhotoDepth, place_in_photo

if TYPE_CHECKING:
    import trimesh

_SHARE_OF_HEIGHT = 0.25  # of the picture, when no size is given
_SAMPLES = 2  # rays across a pixel: smooth outlines
_SLACK = 0.01  # relative: how much a surface that the model stands on may be off
_DIRECTIONS = 40
_DARKEST, _SHADOW_REACH = 0.75, 1.5  # share of light taken away; in sizes of the model
_AMBIENT = 0.55


def load_model(path: Path) -> trimesh.Trimesh:
    """Return the model in ``path`` (.glb, .gltf, .obj, .ply, .stl) as one mesh, y up as in glTF.

    Raises ``InputError`` when it cannot be read or holds no surface.
    """
    import trimesh

    try:
        model: Any = trimesh.load(path, force="mesh")
    except Exception as error:  # loaders raise anything
        raise InputError(f"cannot read the model {path}: {error}") from error
    if not isinstance(model, trimesh.Trimesh) or len(model.faces) == 0:
        raise InputError(f"the model {path} holds no surface")
    return model


def vertex_colours(model: trimesh.Trimesh) -> Array:
    """Return the model's colour at each vertex, (V, 3) from 0 to 255; a texture is read there."""
    visual: Any = model.visual
    attributes = getattr(visual, "vertex_attributes", {})
    if "color" in attributes:
        linear = np.asarray(attributes["color"], np.float64)[:, :3]
        if np.issubdtype(np.asarray(attributes["color"]).dtype, np.integer):
            linear /= np.iinfo(attributes["color"].dtype).max
        # glTF's vertex colours are linear, see recon/export/glb.py.
        return 255 * np.clip(linear, 0, 1) ** (1 / 2.2)
    if hasattr(visual, "to_color"):
        if getattr(visual.material, "baseColorTexture", None) is None and (
            getattr(visual.material, "image", None) is None
        ):
            return np.broadcast_to(200.0, (len(model.vertices), 3))
        visual = visual.to_color()
    return np.asarray(visual.vertex_colors)[:, :3].astype(np.float64)


def place_model(
    photo: PhotoDepth,
    model: trimesh.Trimesh,
    *,
    at: tuple[float, float],
    size: float | None = None,
) -> NDArray[np.uint8]:
    """Return ``photo`` (h, w, 3) with ``model`` standing on what is seen at ``at``.

    ``at``: (x, y) in shares of the picture. ``size``: the model's height in units of the depth, by
    default a quarter of the picture's. The model (y up, z its front) stands upright and turns its
    front to the camera. What the photo shows nearer hides it; the ground darkens by the share of
    the sky that it takes (ambient occlusion). Raises ``InputError`` for a place outside the
    picture.
    """
    y, x = place_in_photo(photo, at)
    K, depth = photo.intrinsics, float(photo.depth[y, x])
    foot = pixel_rays(np.array([x + 0.5, y + 0.5]), K, photo.lens) * depth
    height = size or _SHARE_OF_HEIGHT * depth * photo.depth.shape[0] / float(K[1, 1])
    axes = _standing(photo.up, foot)
    vertices = np.asarray(model.vertices, np.float64)
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    if not high[1] > low[1]:
        raise InputError("the model has no height: it has to stand with y up")
    middle = np.array([(low[0] + high[0]) / 2, low[1], (low[2] + high[2]) / 2])
    placed = transform_points(
        rigid(axes, foot), (vertices - middle) * (height / (high[1] - low[1]))
    )
    caster = _caster(placed, model)
    light = _light(photo, caster, foot, height)[..., None]
    picture: Array = photo.pixels.astype(np.float64) * light
    _draw(picture, photo, caster, placed, model, axes[:, 1])
    return np.rint(np.clip(picture, 0, 255)).astype(np.uint8)


def _standing(up: Array, foot: Array) -> Array:
    """Return the model's axes (3, 3), columns x, y, z, in the camera's frame: z to the camera."""
    front = -foot - (-foot @ up) * up
    if np.linalg.norm(front) < 1e-6 * np.linalg.norm(foot):
        front = np.cross(up, [1.0, 0.0, 0.0])
    front /= np.linalg.norm(front)
    return np.stack([np.cross(up, front), up, front], axis=1)


def _caster(vertices: Array, model: trimesh.Trimesh) -> Any:
    import open3d as o3d

    caster = o3d.t.geometry.RaycastingScene()
    caster.add_triangles(
        o3d.core.Tensor.from_numpy(vertices.astype(np.float32)),
        o3d.core.Tensor.from_numpy(np.array(model.faces, np.uint32)),
    )
    return caster


def _light(photo: PhotoDepth, caster: Any, foot: Array, height: float) -> NDArray[np.float32]:
    """Return how much light (h, w) the model leaves to what the photo shows, in [0, 1]."""
    import cv2
    import open3d as o3d

    h, w = photo.depth.shape
    points = pixel_rays(pixel_centres(w, h), photo.intrinsics, photo.lens) * photo.depth[..., None]
    near = np.linalg.norm(points - foot, axis=-1) < (1 + _SHADOW_REACH) * height
    starts = points[near] + 0.01 * height * photo.up
    taken = np.zeros(len(starts), np.float32)
    directions = _hemisphere(photo.up)
    for direction in directions:
        rays = np.hstack([starts, np.broadcast_to(direction, starts.shape)]).astype(np.float32)
        hit = caster.test_occlusions(
            o3d.core.Tensor.from_numpy(rays), tnear=0.0, tfar=float((1 + _SHADOW_REACH) * height)
        )
        taken += hit.numpy()
    light = np.ones((h, w), np.float32)
    light[near] -= _DARKEST * np.minimum(1, 1.6 * taken / len(directions))
    # Few directions leave steps.
    width = max(1.0, 0.03 * height * float(photo.intrinsics[1, 1]) / foot[2])
    return np.asarray(cv2.GaussianBlur(light, (0, 0), width), np.float32)


def _hemisphere(up: Array) -> Array:
    """Return directions (N, 3) about ``up``, dense where light falls steeply (Malley's method)."""
    k = np.arange(_DIRECTIONS) + 0.5
    radius, angle = np.sqrt(k / _DIRECTIONS), k * np.pi * (3 - np.sqrt(5))
    level = _standing(up, np.array([0.0, 0.0, 1.0]))
    flat = np.stack(
        [radius * np.cos(angle), np.sqrt(1 - radius**2), radius * np.sin(angle)], axis=1
    )
    return flat @ level.T


def _draw(
    picture: Array,
    photo: PhotoDepth,
    caster: Any,
    vertices: Array,
    model: trimesh.Trimesh,
    up: Array,
) -> None:
    """Draw the model over ``picture`` (h, w, 3), where nothing of the photo is before it."""
    import open3d as o3d

    h, w = photo.depth.shape
    ahead = vertices[vertices[:, 2] > 1e-6]
    if len(ahead) == 0:
        return
    seen = project(ahead, photo.intrinsics, photo.lens)
    left, top = np.clip(np.floor(seen.min(axis=0)).astype(int) - 1, 0, [w, h])
    right, bottom = np.clip(np.ceil(seen.max(axis=0)).astype(int) + 1, 0, [w, h])
    if right <= left or bottom <= top:
        return
    n = _SAMPLES
    across, down = n * (right - left), n * (bottom - top)
    pixels = pixel_centres(across, down) / n + [left, top]
    along = pixel_rays(pixels, photo.intrinsics, photo.lens)
    rays = np.concatenate([np.zeros_like(along), along], axis=-1).astype(np.float32)
    cast = caster.cast_rays(o3d.core.Tensor.from_numpy(rays))
    depth = cast["t_hit"].numpy()  # the rays' z is 1
    real = photo.depth[top:bottom, left:right].repeat(n, axis=0).repeat(n, axis=1)
    shown = np.isfinite(depth) & (depth < real * (1 + _SLACK))
    faces = np.asarray(model.faces)[cast["primitive_ids"].numpy()[shown]]
    u, v = cast["primitive_uvs"].numpy()[shown].T
    weights = np.stack([1 - u - v, u, v], axis=1)[..., None]
    colours = vertex_colours(model)
    normals = cast["primitive_normals"].numpy()[shown].astype(np.float64)
    normals *= -np.sign(np.einsum("ij,ij->i", normals, along[shown]))[:, None]
    lamp = up - 0.6 * along[shown].mean(axis=0) if shown.any() else up
    lit = _AMBIENT + (1 - _AMBIENT) * np.maximum(normals @ (lamp / np.linalg.norm(lamp)), 0)
    drawn = np.zeros((down, across, 4))
    drawn[shown, :3] = (colours[faces] * weights).sum(axis=1) * lit[:, None]
    drawn[shown, 3] = 1
    drawn = drawn.reshape(bottom - top, n, right - left, n, 4).mean(axis=(1, 3))
    part = picture[top:bottom, left:right]
    part *= 1 - drawn[..., 3:]
    part += drawn[..., :3]
