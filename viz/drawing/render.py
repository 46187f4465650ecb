"""Pictures of a scene, drawn off-screen: no display needed, and nothing ever blocks.

Open3D's legacy visualiser draws through EGL where there is no display. Where that fails too (no
OpenGL at all), the points are splatted in NumPy instead: a plainer picture, never an error.
"""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array, pinhole
from pointmap.freed_memory import return_freed_memory
from recon.export.colour import camera_colours
from recon.scene import Mesh, PointCloud, Scene
from viz.drawing.splat import outline_points, splat
from viz.drawing.viewpoint import (
    FRUSTUM_EDGES,
    Viewpoint,
    automatic_viewpoint,
    frustum_depth,
    frustum_vertices,
    registered_cameras,
    scene_frame,
)

if TYPE_CHECKING:
    import open3d as o3d

logger = logging.getLogger(__name__)

BACKGROUND = (21, 24, 29)
"""Dark neutral ground of all 3D views: photos and camera colours both stand out from it."""

_SUPERSAMPLING = 2  # the off-screen context has no antialiasing of its own
_MOST_POINTS = 1_000_000  # more are no more than there are pixels, and Open3D takes 120 bytes each


@dataclass(frozen=True)
class Outline:
    """One camera to draw: ``vertices`` (5, 3) as of ``frustum_vertices``, ``colour`` (3,) uint8."""

    vertices: Array
    colour: NDArray[np.uint8]


Drawer = Callable[[Viewpoint], NDArray[np.uint8]]
"""Draws the picture (height, width, 3) seen from a view point."""


@dataclass(frozen=True)
class _Parts:
    """What is drawn: ``mesh`` or ``cloud``, camera ``outlines``, on ``background``.

    The mesh is shaded as if ``lit_from`` (3,).
    """

    mesh: Mesh | None
    cloud: PointCloud | None
    outlines: list[Outline]
    lit_from: Array
    background: tuple[int, int, int]

    @property
    def empty(self) -> bool:
        """Whether there is nothing to draw."""
        faces = len(self.mesh.faces) if self.mesh is not None else 0
        points = len(self.cloud.points) if self.cloud is not None else 0
        return faces + points + len(self.outlines) == 0


def render_scene(
    scene: Scene,
    *,
    width: int = 1280,
    height: int = 800,
    show: Literal["mesh", "cloud"] = "mesh",
    cameras: bool = True,
    viewpoint: Viewpoint | None = None,
    background: tuple[int, int, int] = BACKGROUND,
) -> NDArray[np.uint8]:
    """Return a picture (height, width, 3) uint8 of the mesh or the cloud with the cameras.

    ``viewpoint`` defaults to one behind and above the cameras. Draws what is asked for: of an empty
    mesh only the cameras are left (see ``viz.drawing.viewpoint.best_show``).
    """
    view = viewpoint or automatic_viewpoint(scene, aspect=width / height)
    with drawing(
        scene,
        width=width,
        height=height,
        show=show,
        cameras=cameras,
        lit_from=view.eye,
        background=background,
    ) as draw:
        return draw(view)


@contextlib.contextmanager
def drawing(
    scene: Scene,
    *,
    width: int,
    height: int,
    show: Literal["mesh", "cloud"],
    cameras: bool,
    lit_from: Array,
    background: tuple[int, int, int] = BACKGROUND,
) -> Iterator[Drawer]:
    """Yield what draws the scene from one view point after the other.

    As :func:`render_scene`; ``lit_from`` (3,) stays the same for all pictures. Points whose back
    faces it are left out.
    """
    parts = _Parts(
        mesh=_near_mesh(scene) if show == "mesh" else None,
        cloud=_near_cloud(scene, lit_from) if show == "cloud" else None,
        outlines=camera_outlines(scene) if cameras else [],
        lit_from=lit_from,
        background=background,
    )
    if parts.empty:
        yield lambda view: np.full((height, width, 3), background, np.uint8)
        return
    with contextlib.ExitStack() as stack:
        try:
            draw = stack.enter_context(_open3d_drawer(parts, width, height))
        except (ImportError, OSError, RuntimeError) as error:
            logger.info("Open3D cannot draw off-screen (%s): drawing points only", error)
            draw = partial(_draw_splats, parts, width=width, height=height)
        yield draw


