"""The scene as the pages' 3D view takes it: small enough to sit inside the page.

Points and vertices are thinned and stored as 16-bit steps of their box, in an upright frame of
radius 1 with the axes of WebGL (x right, y up, z towards the viewer). An upright scene's own axes
are kept, so that boxes in the page are boxes in the scene.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array
from pointmap.lens import Lens
from recon.export.colour import camera_colours, colour_map, confidence_to_rgb
from recon.export.grid_cells import grid_cells
from recon.scene import Camera, Mesh, PointCloud, Scene
from viz.drawing.colouring import confidence_near
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
from viz.pages.packing import packed
from viz.pages.thin_mesh import smallest_first, thin_mesh, used_vertices

_REACH = 6.0  # in radii: what lies farther out would cost the rest its precision
_MOST_SEARCHED = 1_000_000  # points among which the page's are chosen
_COARSE = 15_000  # vertices of the surface that is there at once, and drawn while it turns
_NORMAL_STEP = 4  # of 127: finer ones would only fill the page
_SHADES = np.linspace(0, 1, 17)  # of a palette, as viewer/shading.js takes it


def scene_data(
    scene: Scene, *, most_points: int = 120_000, most_vertices: int = 120_000
) -> dict[str, Any]:
    """Return the scene as JSON-ready values for ``viz/pages/viewer``.

    At most ``most_points`` points and about ``most_vertices`` mesh vertices are kept. ``cloud`` is
    None where the scene has none; ``mesh`` lists its levels, coarse to fine.
    """
    frame = page_frame(scene)
    view = automatic_viewpoint(scene, aspect=1.6)
    mesh = _near_mesh(scene.surface, frame)
    chosen = _chosen_points(scene.cloud, frame, most_points)
    seen = [_to_page(mesh.vertices, frame), _to_page(scene.cloud.points[chosen], frame)]
    places = np.concatenate(seen)
    places = places if len(places) else np.array([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]])
    lowest, highest = np.percentile(places[:, 1], [2, 98])
    return {
        "background": list(BACKGROUND),
        "palettes": {
            "confidence": _rounded(confidence_to_rgb(_SHADES) / 255),
            # Turbo's two ends are almost black.
            "height": _rounded(colour_map(0.06 + 0.88 * _SHADES) / 255),
        },
        "frame": {
            "centre": frame.centre.tolist(),
            "axes": _rounded(_page_axes(frame)),
            "radius": frame.radius,
            "unit": "m" if scene.units == "metres" else "units",
            "floor": float(-frame.axes[:, 1] @ frame.centre),
            "level": bool((np.abs(frame.axes).max(axis=0) > 1 - 1e-9).all()),
        },
        "bounds": _rounded(np.stack([places.min(axis=0), places.max(axis=0) + 1e-4])),
        "heights": _rounded(np.array([lowest, highest + 1e-4])),
        "cloud": _cloud_data(scene.cloud, chosen, frame),
        "mesh": _mesh_levels(mesh, scene.cloud, frame, most_vertices),
        "cameras": _camera_data(scene, frame),
        "edges": FRUSTUM_EDGES.tolist(),
        "view": {
            "eye": _rounded(_to_page(view.eye, frame)),
            "target": _rounded(_to_page(view.target, frame)),
            "fov": float(np.radians(view.field_of_view_deg)),
        },
    }


def page_frame(scene: Scene) -> SceneFrame:
    """Return the page's frame: the scene's, along the world's own axes where that is upright."""
    frame, world = scene_frame(scene), scene.world
    if world.kind != "upright" or world.up is None:
        return frame
    down = -np.array(world.up)
    forward = np.array([0.0, 1.0, 0.0] if world.up[2] > world.up[1] else [0.0, 0.0, -1.0])
    return replace(frame, axes=np.stack([np.cross(down, forward), down, forward], axis=1))


