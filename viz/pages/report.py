"""The report: one HTML page that shows a reconstruction and needs nothing but a browser.

Pictures, drawings, the 3D view's data and its script are all inside the file; nothing is loaded
from elsewhere. Text that comes from the user (file names, reasons, options) is escaped.
"""

from __future__ import annotations

from dataclasses import replace
from html import escape
from pathlib import Path

from recon.export.file_names import place_folder
from recon.progress import duration
from recon.scene import Scene
from viz.drawing.render import render_scene
from viz.pages.html_page import FOOTER, page_html, warning_list, write_page
from viz.pages.match_pictures import match_section
from viz.pages.plots import camera_plot, pair_matrix
from viz.pages.report_photos import (
    number,
    photo_cards,
    photo_table,
    picture_tag,
    summarise_photos,
)
from viz.pages.scene_data import scene_data
from viz.pages.thin_mesh import thin_mesh
from viz.pages.viewer_figure import VIEWER_SCRIPTS, viewer_figure

_MATRIX_PHOTOS = 60  # with more, cells of the pair matrix are too small to read
_LISTED_PHOTOS = 12
_LISTED_PAIRS = 300  # what one still scrolls through
_DRAWN_VERTICES = 500_000  # of the surface: more are no more than there are pixels


def write_report(scene: Scene, path: str | Path) -> Path:
    """Write the report page of ``scene`` to ``path`` and return it.

    The file appears whole or not at all. Raises OSError when it cannot be written.
    """
    return write_page(report_html(scene), path)


def report_html(scene: Scene) -> str:
    """Return the whole page. Sections without content (no pairs, one photo) are left out."""
    count = len(scene.views)
    title = f"Scene of {count} photo{'s' if count != 1 else ''}"
    summaries = summarise_photos(scene)
    # A street's surface, drawn whole, takes as much memory as all else that is done with it.
    thin = replace(scene, surface=thin_mesh(scene.surface, _DRAWN_VERTICES))
    sections = "".join(
        (
            _head_section(scene, title),
            _verdict_section(scene),
            _places_section(scene),
            viewer_figure(thin),
            _warning_section(scene),
            _picture_section(scene, thin),
            photo_cards(scene, summaries),
            _camera_section(scene),
            match_section(scene),
            photo_table(scene, summaries),
            _pair_section(scene),
            _time_section(scene),
            _option_section(scene),
        )
    )
    body = f"<main>{sections}{FOOTER}</main>"
    body += '<dialog id="large"><img alt=""><p></p></dialog>'
    scripts = (*VIEWER_SCRIPTS, "gallery.js")
    return page_html(title, body, scene_data(thin), scripts=scripts)


def _head_section(scene: Scene, title: str) -> str:
    placed = sum(view.registered for view in scene.views)
    seconds = sum(stage.seconds for stage in scene.stages)
    memory = max([stage.peak_memory_mb for stage in scene.stages], default=0.0)
    tracks = scene.tracks
    tiles = [
        ("Photos placed", f"{placed} of {len(scene.views)}", ""),
        ("Focal length", *_focal_text(scene)),
        ("Points", f"{len(scene.cloud.points):,}", "in points.ply"),
        ("Triangles", f"{len(scene.surface.faces):,}", "in mesh.ply"),
        ("Time", duration(seconds), f"peak memory {memory / 1024:.1f} GB" if memory else ""),
    ]
    if len(tracks.points):
        tiles.insert(4, ("Tracks", f"{len(tracks.points):,}", f"{len(tracks.xy):,} observations"))
    items = "".join(
        f"<div class='tile'><dt>{name}</dt><dd>{value}<small>{note}</small></dd></div>"
        for name, value, note in tiles
    )
    known = scene.units == "metres"
    scale = "Lengths are in metres." if known else "Lengths are in scene units: the scale is free."
    return f"<h1>{title}</h1><p class='soft'>{scale}</p><dl class='tiles'>{items}</dl>"


def _focal_text(scene: Scene) -> tuple[str, str]:
    """Return the focal length or its range in original pixels, and a note on it."""
    placed = [view for view in scene.views if view.registered]
    focals = sorted({round(float(view.camera.intrinsics[0, 0]), 1) for view in placed})
    if not focals:
        return "–", ""
    if len(focals) == 1:
        return f"{number(focals[0])} px", "shared by all placed photos"
    return f"{focals[0]:.0f}–{focals[-1]:.0f} px", f"{len(focals)} different"


def _verdict_section(scene: Scene) -> str:
    verdict = scene.verdict
    if verdict is None:
        return ""
    error = ""
    if verdict.rotation_error_deg is not None and verdict.direction_error_deg is not None:
        error = (
            f" To be expected of a pair of photos: {number(verdict.rotation_error_deg)}° of "
            f"rotation, {number(verdict.direction_error_deg)}° of direction."
        )
    odd = verdict.in_doubt
    items = "".join(
        f"<li>{escape(': '.join(filter(None, (photo.name, photo.word, photo.reason))))}</li>"
        for photo in odd[:_LISTED_PHOTOS]
    )
    if len(odd) > _LISTED_PHOTOS:
        items += f"<li>… and {len(odd) - _LISTED_PHOTOS:,} more, in run.json</li>"
    text = f"<p><strong>Cameras: {verdict.word}.</strong> {escape(verdict.reason)}.{error}</p>"
    listed = f"<ul>{items}</ul>" if items else ""
    return f"<div class='verdict {verdict.word}'>{text}{listed}</div>"