def camera_outlines(scene: Scene) -> list[Outline]:
    """Return the outlines of the registered cameras, coloured by photo order."""
    depth = frustum_depth(scene)
    colours = camera_colours(len(scene.views))
    return [
        Outline(frustum_vertices(camera, pose, depth), colours[index])
        for index, camera, pose in registered_cameras(scene)
    ]


def mesh_geometry(mesh: Mesh, *, eye: Array | None = None) -> o3d.geometry.TriangleMesh:
    """Return ``mesh`` for Open3D, lightly shaded as if lit from ``eye`` (3,) where given.

    The photos' own colours already hold the light of the scene: a full light model over them
    comes out dull, none hides the shape.
    """
    import open3d as o3d

    colours = mesh.colours / 255.0
    if eye is not None:
        to_eye = eye - mesh.vertices
        to_eye /= np.maximum(np.linalg.norm(to_eye, axis=1, keepdims=True), 1e-12)
        facing = np.abs(np.einsum("ij,ij->i", to_eye, mesh.normals.astype(np.float64)))
        colours = colours * (0.7 + 0.3 * np.clip(facing, 0, 1))[:, None]
    geometry = o3d.geometry.TriangleMesh(
        o3d.utility.Vector3dVector(mesh.vertices.astype(np.float64)),
        o3d.utility.Vector3iVector(mesh.faces),
    )
    geometry.vertex_colors = o3d.utility.Vector3dVector(colours)
    geometry.vertex_normals = o3d.utility.Vector3dVector(mesh.normals.astype(np.float64))
    return geometry


def cloud_geometry(cloud: PointCloud) -> o3d.geometry.PointCloud:
    """Return ``cloud`` for Open3D."""
    import open3d as o3d

    geometry = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(cloud.points.astype(np.float64)))
    geometry.colors = o3d.utility.Vector3dVector(cloud.colours / 255.0)
    return geometry


def outline_geometry(outlines: list[Outline]) -> o3d.geometry.LineSet:
    """Return all camera outlines as one set of coloured lines for Open3D."""
    import open3d as o3d

    count = len(FRUSTUM_EDGES)
    points = np.concatenate([outline.vertices for outline in outlines])
    edges = np.concatenate([FRUSTUM_EDGES + 5 * k for k in range(len(outlines))])
    colours = np.repeat([outline.colour / 255.0 for outline in outlines], count, axis=0)
    geometry = o3d.geometry.LineSet(
        o3d.utility.Vector3dVector(points), o3d.utility.Vector2iVector(edges)
    )
    geometry.colors = o3d.utility.Vector3dVector(colours)
    return geometry


def aim(visualizer: Any, view: Viewpoint, width: int, height: int) -> None:
    """Point an open Open3D visualiser of ``width`` x ``height`` along ``view``."""
    import open3d as o3d

    focal = _focal_px(view, height)
    parameters = o3d.camera.PinholeCameraParameters()
    # Open3D's visualiser counts pixel centres at integers and takes only centred cameras.
    parameters.intrinsic = o3d.camera.PinholeCameraIntrinsic(
        width, height, focal, focal, width / 2 - 0.5, height / 2 - 0.5
    )
    parameters.extrinsic = view.world_to_cam()
    control = visualizer.get_view_control()
    control.convert_from_pinhole_camera_parameters(parameters, allow_arbitrary=True)


@contextlib.contextmanager
def _open3d_drawer(parts: _Parts, width: int, height: int) -> Iterator[Drawer]:
    """Yield what draws ``parts`` with Open3D; raises RuntimeError where no context can be made."""
    import open3d as o3d

    w, h = width * _SUPERSAMPLING, height * _SUPERSAMPLING
    return_freed_memory()
    with _off_screen(), o3d.utility.VerbosityContextManager(o3d.utility.VerbosityLevel.Error):
        visualizer = o3d.visualization.Visualizer()
        if not visualizer.create_window(width=w, height=h, visible=False):
            raise RuntimeError("no OpenGL context")
        try:
            for geometry in _geometries(parts):
                visualizer.add_geometry(geometry)
            option = visualizer.get_render_option()
            option.background_color = np.array(parts.background) / 255.0
            option.light_on = False
            option.line_width = 2.0 * _SUPERSAMPLING
            dots = len(parts.cloud.points) if parts.cloud is not None else 0
            option.point_size = _SUPERSAMPLING * point_size_px(dots, width, height)

            def draw(view: Viewpoint) -> NDArray[np.uint8]:
                aim(visualizer, view, w, h)
                drawn = np.asarray(visualizer.capture_screen_float_buffer(do_render=True))
                return _shrunk_levels(drawn)

            yield draw
        finally:
            visualizer.destroy_window()
            return_freed_memory()


