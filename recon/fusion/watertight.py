"""A closed surface, to print: what was seen stays, what nobody saw is closed smoothly.

Screened Poisson reconstruction (Kazhdan and Hoppe 2013, by Open3D) closes an object that was seen
from all around. A place that was seen from inside, or ground that goes on, has no back: its solid
is cut off by a box.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array
from recon.fusion.tsdf import in_order

if TYPE_CHECKING:
    import open3d as o3d

# Levels of the octree whose finest cells are about a voxel: fewer are too coarse for anything, more
# take gigabytes; and those of a first look for where the solid is.
_DEPTHS, _FIRST_DEPTH = (5, 10), 6
# The box stands off by this share of the scene's longest side, and has so many points along it.
_MARGIN, _BOX_POINTS = 0.03, 96
# The octree's cube is so many times as large as what lies in it.
_SCALE = 1.2


def closed_surface(surface: o3d.geometry.TriangleMesh, voxel: float) -> o3d.geometry.TriangleMesh:
    """Return the surface closed, the boundary of a solid that lies behind it, with normals outward.

    Every edge of the result has two triangles.
    """

    surface.compute_vertex_normals()
    points, normals = np.asarray(surface.vertices), np.asarray(surface.vertex_normals)
    longest = float(np.ptp(points, axis=0).max())
    depth = int(np.clip(np.ceil(np.log2(_SCALE * longest / voxel)), *_DEPTHS))
    first = _poisson(points, normals, min(depth, _FIRST_DEPTH))
    if len(_open_edges(np.asarray(first.triangles))):
        box, outward = _box_around(points, _MARGIN * longest)
        within = _behind(box, first)
        points = np.concatenate([points, box[within]])
        normals = np.concatenate([normals, outward[within]])
    return in_order(_with_lids(_largest(_poisson(points, normals, depth))))


def _poisson(points: Array, normals: Array, depth: int) -> o3d.geometry.TriangleMesh:
    import open3d as o3d

    cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(points))
    cloud.normals = o3d.utility.Vector3dVector(normals)
    # Threads add up in another order each time.
    mesh, _ = o3d.geometry.TriangleMesh.create_from_point_cloud_poisson(
        cloud, depth=depth, scale=_SCALE, n_threads=1
    )
    return mesh


def _box_around(points: Array, margin: float) -> tuple[Array, Array]:
    """Return points (P, 3) evenly on the sides of the box around ``points``, and its normals."""
    low, high = points.min(axis=0) - margin, points.max(axis=0) + margin
    step = (high - low).max() / _BOX_POINTS
    places, outward = [], []
    for axis in range(3):
        others = [k for k in range(3) if k != axis]
        grid = np.meshgrid(*(np.arange(low[k], high[k] + step / 2, step) for k in others))
        for side, sign in ((low, -1.0), (high, 1.0)):
            face = np.full((grid[0].size, 3), side[axis])
            face[:, others] = np.stack([g.ravel() for g in grid], axis=1)
            places.append(face)
            outward.append(np.broadcast_to(sign * np.eye(3)[axis], face.shape))
    return np.concatenate(places), np.concatenate(outward)


def _behind(points: Array, mesh: o3d.geometry.TriangleMesh) -> NDArray[np.bool_]:
    """Return which points (P, 3) lie behind the triangle that is nearest to them."""
    import open3d as o3d
    import open3d.core as o3c

    scene = o3d.t.geometry.RaycastingScene()
    scene.add_triangles(o3d.t.geometry.TriangleMesh.from_legacy(mesh))
    nearest = scene.compute_closest_points(o3c.Tensor.from_numpy(points.astype(np.float32)))
    away = points - nearest["points"].numpy()
    return np.asarray((away * nearest["primitive_normals"].numpy()).sum(axis=1) < 0)


def _largest(mesh: o3d.geometry.TriangleMesh) -> o3d.geometry.TriangleMesh:
    """Return the piece of most triangles."""
    labels, counts, _ = (np.asarray(found) for found in mesh.cluster_connected_triangles())
    mesh.remove_triangles_by_mask(labels != counts.argmax())
    mesh.remove_unreferenced_vertices()
    return mesh


def _open_edges(triangles: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return the edges (E, 2) with a triangle on one side only, in that triangle's direction."""
    edges = triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    _, number, count = np.unique(
        np.sort(edges, axis=1), axis=0, return_inverse=True, return_counts=True
    )
    return np.asarray(edges[count[number.ravel()] == 1])


def _with_lids(mesh: o3d.geometry.TriangleMesh) -> o3d.geometry.TriangleMesh:
    """Return the mesh with each border that is left closed by a fan around its middle."""
    import open3d as o3d
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    triangles, vertices = np.asarray(mesh.triangles), np.asarray(mesh.vertices)
    edges = _open_edges(triangles)
    if not len(edges):
        return mesh
    ends, numbered = np.unique(edges, return_inverse=True)
    start, end = numbered.reshape(-1, 2).T
    joined = coo_matrix((np.ones(len(start), bool), (start, end)), shape=(len(ends), len(ends)))
    count, border = connected_components(joined, directed=False)
    members = np.bincount(border, minlength=count)[:, None]
    middles = np.stack([np.bincount(border, vertices[ends, k], count) for k in range(3)], 1)
    # Its direction turned round, so that the lid faces as the triangle behind the edge does.
    lids = np.column_stack([edges[:, ::-1], len(vertices) + border[start]])
    return o3d.geometry.TriangleMesh(
        o3d.utility.Vector3dVector(np.concatenate([vertices, middles / members])),
        o3d.utility.Vector3iVector(np.concatenate([triangles, lids]).astype(np.int32)),
    )