def _places_section(scene: Scene) -> str:
    """Return links to the reports of other places, whose scenes lie in this one's folder."""
    if not scene.further:
        return ""
    links = ", ".join(
        f"<a href='{place_folder(number)}/report.html'>{place_folder(number)}</a> "
        f"({sum(view.registered for view in other.views)} photos placed)"
        for number, other in enumerate(scene.further, start=2)
    )
    return f"<p class='soft'>Photos of other places have scenes of their own: {links}.</p>"


def _warning_section(scene: Scene) -> str:
    verdict = scene.verdict
    # What the verdict warns of stands above, in full.
    reasons = [] if verdict is None else [verdict.reason, *(p.reason for p in verdict.in_doubt)]
    said = tuple(filter(None, reasons))
    listed = warning_list([text for text in scene.warnings if not text.endswith(said)])
    return f"<h2>Warnings</h2>{listed}" if listed else ""


def _picture_section(scene: Scene, thin: Scene) -> str:
    """Return pictures of the surface, as it is in ``thin``, and of the points."""
    figures = []
    if len(scene.surface.faces):
        picture = render_scene(thin, show="mesh", cameras=False, width=960, height=600)
        note = f"Surface: {len(scene.surface.faces):,} triangles"
        figures.append(f"<figure>{picture_tag(picture, note)}<figcaption>{note}</figcaption>")
    if len(scene.cloud.points):
        picture = render_scene(scene, show="cloud", cameras=False, width=960, height=600)
        note = f"Points: {len(scene.cloud.points):,}"
        figures.append(f"<figure>{picture_tag(picture, note)}<figcaption>{note}</figcaption>")
    if not figures:
        return "<p class='soft'>No surface and no points: no depth was sure enough.</p>"
    return f"<h2>Surface and points</h2><div class='two'>{'</figure>'.join(figures)}</figure></div>"


def _camera_section(scene: Scene) -> str:
    if not any(view.registered for view in scene.views):
        return ""
    top, side = camera_plot(scene, side="top"), camera_plot(scene, side="side")
    return (
        "<h2>Cameras</h2><div class='two'>"
        f"<figure class='plot'>{top}<figcaption>From above; the cameras look up the page."
        f"</figcaption></figure><figure class='plot'>{side}<figcaption>From the side; the cameras "
        "look to the right.</figcaption></figure></div>"
    )


def _pair_section(scene: Scene) -> str:
    pairs = scene.pairs
    if not pairs:
        return ""
    names = [view.name for view in scene.views]
    used = sum(pair.used for pair in pairs)
    matrix = ""
    if len(names) <= _MATRIX_PHOTOS:
        matrix = f"<div class='matrix plot'>{pair_matrix(names, pairs)}</div>"
    ordered = sorted(pairs, key=lambda pair: -pair.inliers)
    rows = "".join(
        f"<tr><td class='name'>{pair.i + 1} {escape(names[pair.i])}</td>"
        f"<td class='name'>{pair.j + 1} {escape(names[pair.j])}</td>"
        f"<td class='number'>{pair.matches:,}</td><td class='number'>{pair.inliers:,}</td>"
        f"<td>{escape(pair.method)}</td><td>{'yes' if pair.used else 'no'}</td></tr>"
        for pair in ordered[:_LISTED_PAIRS]
    )
    left = len(pairs) - _LISTED_PAIRS
    more = f"<p class='soft'>… and {left:,} more, in run.json.</p>" if left > 0 else ""
    return (
        f"<h2>Pairs</h2><p class='soft'>Inlier matches of each pair; {used:,} of {len(pairs):,} "
        f"pairs are used, the others are drawn hollow.</p>{matrix}"
        "<details><summary>All pairs</summary><div class='wide'><table><thead><tr><th>Photo</th>"
        "<th>Photo</th><th class='number'>Matches</th><th class='number'>Inliers</th><th>Method"
        f"</th><th>Used</th></tr></thead><tbody>{rows}</tbody></table></div>{more}</details>"
    )


def _time_section(scene: Scene) -> str:
    stages = scene.stages
    if not stages:
        return ""
    longest = max([stage.seconds for stage in stages]) or 1.0
    rows = "".join(
        f"<tr><td>{escape(stage.name)}</td><td class='track'><span class='bar' "
        f"style='width:{100 * stage.seconds / longest:.1f}%'></span></td>"
        f"<td class='number'>{duration(stage.seconds)}</td>"
        f"<td class='number'>{stage.peak_memory_mb:,.0f} MB</td></tr>"
        for stage in stages
    )
    return (
        "<h2>Time</h2><div class='wide'><table><thead><tr><th>Stage</th><th></th>"
        "<th class='number'>Time</th><th class='number'>Peak memory</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
    )


def _option_section(scene: Scene) -> str:
    if not scene.options:
        return ""
    rows = "".join(
        f"<tr><td><code>{escape(name)}</code></td><td><code>{escape(value)}</code></td></tr>"
        for name, value in _flat_options(scene.options)
    )
    return (
        "<h2>Options</h2><details><summary>What this was made with</summary><div class='wide'>"
        f"<table><tbody>{rows}</tbody></table></div></details>"
    )


def _flat_options(options: dict[str, object], prefix: str = "") -> list[tuple[str, str]]:
    """Return nested options as (dotted name, text) rows."""
    rows: list[tuple[str, str]] = []
    for name, value in options.items():
        if isinstance(value, dict):
            rows += _flat_options(value, f"{prefix}{name}.")
        else:
            rows.append((f"{prefix}{name}", str(value)))
    return rows
