"""A scene at the end of a notebook's cell: a table of what it is, and the scene to turn."""

from __future__ import annotations

from html import escape

from recon.scene import Scene
from viz.pages.scene_page import scene_page_html

# A notebook keeps what its cells show: a megabyte or two each.
_MOST_POINTS, _MOST_VERTICES = 60_000, 30_000
_HEIGHT_PX = 480


def notebook_html(scene: Scene) -> str:
    """Return HTML for a notebook's cell; the view is a page of its own inside a frame, which
    reaches nothing of the notebook.
    """
    placed = sum(view.registered for view in scene.views)
    length = "metres" if scene.units == "metres" else "scene units"
    rows = {
        "photos placed": f"{placed} of {len(scene.views)}",
        "points": f"{len(scene.cloud.points):,}",
        "triangles": f"{len(scene.surface.faces):,}",
        "lengths": length,
        "world": scene.world.in_words,
        "warnings": str(len(scene.warnings)),
    }
    table = "".join(
        f"<tr><th style='text-align:left'>{escape(name)}</th>"
        f"<td style='text-align:left'>{escape(value)}</td></tr>"
        for name, value in rows.items()
    )
    if not placed:
        return f"<table>{table}</table>"
    page = scene_page_html(scene, most_points=_MOST_POINTS, most_vertices=_MOST_VERTICES)
    return (
        f"<table>{table}</table><iframe title='The scene to turn' sandbox='allow-scripts' "
        f"style='width:100%;height:{_HEIGHT_PX}px;border:0' srcdoc='{escape(page)}'></iframe>"
    )
