"""Drawings for the report, as SVG text: cameras from above and the side, and the pair matrix.

They take their ink from the page (``currentColor``), so that they suit a light and a dark one.
"""

from __future__ import annotations

import base64
import io
from html import escape
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array
from recon.export.colour import camera_colours, colour_map
from recon.scene import PairRecord, Scene
from viz.drawing.viewpoint import (
    FRUSTUM_EDGES,
    frustum_depth,
    frustum_vertices,
    registered_cameras,
    scene_frame,
)

_WIDTH = 560  # of a drawing, pixels: two stand beside each other
_MARGIN = 28  # holds the labels of cameras at the rim
_CLOUD_POINTS = 400_000  # of the cloud are drawn: about one a pixel


def camera_plot(scene: Scene, *, side: Literal["top", "side"] = "top") -> str:
    """Return an SVG of the cameras over the faint cloud, orthographic and to scale.

    From the "top", forward (where the cameras look) is up; from the "side", forward is right.
    Cameras are numbered from 1 in photo order while there are at most 40.
    """
    frame = scene_frame(scene)
    # Columns of the frame (right, down, forward) that run right and down on the page.
    columns, signs = ([0, 2], [1.0, -1.0]) if side == "top" else ([2, 1], [1.0, 1.0])
    depth = frustum_depth(scene)
    cameras = registered_cameras(scene)
    outlines = [
        frame.to_frame(frustum_vertices(camera, pose, depth))[:, columns] * signs
        for _, camera, pose in cameras
    ]
    cloud = scene.cloud
    stride = max(1, len(cloud.points) // _CLOUD_POINTS)
    points = frame.to_frame(cloud.points[::stride])[:, columns] * signs
    low, scale, height = _layout(points, outlines, frame.radius)
    parts = [_cloud_image((points - low) * scale + _MARGIN, cloud.colours[::stride], height)]
    colours = camera_colours(len(scene.views))
    for (index, _, _), outline in zip(cameras, outlines, strict=True):
        name = scene.views[index].name
        label = str(index + 1) if len(scene.views) <= 40 else ""
        drawn = (outline - low) * scale + _MARGIN
        parts.append(_camera_mark(drawn, colours[index], label, name))
    unit = "m" if scene.units == "metres" else "units"
    parts.append(_scale_bar(scale, height, unit))
    title = f"Cameras and points from the {side}"
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{title}">'
        f"{''.join(parts)}</svg>"
    )


