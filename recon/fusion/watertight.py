"""A closed surface, to print: what was seen stays, what nobody saw is closed smoothly.

Screened Poisson reconstruction (Kazhdan and Hoppe 2013, by Open3D) closes an object that was seen
from all around. A place that was seen from inside, or ground that goes on, has no back: its solid
is cut off by a box.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array, Index
from recon.fusion.mesh_edges import edge_names, open_edges
from recon.fusion.pieces_of_mesh import pieces_of
from recon.fusion.vertex_order import in_order

if TYPE_CHECKING:
    import open3d as o3d

# Levels of the octree whose finest cells are about a voxel: fewer are too coarse for anything, more
# take gigabytes; and those of a first look for where the solid is.
_DEPTHS, _FIRST_DEPTH = (5, 10), 6
# The box stands off by this share of the scene's longest side, and has so many points along it.
_MARGIN, _BOX_POINTS = 0.03, 96
# Share of a voxel by which vertices in one place are moved apart.
_APART = 0.02
# The octree's cube is so many times as large as what lies in it.
_SCALE = 1.2


def closed_surface(surface: o3d.geometry.TriangleMesh, voxel: float) -> o3d.geometry.TriangleMesh:
    """Return the surface closed, the boundary of a solid that lies behind it, with normals outward.

    It has no border, but sheets may touch: :func:`solid` takes them apart.
    """
    surface.compute_vertex_normals()
    points, normals = np.asarray(surface.vertices), np.asarray(surface.vertex_normals)
    longest = float(np.ptp(points, axis=0).max())
    depth = int(np.clip(np.ceil(np.log2(_SCALE * longest / voxel)), *_DEPTHS))
    first = _poisson(points, normals, min(depth, _FIRST_DEPTH))
    if len(open_edges(np.asarray(first.triangles))):
        box, outward = _box_around(points, _MARGIN * longest)
        within = _behind(box, first)
        points = np.concatenate([points, box[within]])
        normals = np.concatenate([normals, outward[within]])
    return in_order(_with_lids(_largest(_poisson(points, normals, depth))))


def solid(surface: o3d.geometry.TriangleMesh, voxel: float) -> o3d.geometry.TriangleMesh:
    """Return a surface without a border as programs for printing want it: every edge has two
    triangles, no two vertices are in one place, and all hangs together.

    Where sheets touch, along an edge or in a vertex, each gets vertices of its own, which move a
    fiftieth of a voxel into the solid. Poisson's surfaces and simplified ones touch themselves.
    """
    import open3d as o3d

    vertices, triangles = np.asarray(surface.vertices), np.asarray(surface.triangles, np.int64)
    while True:
        vertices, triangles, edges = _sheets_apart(vertices, triangles)
        # Two vertices may have two edges between them all the same.
        name, count = edge_names(triangles)
        double = count[name[edges[0]]] > 2
        if not double.any():
            break
        vertices, triangles = _divided(vertices, triangles, edges[:, double])
    apart = o3d.geometry.TriangleMesh(
        o3d.utility.Vector3dVector(_each_in_its_place(vertices, triangles, _APART * voxel)),
        o3d.utility.Vector3iVector(triangles.astype(np.int32)),
    )
    return in_order(_largest(apart))


def _sheets_apart(vertices: Array, triangles: Index) -> tuple[Array, Index, Index]:
    """Return vertices (V', 3) and triangles (F, 3) of a surface whose sheets no longer share any,
    and the edges (2, E), by their corners, that run against each other.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    name, count = edge_names(triangles)
    order = np.argsort(name, kind="stable")
    starts = np.cumsum(count) - count
    simple = starts[count == 2]
    pairs = [np.stack([order[simple], order[simple + 1]])]
    for start, size in zip(starts[count > 2].tolist(), count[count > 2].tolist(), strict=True):
        pairs.append(_around_an_edge(vertices, triangles, order[start : start + size]))
    edges = np.concatenate(pairs, axis=1)
    after = np.roll(np.arange(triangles.size).reshape(-1, 3), -1, axis=1).ravel()
    first, second = edges
    joined = np.concatenate([[first, after[second]], [after[first], second]], axis=1)
    graph = coo_matrix((np.ones(joined.shape[1], bool), joined), shape=2 * (triangles.size,))
    found, corner = connected_components(graph, directed=False)
    own = np.empty((found, 3))
    own[corner] = vertices[triangles.ravel()]
    return own, corner.reshape(-1, 3).astype(np.int64), edges


def _divided(vertices: Array, triangles: Index, edges: Index) -> tuple[Array, Index]:
    """Return the surface with a vertex in the middle of each of the ``edges`` (2, E), as far as no
    triangle has two of them.
    """
    taken: set[int] = set()
    chosen = []
    for number, (f, g) in enumerate((edges // 3).T.tolist()):
        if f not in taken and g not in taken:
            taken |= {f, g}
            chosen.append(number)
    middle = len(vertices) + np.tile(np.arange(len(chosen)), 2)
    corners = edges[:, chosen].ravel()
    face, k = corners // 3, corners % 3
    a, b, c = (triangles[face, (k + n) % 3] for n in range(3))
    between = (vertices[a] + vertices[b])[: len(chosen)] / 2
    kept = np.delete(triangles, face, axis=0)
    halves = np.stack([a, middle, c], 1), np.stack([middle, b, c], 1)
    return np.concatenate([vertices, between]), np.concatenate([kept, *halves])


def _each_in_its_place(vertices: Array, triangles: Index, step: float) -> Array:
    """Return the vertices (V, 3), those that are in one place (in single precision, as files have
    it) moved inwards, by ``step``, twice that and so on.
    """
    a, b, c = (vertices[triangles[:, k]] for k in range(3))
    across = np.repeat(np.cross(b - a, c - a), 3, axis=0)
    outward = np.stack([np.bincount(triangles.ravel(), x, len(vertices)) for x in across.T], 1)
    outward = outward / np.maximum(np.linalg.norm(outward, axis=1, keepdims=True), 1e-300)
    single = vertices.astype(np.float32)
    order = np.lexsort(single.T)
    new = np.concatenate([[True], (np.diff(single[order], axis=0) != 0).any(axis=1)])
    start = np.maximum.accumulate(np.where(new, np.arange(len(new)), 0))
    rank, size = np.arange(len(new)) - start, np.bincount(np.cumsum(new) - 1)[np.cumsum(new) - 1]
    moved = np.zeros(len(vertices))
    moved[order] = np.where(size > 1, 1 + rank, 0)
    return vertices - step * moved[:, None] * outward


def _around_an_edge(vertices: Array, triangles: Index, edges: Index) -> Index:
    """Return pairs (2, P) of the ``edges`` of all triangles around one edge: turning about it, each
    that the solid begins at, with the next one at which it ends.
    """
    face, k = edges // 3, edges % 3
    start, end, tip = (triangles[face, (k + n) % 3] for n in range(3))
    a, b = vertices[start[0]], vertices[end[0]]
    along = (b - a) / max(float(np.linalg.norm(b - a)), 1e-300)
    side = np.eye(3)[np.argmin(np.abs(along))]
    side -= (side @ along) * along
    to_tip = vertices[tip] - a
    order = np.argsort(np.arctan2(to_tip @ np.cross(along, side), to_tip @ side), kind="stable")
    # A triangle whose edge runs along it has its outside where the angle grows.
    ends_it = start[order] == start[0]
    begins, stops = np.flatnonzero(~ends_it), np.flatnonzero(ends_it)
    if len(begins) != len(stops):
        return np.empty((2, 0), np.int64)
    following = int(np.searchsorted(stops, begins[0]))
    return np.stack([edges[order[begins]], edges[order[np.roll(stops, -following)]]])


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
    piece, counts = pieces_of(mesh)
    mesh.remove_triangles_by_mask(piece != counts.argmax())
    mesh.remove_unreferenced_vertices()
    return mesh


def _with_lids(mesh: o3d.geometry.TriangleMesh) -> o3d.geometry.TriangleMesh:
    """Return the mesh with each border that is left closed by a fan around its middle."""
    import open3d as o3d
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    triangles, vertices = np.asarray(mesh.triangles), np.asarray(mesh.vertices)
    edges = open_edges(triangles)
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
