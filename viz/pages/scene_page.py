"""The scene alone as one HTML file: it opens anywhere, needs no network and can be passed on."""

from __future__ import annotations

from html import escape
from pathlib import Path

from recon.scene import Scene
from viz.drawing.viewpoint import registered_cameras
from viz.pages.html_page import page_html, write_page
from viz.pages.report_photos import photo_side, picture_tag, shrunk
from viz.pages.scene_data import scene_data
from viz.pages.viewer_figure import VIEWER_SCRIPTS, viewer_figure

# With the photos a page then stays below 15 MB.
MOST_POINTS = 250_000
MOST_VERTICES = 200_000


def write_scene_page(scene: Scene, path: str | Path) -> Path:
    """Write the page to ``path`` and return it: whole or not at all.

    Larger scenes are thinned to a page of at most 15 MB. Raises OSError when it cannot be
    written.
    """
    return write_page(scene_page_html(scene), path)


def scene_page_html(
    scene: Scene, *, most_points: int = MOST_POINTS, most_vertices: int = MOST_VERTICES
) -> str:
    """Return the page: the scene on all of the window, the photos in a row to look from."""
    data = scene_data(scene, most_points=most_points, most_vertices=most_vertices)
    photos = "".join(
        f"<button data-camera='{index}' title='{escape(scene.views[index].name)}'>"
        f"{_photo_tag(scene, index)}"
        "</button>"
        for index, _, _ in registered_cameras(scene)
    )
    body = f"<main class='scene'>{viewer_figure(scene)}<nav>{photos}</nav></main>"
    return page_html("Scene", body, data, scripts=VIEWER_SCRIPTS)


def _photo_tag(scene: Scene, index: int) -> str:
    view = scene.views[index]
    side = photo_side(len(scene.views))
    return picture_tag(shrunk(view.pixels, side), view.name, photo=index)
