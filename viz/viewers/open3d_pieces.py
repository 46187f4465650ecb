"""Pieces of a scene for Open3D's two windows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array
from recon.scene import Scene
from viz.pages.report_photos import shrunk

if TYPE_CHECKING:
    import open3d as o3d

_THUMBNAIL = 256  # long side of the photo in a camera's outline, pixels


def photo_quad(
    corners: Array, *, picture: NDArray[np.uint8] | None = None
) -> o3d.geometry.TriangleMesh:
    """Return the rectangle of ``corners`` (4, 3), from the top left clockwise, seen from both sides
    and with texture coordinates. The plain window also takes its texture from it: ``picture``
    (h, w, 3).
    """
    import open3d as o3d

    front = np.array([[0, 1, 2], [0, 2, 3]])
    faces = np.concatenate([front, front[:, ::-1]])
    quad = o3d.geometry.TriangleMesh(
        o3d.utility.Vector3dVector(corners), o3d.utility.Vector3iVector(faces)
    )
    uv = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    quad.triangle_uvs = o3d.utility.Vector2dVector(uv[faces].reshape(-1, 2))
    quad.compute_vertex_normals()
    quad.paint_uniform_color([1.0, 1.0, 1.0])  # the default grey would darken the photo
    if picture is not None:
        quad.textures = [image(picture)]
        quad.triangle_material_ids = o3d.utility.IntVector([0] * len(faces))
    return quad


def material(shader: str) -> Any:
    """Return a material record of ``shader``."""
    from open3d.visualization import rendering

    material = rendering.MaterialRecord()
    material.shader = shader
    return material


def image(picture: NDArray[np.uint8]) -> o3d.geometry.Image:
    """Return ``picture`` (h, w, 3) as Open3D's image."""
    import open3d as o3d

    return o3d.geometry.Image(np.ascontiguousarray(picture))  # type: ignore[call-overload]


def drawn_as_is(levels: NDArray[Any]) -> Array:
    """Return values in [0, 1] that Filament draws at ``levels`` (0 to 255).

    It takes backgrounds and textures (not vertex colours) for sRGB and, without tone mapping, puts
    the linear light out: the curve has to be undone beforehand.
    """
    share = levels / 255.0
    return np.where(share <= 0.0031308, 12.92 * share, 1.055 * share ** (1 / 2.4) - 0.055)


def thumbnail(scene: Scene, index: int) -> NDArray[np.uint8]:
    """Return photo ``index`` at thumbnail size, (h, w, 3)."""
    return shrunk(scene.views[index].pixels, _THUMBNAIL)
