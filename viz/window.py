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
from pathlib import Path
from typing import Any

import numpy as np

from pointmap.errors import InputError
from recon.scene import Reconstruction
from viz.panel import panel_works, run_panel
from viz.render import (
    BACKGROUND,
    aim,
    camera_outlines,
    cloud_geometry,
    mesh_geometry,
    outline_geometry,
    point_size_px,
    render_scene,
)
from viz.viewpoint import automatic_viewpoint, best_show

logger = logging.getLogger(__name__)

HELP = (
    "drag: turn, shift+drag: move, wheel: zoom, R: reset, + and -: point size, "
    "C: cloud, M: mesh, K: cameras, Q: close"
)
"""One line on how to use the plain window."""

_WIDTH, _HEIGHT = 1280, 800

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


def show(reconstruction: Reconstruction, *, picture: str | Path) -> Path | None:
    """Open a window with cloud, mesh and cameras; return None once the user has closed it.

    Without the graphics driver that the panel's window needs, a plain one with keys is opened.
    Without a display, says so (logging), writes a picture to ``picture`` instead and returns its
    path; never blocks then.
    """
    if has_display():
        if panel_works():
            run_panel(reconstruction)
            return None
        logger.info("no Vulkan driver (Debian: mesa-vulkan-drivers): the window has no panel")
        if _run_window(reconstruction):
            return None
    path = save_picture(reconstruction, picture)
    logger.warning("no display to open a window on: wrote the picture %s instead", path)
    return path


def save_picture(reconstruction: Reconstruction, path: str | Path) -> Path:
    """Write a rendered picture of the scene to ``path`` (its ending names the format).

    Raises InputError when that cannot be written.
    """
    from PIL import Image

    path = Path(path)
    picture = render_scene(reconstruction, show=best_show(reconstruction))
    try:
        Image.fromarray(picture).save(path)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot write the picture {path}: {error}") from error
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
    """Cloud, mesh and cameras in a plain window, each switched by a key."""

    def __init__(self, visualizer: Any, reconstruction: Reconstruction) -> None:
        self.visualizer = visualizer
        view = automatic_viewpoint(reconstruction, aspect=_WIDTH / _HEIGHT)
        self.parts: dict[str, Any] = {}
        if len(reconstruction.cloud.points):
            self.parts["C"] = cloud_geometry(reconstruction.cloud)
        if len(reconstruction.surface.faces):
            self.parts["M"] = mesh_geometry(reconstruction.surface, eye=view.eye)
        outlines = camera_outlines(reconstruction)
        if outlines:
            self.parts["K"] = outline_geometry(outlines)
        first = "M" if best_show(reconstruction) == "mesh" else "C"
        self.shown = {key for key in (first, "K") if key in self.parts}
        for key in self.parts:
            # Every part is added once, so that the view's depth range holds them all.
            visualizer.add_geometry(self.parts[key])
            visualizer.register_key_callback(ord(key), lambda _, key=key: self.toggle(key))
        for key in self.parts.keys() - self.shown:
            visualizer.remove_geometry(self.parts[key], reset_bounding_box=False)
        option = visualizer.get_render_option()
        option.background_color = np.array(BACKGROUND) / 255.0
        option.light_on = False
        option.line_width = 2.0
        option.point_size = point_size_px(len(reconstruction.cloud.points), _WIDTH, _HEIGHT)
        aim(visualizer, view, _WIDTH, _HEIGHT)

    def toggle(self, key: str) -> bool:
        """Show or hide one part; returns that the picture has to be drawn again."""
        if key in self.shown:
            self.visualizer.remove_geometry(self.parts[key], reset_bounding_box=False)
        else:
            self.visualizer.add_geometry(self.parts[key], reset_bounding_box=False)
        self.shown ^= {key}
        return True


def _run_window(reconstruction: Reconstruction) -> bool:
    """Show the window until it is closed; False when Open3D could not open one that is seen."""
    import open3d as o3d

    visualizer = o3d.visualization.VisualizerWithKeyCallback()
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        opened = visualizer.create_window("pointmap", _WIDTH, _HEIGHT)
    if not opened or "offscreen" in said.getvalue().lower():
        # A display without OpenGL: Open3D took its invisible context, whose loop never ends.
        visualizer.destroy_window()
        return False
    try:
        _SceneWindow(visualizer, reconstruction)
        logger.info("%s", HELP)
        # Not visualizer.run(): that holds the interpreter, and with it Ctrl-C, until it ends.
        while visualizer.poll_events():
            time.sleep(1 / 60)
    finally:
        visualizer.destroy_window()
    return True
