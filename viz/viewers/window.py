"""A window for a scene, plain where there is no panel; a picture where there is no display.

Without a display Open3D's windows do not fail but block for ever, so the display is asked first.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from pointmap.errors import InputError
from recon.export.ownership import PICTURE_MARK, is_viewer_picture
from recon.scene import PointCloud, Scene
from viz.drawing.colouring import COLOURINGS, Colouring, coloured_surface, confident_cloud
from viz.drawing.render import (
    BACKGROUND,
    aim,
    camera_outlines,
    cloud_geometry,
    mesh_geometry,
    outline_geometry,
    point_size_px,
    render_scene,
)
from viz.drawing.viewpoint import (
    Viewpoint,
    automatic_viewpoint,
    best_show,
    frustum_depth,
    frustum_vertices,
    photo_viewpoint,
    registered_cameras,
)
from viz.viewers.open3d_pieces import photo_quad, thumbnail
from viz.viewers.panel import HEIGHT, WIDTH, panel_works, run_panel
from viz.viewers.screenshot import write_screenshot

logger = logging.getLogger(__name__)

_HELP = (
    "drag: turn, shift+drag: move, wheel: zoom, H: whole scene, N and B: next photo's view and "
    "back, C: cloud, M: mesh, K: cameras, L: next colouring, [ and ]: less and more confident "
    "points, + and -: point size, S: screenshot, Q: close"
)
"""One line on how to use the plain window."""

# Asks a display for a connection, as GLFW does under Open3D. In a process of its own, because a
# display that is half dead (a stale ssh tunnel) takes the question and never answers.
_ASK_X11 = "import ctypes as c; f = c.CDLL('libX11.so.6').XOpenDisplay; f.restype = c.c_void_p"
_ASK_WAYLAND = (
    "import ctypes as c; f = c.CDLL('libwayland-client.so.0').wl_display_connect;"
    " f.restype = c.c_void_p"
)


def has_display(*, timeout_s: float = 5.0) -> bool:
    """Return whether a window can be opened: there is a display and it answers in time."""
    if sys.platform in ("darwin", "win32"):
        return True
    questions = {"DISPLAY": _ASK_X11, "WAYLAND_DISPLAY": _ASK_WAYLAND}
    return any(
        _answers(question, timeout_s)
        for name, question in questions.items()
        if os.environ.get(name)
    )


def show(scene: Scene, *, picture: str | Path) -> Path | None:
    """Open a window with cloud, mesh and cameras; return None once the user has closed it.

    Without the graphics driver that the panel's window needs, a plain one with keys is opened.
    Without a display, says so (logging), writes a picture to ``picture`` instead and returns its
    path; never blocks then. Raises InputError when another file is there, which stays.
    """
    if has_display():
        if panel_works():
            run_panel(scene)
            return None
        logger.info("no graphics card with Vulkan: the window has keys instead of a panel")
        if _run_window(scene):
            return None
    if os.path.lexists(picture) and not is_viewer_picture(Path(picture)):
        raise InputError(
            f"no display to open a window on, and {picture} is no picture of this viewer, so it is "
            "not replaced: name another file with --save"
        )
    path = save_picture(scene, picture)
    logger.warning("no display to open a window on: wrote the picture %s instead", path)
    return path


def save_picture(scene: Scene, path: str | Path) -> Path:
    """Write a rendered picture of the scene to ``path`` (its ending names the format).

    Raises InputError when that cannot be written.
    """
    from PIL import Image, PngImagePlugin

    path = Path(path)
    picture = render_scene(scene, show=best_show(scene))
    mark = PngImagePlugin.PngInfo()
    for keyword, text in PICTURE_MARK.items():
        mark.add_text(keyword, text)
    try:
        Image.fromarray(picture).save(path, pnginfo=mark)
    except (OSError, ValueError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or error
        raise InputError(f"cannot write the picture {path}: {reason}") from error
    return path


def _answers(question: str, timeout_s: float) -> bool:
    """Return whether the display connects, as asked by a short-lived child process."""
    code = f"{question}; raise SystemExit(0 if f(None) else 1)"
    try:
        child = subprocess.run([sys.executable, "-c", code], timeout=timeout_s, capture_output=True)
    except (subprocess.TimeoutExpired, OSError):
        return False
    return child.returncode == 0


class _SceneWindow:
    """Cloud, mesh and cameras in a plain window, all of it steered by keys."""

    def __init__(self, visualizer: Any, scene: Scene) -> None:
        self.visualizer = visualizer
        self.scene = scene
        self.home = automatic_viewpoint(scene, aspect=WIDTH / HEIGHT)
        self.cameras = registered_cameras(scene)
        self.colouring: Colouring = "photo"
        self.least_confidence = 0.0
        self.photo = -1  # place in ``cameras`` of the photo that is looked from
        self.parts: dict[str, list[Any]] = {}
        if len(scene.cloud.points):
            self.parts["C"] = [cloud_geometry(self._cloud())]
        if len(scene.surface.faces):
            self.parts["M"] = [self._mesh()]
        outlines = camera_outlines(scene)
        if outlines:
            self.parts["K"] = [outline_geometry(outlines)]
        self.photo_quads = self._photos()
        self.drawn_quads: list[Any] = []
        first = "M" if best_show(scene) == "mesh" else "C"
        self.shown = {key for key in (first, "K") if key in self.parts}
        # Every part is added once, so that the view's depth range holds them all.
        for geometry in chain(*self.parts.values()):
            visualizer.add_geometry(geometry)
        for key in self.parts.keys() - self.shown:
            self._remove(key)
        self._draw_photos()
        self._register_keys()
        option = visualizer.get_render_option()
        option.background_color = np.array(BACKGROUND) / 255.0
        option.light_on = False
        option.line_width = 2.0
        option.point_size = point_size_px(len(scene.cloud.points), WIDTH, HEIGHT)
        self.look_from(self.home)

    def toggle(self, key: str) -> bool:
        """Show or hide one part; returns that the picture has to be drawn again."""
        if key in self.shown:
            self._remove(key)
        else:
            for geometry in self.parts[key]:
                self.visualizer.add_geometry(geometry, reset_bounding_box=False)
        self.shown ^= {key}
        if key == "K":
            self._draw_photos()
        return True

    def next_look(self) -> bool:
        """Colour surface and points in the next way."""
        self.colouring = COLOURINGS[(COLOURINGS.index(self.colouring) + 1) % len(COLOURINGS)]
        logger.info("coloured by %s", self.colouring)
        for mesh in self.parts.get("M", []):
            mesh.vertex_colors = self._mesh().vertex_colors
            self.visualizer.update_geometry(mesh)
        return self.filter_by(self.least_confidence)

    def filter_by(self, least_confidence: float) -> bool:
        """Hide the points whose confidence lies below ``least_confidence``."""
        self.least_confidence = float(np.clip(least_confidence, 0.0, 1.0))
        for cloud in self.parts.get("C", []):
            made = cloud_geometry(self._cloud())
            cloud.points, cloud.colors = made.points, made.colors
            self.visualizer.update_geometry(cloud)
        return True

    def next_photo(self, step: int) -> bool:
        """Look from where the next photo was taken."""
        if self.cameras:
            self.photo = (self.photo + step) % len(self.cameras) if self.photo >= 0 else 0
            index = self.cameras[self.photo][0]
            logger.info("seen from %s", self.scene.views[index].name)
            aspect = WIDTH / HEIGHT
            self.look_from(photo_viewpoint(self.scene, index, aspect=aspect))
            self._draw_photos()
        return True

    def see_home(self) -> bool:
        """Look at the whole scene."""
        self.photo = -1
        self._draw_photos()
        return self.look_from(self.home)

    def look_from(self, view: Viewpoint) -> bool:
        """Look along ``view``."""
        aim(self.visualizer, view, WIDTH, HEIGHT)
        return True

    def save_screenshot(self) -> bool:
        """Write what is seen to the next free ``pointmap-N.png`` of the current folder."""
        drawn = np.asarray(self.visualizer.capture_screen_float_buffer(do_render=True))
        logger.info("%s", write_screenshot(np.rint(drawn * 255).astype(np.uint8)))
        return False

    def _register_keys(self) -> None:
        acts: dict[str, Callable[[], bool]] = {
            **{key: partial(self.toggle, key) for key in self.parts},
            "L": self.next_look,
            "[": lambda: self.filter_by(self.least_confidence - 0.1),
            "]": lambda: self.filter_by(self.least_confidence + 0.1),
            "N": lambda: self.next_photo(1),
            "B": lambda: self.next_photo(-1),
            "H": self.see_home,
            "S": self.save_screenshot,
        }
        for key, act in acts.items():
            self.visualizer.register_key_callback(ord(key), lambda _, act=act: act())

    def _remove(self, key: str) -> None:
        for geometry in self.parts[key]:
            self.visualizer.remove_geometry(geometry, reset_bounding_box=False)

    def _mesh(self) -> Any:
        return mesh_geometry(coloured_surface(self.scene, self.colouring), eye=self.home.eye)

    def _cloud(self) -> PointCloud:
        return confident_cloud(self.scene, self.colouring, self.least_confidence)

    def _draw_photos(self) -> None:
        """Show the cameras' photos, but not that of the one looked from: it would hide the view."""
        for quad in self.drawn_quads:
            self.visualizer.remove_geometry(quad, reset_bounding_box=False)
        self.drawn_quads = []
        if "K" in self.shown:
            others = [quad for k, quad in enumerate(self.photo_quads) if k != self.photo]
            for quad in others:
                self.visualizer.add_geometry(quad, reset_bounding_box=False)
            self.drawn_quads = others

    def _photos(self) -> list[Any]:
        depth = frustum_depth(self.scene)
        return [
            photo_quad(
                frustum_vertices(camera, pose, depth)[1:],
                picture=thumbnail(self.scene, index),
            )
            for index, camera, pose in self.cameras
        ]


def _run_window(scene: Scene) -> bool:
    """Show the window until it is closed; False when Open3D could not open one that is seen."""
    import open3d as o3d

    visualizer = o3d.visualization.VisualizerWithKeyCallback()
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        opened = visualizer.create_window("pointmap", WIDTH, HEIGHT)
    if not opened or "offscreen" in said.getvalue().lower():
        # A display without OpenGL: Open3D took its invisible context, whose loop never ends.
        visualizer.destroy_window()
        return False
    try:
        _SceneWindow(visualizer, scene)
        logger.info("%s", _HELP)
        # Not visualizer.run(): that holds the interpreter, and with it Ctrl-C, until it ends.
        while visualizer.poll_events():
            time.sleep(1 / 60)
    finally:
        visualizer.destroy_window()
    return True
