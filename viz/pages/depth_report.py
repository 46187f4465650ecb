"""The page of photos that are not one scene: each with its depth, its mesh, and its numbers."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from html import escape
from typing import TextIO
from urllib.parse import quote

import numpy as np

from recon.export.colour import depth_to_rgb, normals_to_rgb
from recon.scene import Scene
from viz.pages.html_page import FOOTER, page_head, warning_list
from viz.pages.report_photos import number, picture_tag, shrunk

_SIDE = 360  # long side of a picture: three stand beside each other


def depth_card(scene: Scene, folder: str) -> str:
    """Return the HTML of a one-photo ``scene``, whose files lie in ``folder`` beside the page."""
    from recon.depth.derived_maps import depth_normals

    view = scene.views[0]
    known = view.depth[view.depth > 0]
    low, high = (number(float(v)) for v in np.percentile(known, [2, 98]))
    unit = " m" if scene.units == "metres" else ""
    focal = float(view.camera.intrinsics[0, 0])
    across = 2 * np.degrees(np.arctan(view.camera.width / 2 / focal))
    normals = depth_normals(view.depth, view.depth_intrinsics, view.camera.lens)
    pictures = (
        (view.pixels, "Photo"),
        (depth_to_rgb(view.depth, name="inferno"), f"Depth {low} – {high}{unit}"),
        (normals_to_rgb(normals), "Normals"),
    )
    figures = "".join(
        f"<figure>{picture_tag(shrunk(picture, _SIDE), f'{view.name}: {says}')}"
        f"<figcaption>{says}</figcaption></figure>"
        for picture, says in pictures
    )
    links = " · ".join(
        f"<a href='{escape(quote(f'{folder}/{name}', errors='surrogateescape'))}'>{says}</a>"
        for name, says in (
            ("scene.glb", "mesh (GLB)"),
            ("points.ply", "cloud (PLY)"),
            ("products", "depth products"),
        )
    )
    return (
        f"<article class='card'><header><h3>{escape(view.name)}</h3></header>"
        f"<div class='maps'>{figures}</div><p class='soft'>Focal length {number(focal)} px "
        f"({across:.0f}° across), {len(scene.cloud.points):,} points, "
        f"{len(scene.surface.faces):,} triangles. {links}</p></article>"
    )


def write_depth_report(page: TextIO, cards: TextIO, count: int, warnings: Sequence[str]) -> None:
    """Write the whole page; its pictures are inside it, the linked files beside it.

    ``cards``: what :func:`depth_card` returned for ``count`` photos, from its start on. They are
    never in memory together.
    """
    title = f"Depth of {count} photo{'s' if count != 1 else ''}"
    page.write(
        f"{page_head(title)}<main><h1>{title}</h1>"
        "<p class='soft'>Each photo by itself: its scale is open, and the network alone says what "
        f"is near.</p>{warning_list(warnings)}<div class='two'>"
    )
    shutil.copyfileobj(cards, page)
    page.write(f"</div>{FOOTER}</main></body></html>\n")
