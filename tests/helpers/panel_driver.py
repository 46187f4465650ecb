"""Drives the panel window on the display at hand and keeps what it drew. Run as a process of its
own by tests/viz/test_window.py: Open3D's application starts once per process, and a fault ends it.

    python panel_driver.py PICTURES.npz
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from open3d.visualization import gui
from viz_scenes import dense_scene

from pointmap.camera import pinhole, project, transform_points
from viz.viewers.panel import PanelWindow, run_panel


def click_camera(window: PanelWindow, number: int) -> None:
    """Press and release the mouse on the middle of a camera's photo."""
    frame = window.widget.frame
    view = window.home
    focal = frame.height / 2 / np.tan(np.radians(view.field_of_view_deg) / 2)
    middle = window.outlines[number].vertices[1:].mean(axis=0)
    in_camera = transform_points(view.world_to_cam(), middle)
    x, y = project(in_camera, pinhole(focal, frame.width, frame.height))
    for kind in (gui.MouseEvent.Type.BUTTON_DOWN, gui.MouseEvent.Type.BUTTON_UP):
        event = SimpleNamespace(type=kind, x=frame.x + round(x), y=frame.y + round(y))
        window._on_mouse(event)


def only(window: PanelWindow, part: str) -> None:
    for each in ("mesh", "cloud", "cameras"):
        window.toggle(each, each == part)


STEPS: dict[str, Callable[[PanelWindow], None]] = {
    "home": lambda window: None,
    "mesh": lambda window: only(window, "mesh"),
    "nothing": lambda window: only(window, ""),
    "cloud": lambda window: only(window, "cloud"),
    "large points": lambda window: window.resize_points(12),
    "normal": lambda window: window.colour_by("normal"),
    "confident": lambda window: window.filter_by(0.5),
    "none confident": lambda window: window.filter_by(1.1),
    "cameras": lambda window: (only(window, "cameras"), window.colour_by("photo"))[0],
    "clicked": lambda window: click_camera(window, 1),
    "home again": lambda window: window.see_home(),
}


def main(pictures: str) -> None:
    pending = list(STEPS)
    taken: dict[str, np.ndarray] = {}
    waiting: list[str] = []

    def each_frame(window: PanelWindow) -> None:
        if waiting and waiting[0] not in taken:
            return
        waiting.clear()
        if not pending:
            window.close()
            return
        name = pending.pop(0)
        waiting.append(name)
        STEPS[name](window)
        window.capture(lambda picture: taken.__setitem__(name, picture))

    with tempfile.TemporaryDirectory() as folder:
        scene = dense_scene(Path(folder))
    run_panel(scene, each_frame=each_frame)
    np.savez(pictures, **taken)


if __name__ == "__main__":
    main(sys.argv[1])
