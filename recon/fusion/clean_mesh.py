"""From the raw surface of the volume to a mesh worth keeping."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from recon.fusion.options import FusionOptions
from recon.fusion.pieces_of_mesh import pieces_of
from recon.fusion.simplify import fewer_triangles
from recon.fusion.usable_depth import inside_box
from recon.fusion.watertight import closed_surface, solid
from recon.scene import Mesh

if TYPE_CHECKING:
    import open3d as o3d


def clean(
    surface: o3d.geometry.TriangleMesh, voxel: float, options: FusionOptions
) -> tuple[Mesh, dict[str, float]]:
    """Return the finished mesh, still grey, and what was found and removed in numbers.

    In this order: crop, floaters away, small holes closed, all closed if asked for, smoothed,
    simplified; what was closed is made a solid.
    """
    surface.remove_degenerate_triangles()
    if options.crop is not None:
        outside = ~inside_box(np.asarray(surface.vertices), options.crop)
        surface.remove_vertices_by_mask(outside.tolist())
    counts: dict[str, float] = {"triangles_before_cleaning": len(surface.triangles)}
    if not len(surface.triangles):
        return empty_mesh(), counts
    counts |= _remove_floaters(surface, options.min_component)
    before = len(surface.triangles)
    if options.fill_holes > 0:
        surface = _closed(surface, options.fill_holes * voxel)
    counts["triangles_closing_holes"] = len(surface.triangles) - before
    if options.watertight:
        surface = closed_surface(surface, voxel)
    if options.smooth:
        from open3d.geometry import FilterScope

        surface = surface.filter_smooth_taubin(options.smooth, filter_scope=FilterScope.Vertex)
    if options.decimate is not None and len(surface.triangles) > options.decimate:
        surface = _fewer(surface, options.decimate)
    if options.watertight:
        surface = solid(surface, voxel)
    surface.compute_vertex_normals()
    vertices = np.asarray(surface.vertices, np.float32)
    mesh = Mesh(
        vertices,
        np.asarray(surface.triangles, np.int32),
        np.full(vertices.shape, 128, np.uint8),
        np.asarray(surface.vertex_normals, np.float32),
    )
    return mesh, counts


def empty_mesh() -> Mesh:
    """Return a mesh without a triangle."""
    none = np.zeros((0, 3), np.float32)
    return Mesh(none, np.zeros((0, 3), np.int32), np.zeros((0, 3), np.uint8), none)


def _remove_floaters(surface: o3d.geometry.TriangleMesh, min_component: float) -> dict[str, float]:
    piece, counts = pieces_of(surface)
    # Relative to the whole, but never more than the largest piece.
    small = counts < min(min_component * counts.sum(), counts.max())
    surface.remove_triangles_by_mask(small[piece])
    surface.remove_unreferenced_vertices()
    return {
        "pieces": len(counts),
        "floaters_removed": int(small.sum()),
        "floater_triangles_removed": int(counts[small].sum()),
    }


def _closed(surface: o3d.geometry.TriangleMesh, radius: float) -> o3d.geometry.TriangleMesh:
    """Return the surface with holes up to ``radius`` closed by triangles between old vertices.

    They face where the surface around them does. A triangle that juts into a hole, both of whose
    sides there are border, goes: what closes the hole takes its place.
    """
    import open3d as o3d

    tensors = o3d.t.geometry.TriangleMesh.from_legacy(surface)  # the result shares its memory
    closed = tensors.fill_holes(hole_size=radius).to_legacy()
    triangles = np.array(closed.triangles)
    before = len(surface.triangles)
    # The filter behind it (VTK's) winds them against the old ones: whoever draws no backs would
    # show the holes still.
    if _against(triangles[before:], triangles[:before]):
        triangles[before:] = triangles[before:, ::-1].copy()
    closed.triangles = o3d.utility.Vector3iVector(triangles[~_twice(triangles, before)])
    closed.remove_unreferenced_vertices()
    return closed


def _against(added: NDArray[np.int32], old: NDArray[np.int32]) -> bool:
    """Return whether triangles ``added`` (F, 3) to ``old`` ones (G, 3) are wound against them.

    Of two triangles that face one way each has their edge in a direction of its own.
    """
    at_holes = np.zeros(int(max(added.max(initial=0), old.max(initial=0))) + 1, bool)
    at_holes[added] = True
    beside = old[at_holes[old].sum(axis=1) > 1]
    added_edges, old_edges = (t[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2) for t in (added, beside))
    one_number = np.array([1 << 32, 1])
    here = old_edges @ one_number
    same, opposite = added_edges @ one_number, added_edges[:, ::-1] @ one_number
    return bool(np.isin(here, same).sum() > np.isin(here, opposite).sum())


def _twice(triangles: NDArray[np.int32], before: int) -> NDArray[np.bool_]:
    """Return which triangles (F,), the first ``before`` of them old, are another one's back.

    Of a lone triangle, whose border was closed, only the back is named.
    """
    uses = np.bincount(triangles[:before].ravel(), minlength=int(triangles.max(initial=0)) + 1)
    at_holes = np.zeros(len(uses), bool)
    at_holes[triangles[before:]] = True
    near = np.flatnonzero(at_holes[triangles].all(axis=1))
    _, name, count = np.unique(
        np.sort(triangles[near], axis=1), axis=0, return_inverse=True, return_counts=True
    )
    alone = (uses[triangles[near]] == 1).all(axis=1)
    twice = np.zeros(len(triangles), bool)
    twice[near] = (count[name.ravel()] > 1) & ~(alone & (near < before))
    return twice


def _fewer(surface: o3d.geometry.TriangleMesh, most: int) -> o3d.geometry.TriangleMesh:
    import open3d as o3d

    vertices, triangles = fewer_triangles(
        np.asarray(surface.vertices), np.asarray(surface.triangles), most
    )
    return o3d.geometry.TriangleMesh(
        o3d.utility.Vector3dVector(vertices), o3d.utility.Vector3iVector(triangles)
    )
