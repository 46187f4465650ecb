"""The scene as the report's 3D view takes it: small enough to sit inside the page.

Points and vertices are thinned and stored as 16-bit steps of their box, in the upright frame of
:func:`viz.drawing.viewpoint.scene_frame` turned to the axes of WebGL (x right, y up, z towards the
viewer) and scaled to radius 1.
"""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array
from recon.export.colour import camera_colours
from recon.scene import Mesh, PointCloud, Scene
from viz.drawing.render import BACKGROUND
from viz.drawing.viewpoint import (
    FRUSTUM_EDGES,
    SceneFrame,
    automatic_viewpoint,
    frustum_depth,
    frustum_vertices,
    photo_viewpoint,
    registered_cameras,
    scene_frame,
)

_REACH = 6.0  # in radii: what lies farther out would cost the rest its precision
_MOST_SEARCHED = 1_000_000  # points among which the page's are chosen


def scene_data(
    reconstruction: Scene, *, most_points: int = 60_000, most_vertices: int = 30_000
) -> dict[str, Any]:
    """Return the scene as JSON-ready values for ``viz/pages/viewer.js``.

    At most ``most_points`` points and about ``most_vertices`` mesh vertices are kept. ``cloud`` and
    ``mesh`` are None where the scene has none.
    """
    frame = scene_frame(reconstruction)
    view = automatic_viewpoint(reconstruction, aspect=1.6)
    return {
        "background": list(BACKGROUND),
        "cloud": _cloud_data(reconstruction.cloud, frame, most_points),
        "mesh": _mesh_data(reconstruction.surface, frame, most_vertices),
        "cameras": _camera_data(reconstruction, frame),
        "edges": FRUSTUM_EDGES.tolist(),
        "view": {
            "eye": _rounded(_to_page(view.eye, frame)),
            "target": _rounded(_to_page(view.target, frame)),
            "fov": float(np.radians(view.field_of_view_deg)),
        },
    }


def thin_mesh(mesh: Mesh, most_vertices: int) -> Mesh:
    """Return ``mesh`` with at most ``most_vertices`` vertices, merged on a regular grid.

    Each cell's vertices become their mean; triangles that fall together go. Rossignac and Borrel's
    vertex clustering: plain, but quick and indifferent to holes.
    """
    used = np.unique(mesh.faces)
    if len(used) <= most_vertices:
        return mesh
    cluster = _grid_cells(mesh.vertices[used], most_vertices)
    count = int(cluster.max()) + 1
    of_vertex = np.zeros(len(mesh.vertices), np.int64)
    of_vertex[used] = cluster
    faces = of_vertex[mesh.faces]
    apart = (faces != np.roll(faces, 1, axis=1)).all(axis=1)
    faces = np.unique(_smallest_first(faces[apart]), axis=0)

    def mean(values: NDArray[Any]) -> Array:
        sums = [np.bincount(cluster, values[used, k], count) for k in range(3)]
        return np.stack(sums, axis=1) / np.bincount(cluster)[:, None]

    return Mesh(
        mean(mesh.vertices).astype(np.float32),
        faces.astype(np.int32),
        np.rint(mean(mesh.colours)).astype(np.uint8),
        mean(mesh.normals).astype(np.float32),
    )


def _grid_cells(places: NDArray[np.floating], most: int) -> NDArray[np.int64]:
    """Return for each place (N, 3) its cell's number in the finest cubic grid of ``most`` cells.

    Cells are numbered from 0 without gaps; ``most`` is at least 8.
    """
    places = places - places.min(axis=0)
    extent = float(places.max()) or 1.0
    fine, coarse = 1e-4 * extent, extent

    def keys(cell: float) -> NDArray[np.int64]:
        return np.floor(places / cell).astype(np.int64) @ np.array([1 << 40, 1 << 20, 1])

    for _ in range(9):
        cell = np.sqrt(fine * coarse)
        if len(np.unique(keys(cell))) <= most:
            coarse = cell
        else:
            fine = cell
    return np.unique(keys(coarse), return_inverse=True)[1].reshape(-1)