def _chosen_points(cloud: PointCloud, frame: SceneFrame, most: int) -> NDArray[np.intp]:
    """Return which points the page shows, in an order of which every beginning covers the whole."""
    places = _to_page(cloud.points, frame)
    chosen = np.flatnonzero(np.abs(places).max(axis=1, initial=0) < _REACH)
    if len(chosen) > most:
        # One point per cell: even cover tells more than a random choice of the same number.
        chosen = chosen[:: max(1, len(chosen) // _MOST_SEARCHED)]
        chosen = chosen[np.unique(grid_cells(places[chosen], most), return_index=True)[1]]
    # Every eighth point, then those halfway between, and so on.
    return np.concatenate([chosen[start::8] for start in (0, 4, 2, 6, 1, 5, 3, 7)])


def _cloud_data(
    cloud: PointCloud, chosen: NDArray[np.intp], frame: SceneFrame
) -> dict[str, Any] | None:
    if len(chosen) == 0:
        return None
    places = _to_page(cloud.points[chosen], frame)
    return {
        **_solid(
            places, cloud.colours[chosen], cloud.normals[chosen], cloud.confidence[chosen], frame
        ),
        "spacing": _spacing(places),
    }


def _near_mesh(mesh: Mesh, frame: SceneFrame) -> Mesh:
    """Return the triangles that are near enough to show, with their vertices alone."""
    inside = np.abs(_to_page(mesh.vertices, frame)).max(axis=1, initial=0) < _REACH
    used, faces = used_vertices(replace(mesh, faces=mesh.faces[inside[mesh.faces].all(axis=1)]))
    return Mesh(
        mesh.vertices[used],
        faces.astype(np.int32),
        mesh.colours[used],
        mesh.normals[used],
    )


def _mesh_levels(
    mesh: Mesh, cloud: PointCloud, frame: SceneFrame, most: int
) -> list[dict[str, Any]]:
    """Return the surface, coarse to fine: one level where it is small."""
    if len(mesh.faces) == 0:
        return []
    fine = thin_mesh(mesh, most)
    levels = [fine]
    if len(fine.vertices) > 2 * _COARSE:
        levels.insert(0, thin_mesh(fine, _COARSE))
    return [_surface_data(level, cloud, frame) for level in levels]


def _surface_data(mesh: Mesh, cloud: PointCloud, frame: SceneFrame) -> dict[str, Any]:
    used, faces = used_vertices(mesh)
    faces = smallest_first(faces)
    faces = faces[np.lexsort(faces.T[::-1])]
    vertices = mesh.vertices[used]
    return {
        **_solid(
            _to_page(vertices, frame),
            mesh.colours[used],
            mesh.normals[used],
            confidence_near(cloud, vertices),
            frame,
        ),
        "triangles": len(faces),
        "faces": packed(list(faces.T), widths=(4, 4, 4)),
    }


def _camera_data(scene: Scene, frame: SceneFrame) -> list[dict[str, Any]]:
    depth = frustum_depth(scene)
    colours = camera_colours(len(scene.views))
    cameras = []
    for index, camera, pose in registered_cameras(scene):
        seen = photo_viewpoint(scene, index, aspect=camera.width / camera.height)
        ahead = float(np.linalg.norm(seen.target - seen.eye)) / frame.radius
        cameras.append(
            {
                "index": index,
                "name": scene.views[index].name,
                "colour": colours[index].tolist(),
                "outline": _rounded(_to_page(frustum_vertices(camera, pose, depth), frame)),
                "eye": _rounded(_to_page(seen.eye, frame)),
                # Rows: right, down, forward.
                "axes": _rounded((_page_axes(frame) @ pose[:3, :3]).T),
                "lens": _lens(camera),
                "ahead": round(ahead, 5),
            }
        )
    return cameras


def _lens(camera: Camera) -> dict[str, Any]:
    K = camera.intrinsics
    return {
        "fx": round(float(K[0, 0]), 3),
        "fy": round(float(K[1, 1]), 3),
        "cx": round(float(K[0, 2]), 3),
        "cy": round(float(K[1, 2]), 3),
        "width": camera.width,
        "height": camera.height,
        "bend": _bend(camera.lens),
    }


def _bend(lens: Lens) -> list[float]:
    """Return k1, k2 and whether it is a fisheye; what else some known lenses do isn't shown."""
    k1, k2 = (lens.parameters.get(name, 0.0) for name in ("k1", "k2"))
    return [round(k1, 6), round(k2, 6), float(lens.is_fisheye)]


def _page_axes(frame: SceneFrame) -> Array:
    """Return the page's axes (3, 3) in the world, a row each: right, up and towards the viewer."""
    return frame.axes.T * np.array([[1.0], [-1.0], [-1.0]])


def _to_page(points: NDArray[np.floating], frame: SceneFrame) -> Array:
    """Return world ``points`` (..., 3) in the page's frame; what is not finite goes far away."""
    placed = (np.asarray(points, np.float64) - frame.centre) @ _page_axes(frame).T / frame.radius
    return np.nan_to_num(placed, nan=1e9, posinf=1e9, neginf=-1e9)


def _solid(
    places: Array,
    colours: NDArray[np.uint8],
    normals: NDArray[np.float32],
    confidence: NDArray[np.float32],
    frame: SceneFrame,
) -> dict[str, Any]:
    """Return positions as 16-bit shares of their box, colours, confidence and normals."""
    low, high = places.min(axis=0), places.max(axis=0)
    span = np.maximum(high - low, 1e-6)
    steps = np.rint((places - low) / span * 65535).astype(np.int64)
    turned = np.nan_to_num(normals) @ _page_axes(frame).T
    turned /= np.maximum(np.linalg.norm(turned, axis=1, keepdims=True), 1e-12)
    coarse = np.rint(turned * 127 / _NORMAL_STEP).astype(np.int64) * _NORMAL_STEP
    sure = np.rint(255 * np.clip(np.nan_to_num(confidence), 0, 1)).astype(np.int64)
    columns = [*steps.T, *colours.T.astype(np.int64), sure, *np.clip(coarse, -127, 127).T]
    return {
        "count": len(places),
        "low": _rounded(low),
        "span": _rounded(span),
        "points": packed(columns, widths=(2, 2, 2, 1, 1, 1, 1, 1, 1, 1)),
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


def _rounded(values: Array) -> Any:
    """Return an array as nested lists, at a precision far below a pixel."""
    return np.round(values, 5).tolist()
