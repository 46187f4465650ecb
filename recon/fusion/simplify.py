"""Fewer triangles for the same surface (quadric error, Garland and Heckbert 1997)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array, Index
from recon.fusion.mesh_edges import open_edges
from recon.fusion.vertex_order import merged
from recon.scene import Mesh

# How soon fast_simplification takes edges of a larger error: of 1.2 million vertices of a street
# 5 left as exact a surface as Open3D's heap in a twelfth of the time, 7 one 1.3 times as far off.
_AGGRESSIVENESS = 5.0
# Triangles at once: the library keeps 300 bytes of each until it is called again.
_AT_ONCE = 400_000
# Open3D's border counts so much more than what is inside: it would be eaten first.
_BORDER_WEIGHT = 3.0


def simplified(mesh: Mesh, max_triangles: int) -> Mesh:
    """Return the mesh with about so many triangles at most, its colours averaged."""
    if len(mesh.faces) <= max_triangles:
        return mesh
    vertices, faces = fewer_triangles(mesh.vertices, mesh.faces, max_triangles)
    return Mesh(
        vertices.astype(np.float32),
        faces,
        _averaged(mesh, vertices),
        _normals(vertices, faces),
    )


def fewer_triangles(
    vertices: NDArray[np.floating], triangles: NDArray[np.int32], most: int
) -> tuple[Array, NDArray[np.int32]]:
    """Return vertices (V, 3) and triangles (F, 3) of about the same surface, ``most`` triangles at
    most where Open3D can have so few.
    """
    places = vertices.astype(np.float64)
    # What is quick keeps a border as it is, which is to leave enough for the rest.
    quick = max(most, 2 * len(open_edges(triangles)))
    if quick < len(triangles):
        places, triangles = _quickly(places, triangles, quick / len(triangles))
    if len(triangles) > most:
        places, triangles = _by_open3d(places, triangles, most)
    return places, triangles


def _quickly(
    vertices: Array, triangles: NDArray[np.int32], share: float
) -> tuple[Array, NDArray[np.int32]]:
    """Return a ``share`` of the triangles, borders kept; made in parts of space."""
    from fast_simplification import simplify

    parts, count = [], 0
    for rows in _parts(vertices[triangles].mean(axis=1)):
        used, corners = np.unique(triangles[rows], return_inverse=True)
        own, faces = simplify(
            vertices[used],
            corners.reshape(-1, 3).astype(np.int32),
            target_count=max(1, int(share * len(rows))),
            agg=_AGGRESSIVENESS,
            preserve_border=True,
        )
        parts.append((own, faces + count))
        count += len(own)
    return merged(*(np.concatenate(some) for some in zip(*parts, strict=True)))


def _parts(centres: Array) -> list[Index]:
    """Return the numbers of the triangles with ``centres`` (F, 3) in parts of about one size."""
    waiting, parts = [np.arange(len(centres))], []
    while waiting:
        rows = waiting.pop()
        if len(rows) <= _AT_ONCE:
            parts.append(rows)
            continue
        axis = int(np.ptp(centres[rows], axis=0).argmax())
        order = np.argsort(centres[rows, axis], kind="stable")
        waiting += [rows[order[len(rows) // 2 :]], rows[order[: len(rows) // 2]]]
    return parts


def _by_open3d(
    vertices: Array, triangles: NDArray[np.int32], most: int
) -> tuple[Array, NDArray[np.int32]]:
    import open3d as o3d

    mesh = o3d.geometry.TriangleMesh(
        o3d.utility.Vector3dVector(vertices), o3d.utility.Vector3iVector(triangles)
    )
    mesh = mesh.simplify_quadric_decimation(most, boundary_weight=_BORDER_WEIGHT)
    return np.asarray(mesh.vertices), np.asarray(mesh.triangles)


def _averaged(mesh: Mesh, vertices: Array) -> NDArray[np.uint8]:
    """Return for each of the ``vertices`` (V, 3) the mean colour (V, 3) of those it stands for."""
    from scipy.spatial import cKDTree

    nearest = cKDTree(vertices).query(mesh.vertices)[1]
    count = np.bincount(nearest, minlength=len(vertices))
    sums = [np.bincount(nearest, channel, len(vertices)) for channel in mesh.colours.T]
    colours = np.stack(sums, axis=-1) / np.maximum(count, 1)[:, None]
    alone = count == 0
    if alone.any():
        colours[alone] = mesh.colours[cKDTree(mesh.vertices).query(vertices[alone])[1]]
    return np.round(colours).astype(np.uint8)


def _normals(vertices: Array, triangles: NDArray[np.int32]) -> NDArray[np.float32]:
    import open3d as o3d

    mesh = o3d.geometry.TriangleMesh(
        o3d.utility.Vector3dVector(vertices), o3d.utility.Vector3iVector(triangles)
    )
    return np.asarray(mesh.compute_vertex_normals().vertex_normals, np.float32)