def pair_matrix(names: list[str], pairs: tuple[PairRecord, ...]) -> str:
    """Return an SVG matrix of the pairs' inliers; photos are numbered from 1 in photo order.

    Colour grows with the logarithm of the inliers; pairs that were not used are hollow.
    """
    count = len(names)
    cell, head = 40 if count <= 14 else max(9, 560 // count), 26
    size = head + cell * count
    most = max([pair.inliers for pair in pairs], default=0)
    parts = []
    every = 1 if cell >= 16 else 5
    for k in range(0, count, every):
        middle = head + (k + 0.5) * cell
        parts.append(f'<text x="{middle:g}" y="18" text-anchor="middle">{k + 1}</text>')
        parts.append(f'<text x="20" y="{middle + 4:g}" text-anchor="end">{k + 1}</text>')
    for pair in pairs:
        level = np.log1p(pair.inliers) / np.log1p(most) if most else 0.0
        colour = colour_map([0.15 + 0.8 * level], "viridis")[0]
        ink = "#000" if colour.mean() > 115 else "#fff"
        says = escape(
            f"{names[pair.i]} – {names[pair.j]}: {pair.inliers} inliers of {pair.matches} matches, "
            f"{pair.method}{'' if pair.used else ', not used'}"
        )
        for row, column in ((pair.i, pair.j), (pair.j, pair.i)):
            x, y, side = head + column * cell + 1, head + row * cell + 1, cell - 2
            look = f'fill="{_hex(colour)}"'
            if not pair.used:
                look = f'fill="none" stroke="{_hex(colour)}" stroke-dasharray="3 2"'
                ink = "currentColor"
            parts.append(
                f'<rect x="{x}" y="{y}" width="{side}" height="{side}" rx="2" {look}>'
                f"<title>{says}</title></rect>"
            )
            if cell >= 40:
                parts.append(
                    f'<text x="{x + side / 2:g}" y="{y + side / 2 + 4:g}" text-anchor="middle" '
                    f'style="fill:{ink};font-size:11px;pointer-events:none">{pair.inliers}</text>'
                )
    return (
        f'<svg viewBox="0 0 {size} {size}" style="width:{size}px" role="img" '
        f'aria-label="Inlier matches of each pair of photos">{"".join(parts)}</svg>'
    )


def _layout(points: Array, outlines: list[Array], radius: float) -> tuple[Array, float, int]:
    """Return the plot's lower bounds (2,), pixels per unit and height in pixels.

    Holds the cameras and 96 % of the points, with forms from 2:1 wide to 1:1.
    """
    finite = points[np.isfinite(points).all(axis=1)]
    marks = [*outlines, np.array([[-0.1, -0.1], [0.1, 0.1]]) * radius]
    if len(finite):
        marks.append(np.percentile(finite, [2, 98], axis=0))
    bounds = np.concatenate(marks)
    low, high = bounds.min(axis=0), bounds.max(axis=0)
    room = _WIDTH - 2 * _MARGIN
    spread = np.maximum(high - low, 1e-9)
    shape = float(np.clip(spread[1] / spread[0], 0.5, 1.0))
    scale = float(min(room / spread[0], shape * room / spread[1]))
    middle = (low + high) / 2
    half = np.array([room, shape * room]) / scale / 2
    return middle - half, scale, round(shape * room + 2 * _MARGIN)


def _cloud_image(pixels: Array, colours: NDArray[np.uint8], height: int) -> str:
    """Return the points at ``pixels`` (N, 2) as one faint SVG image; none gives nothing."""
    from PIL import Image

    with np.errstate(invalid="ignore"):
        inside = ((pixels >= 0) & (pixels < [_WIDTH, height])).all(axis=1)
    if not inside.any():
        return ""
    cells = pixels[inside].astype(np.int64) @ [1, _WIDTH]
    count = np.bincount(cells, minlength=_WIDTH * height)
    picture = np.zeros((_WIDTH * height, 4))
    for k in range(3):
        sums = np.bincount(cells, colours[inside, k], _WIDTH * height)
        picture[:, k] = sums / np.maximum(count, 1)
    # Full at the usual density: sparse strays fade, solid walls stand out.
    usual = np.median(count[count > 0])
    picture[:, 3] = 150 * np.minimum(1, np.sqrt(count / max(2 * usual, 1)))
    levels = np.rint(picture.reshape(height, _WIDTH, 4)).astype(np.uint8)
    packed = io.BytesIO()
    Image.fromarray(levels, "RGBA").save(packed, "WEBP", quality=70, method=4)
    text = base64.b64encode(packed.getvalue()).decode("ascii")
    return (
        f'<image href="data:image/webp;base64,{text}" width="{_WIDTH}" height="{height}" '
        'preserveAspectRatio="none"/>'
    )


def _camera_mark(outline: Array, colour: NDArray[np.uint8], label: str, name: str) -> str:
    """Return one camera as the edges of ``outline`` (5, 2) and a dot at its centre."""
    path = "".join(
        f"M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" for (x1, y1), (x2, y2) in outline[FRUSTUM_EDGES]
    )
    x, y = outline[0]
    # The number stands behind the camera, off its outline.
    back = outline[0] - outline[1:].mean(axis=0)
    away = back / np.linalg.norm(back) if np.linalg.norm(back) > 1e-6 else np.array([0.0, 1.0])
    text_x, text_y = outline[0] + 12 * away + [0, 4]
    return (
        f"<g><title>{escape(name)}</title>"
        f'<path d="{path}" fill="none" stroke="{_hex(colour)}" stroke-width="1.6"/>'
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{_hex(colour)}"/>'
        f'<text x="{text_x:.1f}" y="{text_y:.1f}" text-anchor="middle">{label}</text></g>'
    )


def _scale_bar(scale: float, height: int, unit: str) -> str:
    """Return a bar of a round length, about a fifth of the plot wide, with its label."""
    wanted = 0.2 * _WIDTH / scale
    power = 10.0 ** np.floor(np.log10(wanted))
    length = float(max(step * power for step in (1, 2, 5) if step * power <= wanted))
    end, y = _MARGIN + length * scale, height - 12
    return (
        f'<path d="M{_MARGIN} {y - 4}V{y}H{end:.1f}V{y - 4}" fill="none" stroke="currentColor"/>'
        f'<text x="{end + 7:.1f}" y="{y + 2}">{length:g} {unit}</text>'
    )


def _hex(colour: NDArray[np.uint8]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)
