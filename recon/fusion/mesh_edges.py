"""The edges of a mesh: which are one, and which are its border."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Index


def edge_names(triangles: Index) -> tuple[Index, Index]:
    """Return the name of each corner's edge (3 F,), and how many edges have each name.

    Corner 3 f + k is that of triangle f (F, 3) at its k-th vertex; its edge goes to the next one.
    Edges between the same vertices have one name, whichever way they go.
    """
    start, end = triangles.ravel(), np.roll(triangles, -1, axis=1).ravel()
    key = np.minimum(start, end) * (int(triangles.max()) + 1) + np.maximum(start, end)
    _, name, count = np.unique(key, return_inverse=True, return_counts=True)
    return name.ravel(), count


def open_edges(triangles: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return the edges (E, 2) with a triangle on one side only, in that triangle's direction."""
    name, count = edge_names(triangles.astype(np.int64))
    return triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)[count[name] == 1]
