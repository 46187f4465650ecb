"""The scene alone as one HTML file: it opens anywhere, needs no network and can be passed on."""

from __future__ import annotations

from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recon.scene import Scene
from viz.drawing.viewpoint import registered_cameras
from viz.pages.html_page import page_html, viewer_figure, write_page
from viz.pages.report_photos import picture_tag, shrunk
from viz.pages.scene_data import scene_data

# With the photos a page then stays at about 20 MB.
MOST_POINTS = 600_000
MOST_VERTICES = 200_000
_THUMBNAIL = 160  # long side of a photo in the row, pixels; half of it with many photos


def write_scene_page(reconstruction: Scene, path: str | Path) -> Path:
    """Write the page to ``path`` and return it: whole or not at all.

    Larger scenes are thinned to a page of at most about 20 MB. Raises OSError when it cannot be
    written.
    """
    return write_page(scene_page_html(reconstruction), path)


def scene_page_html(
    reconstruction: Scene, *, most_points: int = MOST_POINTS, most_vertices: int = MOST_VERTICES
) -> str:
    """Return the page: the scene on all of the window, the photos in a row to look from."""
    data = scene_data(reconstruction, most_points=most_points, most_vertices=most_vertices)
    photos = "".join(
        f"<button data-camera='{index}' title='{escape(reconstruction.views[index].name)}'>"
        f"{picture_tag(_thumbnail(reconstruction, index), reconstruction.views[index].name)}"
        "</button>"
        for index, _, _ in registered_cameras(reconstruction)
    )
    body = f"<main class='scene'>{viewer_figure(reconstruction)}<nav>{photos}</nav></main>"
    return page_html("Scene", body, data, scripts=("viewer.js",))


def _thumbnail(reconstruction: Scene, index: int) -> NDArray[np.uint8]:
    # Hundreds of photos share what a few dozen may take.
    side = _THUMBNAIL if len(reconstruction.views) <= 100 else _THUMBNAIL // 2
    return shrunk(reconstruction.views[index].pixels, side)
