"""A page with the 3D view, steered like a person does: by places on the screen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from chromium import Chromium, wait_until

from pointmap.camera import invert_rigid, project, transform_points
from recon.scene import Camera


class ViewerPage:
    """The page at ``path``; what a method presses is in sight of the window."""

    def __init__(self, browser: Chromium, path: Path) -> None:
        self.browser, self.path = browser, path

    def open(self, hash_: str = "") -> None:
        """Load the page anew, and wait until all of the scene is there."""
        self.browser.open("about:blank")
        self.browser.open(self.path.absolute().as_uri() + hash_)
        wait_until(lambda: self.run("document.getElementById('viewer').dataset.ready") == "yes")
        self.run("document.getElementById('viewer').scrollIntoView({ behavior: 'instant' })")

    def run(self, script: str) -> Any:
        """Return the value of ``script``."""
        return self.browser.run(script)

    def settle(self) -> None:
        """Wait until nothing moves and all is drawn."""
        wait_until(lambda: self.run("document.querySelector('canvas').dataset.rest") == "yes")

    def box(self, selector: str) -> tuple[float, float, float, float]:
        """Return left, top, width and height of an element in the window."""
        text = self.run(
            f"(r => JSON.stringify([r.left, r.top, r.width, r.height]))"
            f"(document.querySelector({json.dumps(selector)}).getBoundingClientRect())"
        )
        left, top, width, height = json.loads(text)
        return left, top, width, height

    def middle(self, selector: str) -> tuple[float, float]:
        """Return the middle of an element."""
        left, top, width, height = self.box(selector)
        return left + width / 2, top + height / 2

    def press(self, selector: str) -> None:
        """Click at the middle of an element."""
        self.browser.mouse(self.middle(selector))
        self.settle()

    def said(self) -> str:
        """Return what the page told last."""
        return str(self.run("document.querySelector('[role=status]').textContent"))

    def picture(self) -> np.ndarray:
        """Return what the canvas shows, without what lies over it."""
        self.settle()
        self.run("document.querySelector('.hint').hidden = true")
        left, top, width, height = (round(value) for value in self.box("canvas"))
        return self.browser.picture()[top : top + height, left : left + width]

    def fly(self, photo: int) -> None:
        """Go on to the photo of this number, counted from the first one placed, from none."""
        for _ in range(photo + 1):
            self.press("[data-do=next]")

    def pixel_of(self, camera: Camera, point: list[float]) -> tuple[float, float]:
        """Return where ``point`` is on the screen while the photo of ``camera`` is looked from."""
        in_camera = transform_points(invert_rigid(camera.cam_to_world), np.array([point]))
        x, y = project(in_camera, camera.intrinsics, camera.lens)[0]
        left, top, width, height = self.box("canvas")
        scale = min(width / camera.width, height / camera.height)
        return (
            left + width / 2 + scale * (x - camera.width / 2),
            top + height / 2 + scale * (y - camera.height / 2),
        )

    def measured(self, camera: Camera, ends: list[list[float]]) -> str:
        """Click at two points as the photo of ``camera``, which is looked from, shows them; return
        what the page says.
        """
        for end in ends:
            self.browser.mouse(self.pixel_of(camera, end))
        self.settle()
        return self.said()
