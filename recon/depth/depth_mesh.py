"""A mesh straight from one depth map: its pixels joined by triangles, cut at depth edges."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array, invert_rigid, project, transform_points, unproject
from recon.depth.derived_maps import depth_normals, depth_steps, remove_flying_pixels
from recon.scene import Mesh, TexturedMesh, View


def mesh_from_depth(view: View) -> Mesh:
    """Return the surface that the view's depth shows, in the world's frame.

    A vertex per known pixel that does not fly between surfaces; two triangles per square of four,
    along its flatter diagonal, none across a step between surfaces (:func:`depth_steps`). Seen from
    behind, faces are clockwise: their front is towards the camera. Empty without known depth.
    """
    assert view.camera.cam_to_world is not None
    depth = remove_flying_pixels(view.depth)
    K, lens = view.depth_intrinsics, view.camera.lens
    faces = _faces(depth)
    used = np.unique(faces)
    number = np.zeros(depth.size, np.int32)
    number[used] = np.arange(len(used), dtype=np.int32)
    points = unproject(depth, K, lens).reshape(-1, 3)[used]
    normals = depth_normals(depth, K, lens).reshape(-1, 3)[used]
    return Mesh(
        transform_points(view.camera.cam_to_world, points).astype(np.float32),
        number[faces],
        view.pixels.reshape(-1, 3)[used],
        (normals @ view.camera.cam_to_world[:3, :3].T).astype(np.float32),
    )


def under_photo(mesh: Mesh, view: View) -> TexturedMesh:
    """Return the mesh of :func:`mesh_from_depth` with the view's pixels as its texture."""
    assert view.camera.cam_to_world is not None
    camera = transform_points(invert_rigid(view.camera.cam_to_world), mesh.vertices)
    height, width = view.depth.shape
    uv = project(camera, view.depth_intrinsics, view.camera.lens) / [width, height]
    return TexturedMesh(mesh.vertices, mesh.faces, mesh.normals, uv.astype(np.float32), view.pixels)


def _faces(depth: Array) -> NDArray[np.int64]:
    """Return triangles (F, 3) of pixel numbers, counter-clockwise as the camera sees them."""
    height, width = depth.shape
    down, across = depth_steps(depth)
    known = depth > 0
    number = np.arange(depth.size).reshape(height, width)
    #  a b
    #  c d
    a, b, c, d = (number[y : height - 1 + y, x : width - 1 + x] for y in (0, 1) for x in (0, 1))
    know_a, know_b, know_c, know_d = (known.ravel()[corner] for corner in (a, b, c, d))
    top, bottom = ~across[:-1], ~across[1:]
    left, right = ~down[:, :-1], ~down[:, 1:]
    inverse = np.where(known, 1 / np.where(known, depth, 1), 0).ravel()
    falling = np.abs(inverse[a] - inverse[d]) <= np.abs(inverse[b] - inverse[c])
    # Without one corner the other diagonal may still hold a triangle.
    falling = np.where(know_a & know_d & ~(know_b & know_c), True, falling)
    falling = np.where(know_b & know_c & ~(know_a & know_d), False, falling)
    parts = (
        ((a, c, d), falling & know_a & know_c & know_d & left & bottom),
        ((a, d, b), falling & know_a & know_d & know_b & top & right),
        ((a, c, b), ~falling & know_a & know_c & know_b & left & top),
        ((b, c, d), ~falling & know_b & know_c & know_d & right & bottom),
    )
    return np.concatenate(
        [np.stack([corner[keep] for corner in corners], -1) for corners, keep in parts]
    )
