"""From the raw surface of the volume to a mesh worth keeping."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from recon.fusion.closed_holes import with_holes_closed
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
        return Mesh.empty(), counts
    counts |= _remove_floaters(surface, options.min_component)
    before = len(surface.triangles)
    if options.fill_holes > 0:
        surface = with_holes_closed(surface, options.fill_holes * voxel)
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


def _fewer(surface: o3d.geometry.TriangleMesh, most: int) -> o3d.geometry.TriangleMesh:
    import open3d as o3d

    vertices, triangles = fewer_triangles(
        np.asarray(surface.vertices), np.asarray(surface.triangles), most
    )
    return o3d.geometry.TriangleMesh(
        o3d.utility.Vector3dVector(vertices), o3d.utility.Vector3iVector(triangles)
    )
