"""A surface with fewer vertices, for pictures and pages."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array
from recon.export.grid_cells import grid_cells
from recon.scene import Mesh


def thin_mesh(mesh: Mesh, most_vertices: int) -> Mesh:
    """Return ``mesh`` with at most ``most_vertices`` vertices, merged on a regular grid.

    Each cell's vertices become their mean; triangles that fall together go. Rossignac and Borrel's
    vertex clustering: plain, but quick and indifferent to holes.
    """
    used, faces = used_vertices(mesh)
    if len(used) <= most_vertices:
        return mesh
    cluster = grid_cells(mesh.vertices[used], most_vertices)
    count = int(cluster.max()) + 1
    faces = cluster[faces]
    apart = (faces != np.roll(faces, 1, axis=1)).all(axis=1)
    # Each triangle as one number, whose order is theirs.
    digits = count ** np.arange(2, -1, -1)
    names = np.sort(smallest_first(faces[apart]) @ digits)
    # Sorting takes a tenth of the time that NumPy's own search for what is different does.
    names = names[np.diff(names, prepend=-1) > 0]
    faces = names[:, None] // digits % count

    def mean(values: NDArray[Any]) -> Array:
        sums = [np.bincount(cluster, values[used, k], count) for k in range(3)]
        return np.stack(sums, axis=1) / np.bincount(cluster)[:, None]

    return Mesh(
        mean(mesh.vertices).astype(np.float32),
        faces.astype(np.int32),
        np.rint(mean(mesh.colours)).astype(np.uint8),
        mean(mesh.normals).astype(np.float32),
    )


def used_vertices(mesh: Mesh) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the vertices that triangles have, and the triangles (F, 3) by numbers among these."""
    used = np.flatnonzero(np.bincount(mesh.faces.ravel(), minlength=len(mesh.vertices)))
    number = np.zeros(len(mesh.vertices), np.int64)
    number[used] = np.arange(len(used))
    return used, number[mesh.faces]


def smallest_first(faces: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return ``faces`` (F, 3) each turned, not mirrored, to begin with its smallest index."""
    start = faces.argmin(axis=1)[:, None]
    return np.take_along_axis(faces, (start + np.arange(3)) % 3, axis=1)
