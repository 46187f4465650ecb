"""Which triangles of a mesh hang together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import open3d as o3d


def pieces_of(mesh: o3d.geometry.TriangleMesh) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the piece (F,) of each triangle, from 0 on, and how many triangles each piece has.

    By shared vertices; Open3D's own clusters (by shared edges) take ten times as long.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    faces = np.asarray(mesh.triangles)
    start, end = faces[:, :2].T.ravel(), faces[:, 1:].T.ravel()
    count = len(mesh.vertices)
    joined = coo_matrix((np.ones(len(start), bool), (start, end)), shape=(count, count))
    of_triangle = connected_components(joined, directed=False)[1][faces[:, 0]]
    counts = np.bincount(of_triangle)
    # Vertices without a triangle are no pieces.
    number = np.cumsum(counts > 0) - 1
    return number[of_triangle], counts[counts > 0]