def _smallest_first(faces: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return ``faces`` (F, 3) each turned, not mirrored, to begin with its smallest index."""
    start = faces.argmin(axis=1)[:, None]
    return np.take_along_axis(faces, (start + np.arange(3)) % 3, axis=1)


def _cloud_data(cloud: PointCloud, frame: SceneFrame, most: int) -> dict[str, Any] | None:
    places = _to_page(cloud.points, frame)
    chosen = np.flatnonzero(np.abs(places).max(axis=1, initial=0) < _REACH)
    if len(chosen) == 0:
        return None
    if len(chosen) > most:
        # One point per cell: even cover tells more than a random choice of the same number.
        chosen = chosen[:: max(1, len(chosen) // _MOST_SEARCHED)]
        chosen = chosen[np.unique(_grid_cells(places[chosen], most), return_index=True)[1]]
    return {
        **_packed(places[chosen], cloud.colours[chosen]),
        "spacing": _spacing(places[chosen]),
    }


def _mesh_data(mesh: Mesh, frame: SceneFrame, most: int) -> dict[str, Any] | None:
    inside = np.abs(_to_page(mesh.vertices, frame)).max(axis=1, initial=0) < _REACH
    faces = mesh.faces[inside[mesh.faces].all(axis=1)]
    if len(faces) == 0:
        return None
    thin = thin_mesh(Mesh(mesh.vertices, faces, mesh.colours, mesh.normals), most)
    used, faces_used = np.unique(thin.faces, return_inverse=True)
    return {
        **_packed(_to_page(thin.vertices[used], frame), thin.colours[used]),
        "corners": int(thin.faces.size),
        "faces": _base64(faces_used.astype("<u4")),
    }


def _camera_data(reconstruction: Scene, frame: SceneFrame) -> list[dict[str, Any]]:
    depth = frustum_depth(reconstruction)
    colours = camera_colours(len(reconstruction.views))
    cameras = []
    for index, camera, pose in registered_cameras(reconstruction):
        seen = photo_viewpoint(reconstruction, index, aspect=camera.width / camera.height)
        cameras.append(
            {
                "index": index,
                "colour": colours[index].tolist(),
                "outline": _rounded(_to_page(frustum_vertices(camera, pose, depth), frame)),
                "eye": _rounded(_to_page(seen.eye, frame)),
                "target": _rounded(_to_page(seen.target, frame)),
                "fov": float(np.radians(seen.field_of_view_deg)),
            }
        )
    return cameras


def _to_page(points: NDArray[np.floating], frame: SceneFrame) -> Array:
    """Return world ``points`` (..., 3) in the page's frame; what is not finite goes far away."""
    placed = frame.to_frame(points) / frame.radius * [1.0, -1.0, -1.0]
    return np.nan_to_num(placed, nan=1e9, posinf=1e9, neginf=-1e9)


def _packed(places: Array, colours: NDArray[np.uint8]) -> dict[str, Any]:
    """Return positions as 16-bit shares of their box, with the box, and colours."""
    low, high = places.min(axis=0), places.max(axis=0)
    span = np.maximum(high - low, 1e-6)
    steps = np.rint((places - low) / span * 65535).astype("<u2")
    return {
        "count": len(places),
        "low": _rounded(low),
        "span": _rounded(span),
        "positions": _base64(steps),
        "colours": _base64(np.ascontiguousarray(colours, np.uint8)),
    }


def _spacing(places: Array) -> float:
    """Return the dot size at which neighbouring points about touch."""
    from scipy.spatial import cKDTree

    if len(places) < 2:
        return 0.02
    # A median of a few thousand tells; dots a little larger than the spacing leave no gaps.
    probes = places[:: max(1, len(places) // 4000)]
    nearest = cKDTree(places).query(probes, k=2)[0][:, 1]
    return float(np.clip(1.8 * np.median(nearest), 0.002, 0.05))


def _base64(array: NDArray[Any]) -> str:
    return base64.b64encode(array.tobytes()).decode("ascii")


def _rounded(values: Array) -> Any:
    """Return an array as nested lists, at a precision far below a pixel."""
    return np.round(values, 5).tolist()
