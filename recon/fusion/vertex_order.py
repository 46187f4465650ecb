"""Vertices and triangles of a mesh in an order of their own: by where they lie."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import open3d as o3d

Real = TypeVar("Real", bound=np.floating)


def in_order(mesh: o3d.geometry.TriangleMesh) -> o3d.geometry.TriangleMesh:
    """Return the same mesh with vertices sorted by position, triangles by their vertices."""
    import open3d as o3d

    vertices, triangles = sorted_by_place(np.asarray(mesh.vertices), np.asarray(mesh.triangles))
    return o3d.geometry.TriangleMesh(
        o3d.utility.Vector3dVector(vertices), o3d.utility.Vector3iVector(triangles)
    )


def sorted_by_place(
    vertices: NDArray[Real], triangles: NDArray[np.integer]
) -> tuple[NDArray[Real], NDArray[np.int32]]:
    """Return vertices (V, 3) and triangles (F, 3) in order."""
    order = np.lexsort(vertices.T)
    place = np.empty(len(order), np.int32)
    place[order] = np.arange(len(order), dtype=np.int32)
    return vertices[order], _sorted(place[triangles], len(order))


def merged(
    vertices: NDArray[Real], triangles: NDArray[np.integer]
) -> tuple[NDArray[Real], NDArray[np.int32]]:
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
