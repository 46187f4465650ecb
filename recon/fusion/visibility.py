"""What of a mesh each photo sees."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import (
    Array,
    invert_rigid,
    pixel_centres,
    pixel_rays,
    project,
    transform_points,
)
from pointmap.masks import eroded
from recon.scene import Mesh, View
from recon.stage_results import CONFIRMED

# A vertex this share behind what its pixel sees is hidden.
_TOLERANCE = 0.02


@dataclass(frozen=True)
class Visibility:
    """What one photo sees of a mesh: ``xy`` (V, 2) pixels of the vertices at the resolution of its
    depth, ``visible`` (V,) whether it sees them, ``size_px`` (F,) the area of each triangle that it
    sees whole and from the front, 0 for all others.
    """

    xy: Array
    visible: NDArray[np.bool_]
    size_px: NDArray[np.float32]


def mesh_visibility(mesh: Mesh, views: Iterable[View]) -> Iterator[Visibility]:
    """Yield what each of the (registered) views sees of the mesh."""
    import open3d as o3d
    import open3d.core as o3c

    caster = o3d.t.geometry.RaycastingScene()
    vertices, faces = np.ascontiguousarray(mesh.vertices), mesh.faces.astype(np.uint32)
    caster.add_triangles(o3c.Tensor.from_numpy(vertices), o3c.Tensor.from_numpy(faces))
    for view in views:
        yield _visibility(mesh, view, caster)


def _visibility(mesh: Mesh, view: View, caster: object) -> Visibility:
    cam_to_world = view.camera.cam_to_world
    assert cam_to_world is not None
    camera = transform_points(invert_rigid(cam_to_world), mesh.vertices)
    height, width = view.depth.shape
    xy = project(camera, view.depth_intrinsics, view.camera.lens)
    with np.errstate(invalid="ignore"):
        inside = np.all((xy >= 0) & (xy < [width, height]), axis=-1)
    xy = np.where(inside[:, None], xy, 0)
    column, row = xy.astype(int).T
    first = _first_depth(view, caster)
    visible = inside & (camera[:, 2] / (1 + _TOLERANCE) < first[row, column])
    if view.usable is not None:
        visible &= eroded(view.usable)[row, column]
    a, b, c = (xy[mesh.faces[:, k]] for k in range(3))
    # Triangles seen from the front turn clockwise in the photo, where y points down.
    ab, ac = b - a, c - a
    area = 0.5 * (ab[:, 1] * ac[:, 0] - ab[:, 0] * ac[:, 1])
    whole = visible[mesh.faces].all(axis=1)
    return Visibility(xy, visible, np.where(whole, np.maximum(area, 0), 0).astype(np.float32))


def _first_depth(view: View, caster: object) -> NDArray[np.float32]:
    """Return the depth (h, w) of what each pixel sees first, by the mesh and by the photo."""
    import cv2
    import open3d.core as o3c

    assert view.camera.cam_to_world is not None
    height, width = view.depth.shape
    rays = pixel_rays(pixel_centres(width, height), view.depth_intrinsics, view.camera.lens)
    # Not normalised: with z = 1, the distance along a ray is the depth.
    directions = rays @ view.camera.cam_to_world[:3, :3].T
    origins = np.broadcast_to(view.camera.cam_to_world[:3, 3], directions.shape)
    table = np.concatenate([origins, directions], -1).astype(np.float32)
    hits = caster.cast_rays(o3c.Tensor.from_numpy(table))  # type: ignore[attr-defined]
    depth = hits["t_hit"].numpy()
    # Confirmed depth of the photo itself tells of what the mesh lacks.
    sure = np.isfinite(view.depth) & (view.depth > 0) & (view.confidence >= CONFIRMED)
    depth = np.where(sure, np.minimum(depth, view.depth), depth)
    # A pixel beside an edge counts as the nearer side: its colour may come from there.
    nearest = cv2.erode(depth.astype(np.float32), np.ones((3, 3), np.uint8))
    return nearest.astype(np.float32)