def _shrunk_levels(drawn: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the oversized picture (h, w, 3) of values in [0, 1] at its final size, as bytes."""
    n = _SUPERSAMPLING
    total = sum(drawn[y::n, x::n] for y in range(n) for x in range(n))
    return np.rint(np.asarray(total) * (255 / n**2)).astype(np.uint8)


def _geometries(parts: _Parts) -> list[Any]:
    geometries: list[Any] = []
    if parts.mesh is not None and len(parts.mesh.faces):
        geometries.append(mesh_geometry(parts.mesh, eye=parts.lit_from))
    if parts.cloud is not None and len(parts.cloud.points):
        geometries.append(cloud_geometry(parts.cloud))
    if parts.outlines:
        geometries.append(outline_geometry(parts.outlines))
    return geometries


def point_size_px(count: int, width: int, height: int) -> float:
    """Return the dot size at which ``count`` points about close up in a picture they fill."""
    # Points lie unevenly: a third larger than even ones would need.
    return float(np.clip(1.3 * np.sqrt(width * height / max(count, 1)), 1.5, 6.0))


def _draw_splats(parts: _Parts, view: Viewpoint, width: int, height: int) -> NDArray[np.uint8]:
    """Return the picture splatted in NumPy: points or vertices, and the camera outlines."""
    picture = np.full((height, width, 3), parts.background, np.uint8)
    where: dict[str, Any] = {
        "world_to_cam": view.world_to_cam(),
        "intrinsics": pinhole(_focal_px(view, height), width, height),
        "picture": picture,
    }
    mesh, cloud = parts.mesh, parts.cloud
    if mesh is not None:
        size = _splat_size_px(len(mesh.vertices), width, height)
        splat(mesh.vertices, mesh.colours, size_px=size, **where)
    if cloud is not None:
        size = _splat_size_px(len(cloud.points), width, height)
        splat(cloud.points, cloud.colours, size_px=size, **where)
    for outline in parts.outlines:
        points = outline_points(outline.vertices)
        splat(points, np.broadcast_to(outline.colour, points.shape), size_px=2, **where)
    return picture


def _splat_size_px(count: int, width: int, height: int) -> int:
    return int(np.ceil(point_size_px(count, width, height)))


def _focal_px(view: Viewpoint, height: int) -> float:
    return height / 2 / float(np.tan(np.radians(view.field_of_view_deg) / 2))


def _near(scene: Scene, points: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return which points lie near enough to matter: strays far out spoil the depth range."""
    frame = scene_frame(scene)
    with np.errstate(invalid="ignore"):
        return np.linalg.norm(points - frame.centre, axis=1) < 8 * frame.radius


def _near_mesh(scene: Scene) -> Mesh:
    mesh = scene.surface
    keep = _near(scene, mesh.vertices)[mesh.faces].all(axis=1)
    return Mesh(mesh.vertices, mesh.faces[keep], mesh.colours, mesh.normals)


def _near_cloud(scene: Scene, eye: Array) -> PointCloud:
    """Return the points to draw, without those whose back is seen from ``eye`` (3,).

    Like the culled faces of the mesh, that opens the near walls of a room seen from outside.
    """
    cloud = scene.cloud
    some = slice(None, None, -(-len(cloud.points) // _MOST_POINTS) or 1)
    points, normals = cloud.points[some], cloud.normals[some]
    towards = np.einsum("ij,ij->i", eye - points, normals.astype(np.float64))
    keep = _near(scene, points) & (towards >= 0)
    return PointCloud(
        points[keep], cloud.colours[some][keep], normals[keep], cloud.confidence[some][keep]
    )


@contextlib.contextmanager
def _off_screen() -> Iterator[None]:
    """Hide the display from Open3D, which then draws through EGL at any size.

    A hidden window on a display would be clipped to the screen, and a dead display would hang.
    """
    names = ("DISPLAY", "WAYLAND_DISPLAY", "XDG_RUNTIME_DIR")
    kept = {name: os.environ.pop(name) for name in names if name in os.environ}
    # Without any value the Wayland library complains on stderr.
    os.environ["XDG_RUNTIME_DIR"] = tempfile.gettempdir()
    try:
        yield
    finally:
        del os.environ["XDG_RUNTIME_DIR"]
        os.environ.update(kept)
