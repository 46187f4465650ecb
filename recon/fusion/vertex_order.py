"""Vertices and triangles of a mesh in an order of their own: by where they lie."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array

if TYPE_CHECKING:
    import open3d as o3d


def in_order(mesh: o3d.geometry.TriangleMesh) -> o3d.geometry.TriangleMesh:
    """Return the same mesh with vertices sorted by position, triangles by their vertices."""
    import open3d as o3d

    vertices = np.asarray(mesh.vertices)
    order = np.lexsort(vertices.T)
    place = np.empty(len(order), np.int32)
    place[order] = np.arange(len(order), dtype=np.int32)
    triangles = _sorted(place[np.asarray(mesh.triangles)], len(order))
    return o3d.geometry.TriangleMesh(
        o3d.utility.Vector3dVector(vertices[order]), o3d.utility.Vector3iVector(triangles)
    )


def merged(vertices: Array, triangles: NDArray[np.integer]) -> tuple[Array, NDArray[np.int32]]:
    """Return vertices (V, 3) and triangles (F, 3) in order; vertices at one place become one."""
    order = np.lexsort(vertices.T)
    ordered = vertices[order]
    first = np.ones(len(order), bool)
    first[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    place = np.empty(len(order), np.int32)
    place[order] = np.cumsum(first, dtype=np.int32) - 1
    return ordered[first], _sorted(place[triangles], int(first.sum()))


def _sorted(triangles: NDArray[np.integer], vertices: int) -> NDArray[np.int32]:
    from recon.fusion.compiled_order import sorted_triangles

    ordered: NDArray[np.int32] = sorted_triangles(
        np.ascontiguousarray(triangles, np.int32), vertices
    )
    return ordered
