"""Small holes of a mesh closed, by triangles that face as the surface around them does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import open3d as o3d


def with_holes_closed(
    surface: o3d.geometry.TriangleMesh, radius: float
) -> o3d.geometry.TriangleMesh:
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
