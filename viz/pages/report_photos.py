"""The report's part on the single photos: their pictures side by side and a table of numbers."""

from __future__ import annotations

import base64
import io
from html import escape

import numpy as np
from numpy.typing import NDArray

from recon.export.colour import camera_colours, confidence_to_rgb, depth_to_rgb
from recon.scene import Scene, View

_CONFIDENT = 0.5  # depth that two photos confirmed has this and more (recon.stereo.cross_check)
_QUALITY = 80  # of JPEGs: good to look at, and small


def number(value: float) -> str:
    """Return ``value`` with three or four digits, as people write it."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:#.3g}"


def picture_tag(picture: NDArray[np.uint8], says: str, *, lazy: bool = True) -> str:
    """Return an ``img`` element that holds ``picture`` (h, w, 3) as JPEG; ``says`` describes it."""
    from PIL import Image

    packed = io.BytesIO()
    Image.fromarray(picture).save(packed, "JPEG", quality=_QUALITY, optimize=True)
    text = base64.b64encode(packed.getvalue()).decode("ascii")
    height, width = picture.shape[:2]
    loading = ' loading="lazy"' if lazy else ""
    return (
        f'<img src="data:image/jpeg;base64,{text}" width="{width}" height="{height}"'
        f'{loading} alt="{escape(says)}">'
    )


def photo_cards(reconstruction: Scene) -> str:
    """Return the section that shows each photo beside its depth and its confidence."""
    views = reconstruction.views
    colours = camera_colours(len(views))
    cards = "".join(
        _card(reconstruction, index, view, colours[index]) for index, view in enumerate(views)
    )
    # Both ends as drawn: recon.export.colour keeps off turbo's dark ends.
    near_far = "linear-gradient(90deg,#c32503,#fb8022,#d2e935,#3ff58a,#38a5fb,#3e378f)"
    unsure_sure = "linear-gradient(90deg,#440154,#31688e,#35b779,#fde725)"
    return (
        "<h2>Photos</h2><p class='soft'>Depth: near"
        f"<span class='legend' style='background:{near_far}'></span>far, grey unknown. "
        f"Confidence: low<span class='legend' style='background:{unsure_sure}'></span>high.</p>"
        f"<div class='two'>{cards}</div>"
    )


def photo_table(reconstruction: Scene) -> str:
    """Return the section with one row of numbers per photo."""
    views = reconstruction.views
    colours = camera_colours(len(views))
    rows = "".join(_row(index, view, colours[index]) for index, view in enumerate(views))
    unit = "m" if reconstruction.units == "metres" else "units"
    return (
        "<h2>Photos in numbers</h2><div class='wide'><table><thead><tr><th class='number'>#</th>"
        "<th>Photo</th><th class='number'>Size</th><th class='number'>Focal px</th>"
        "<th class='number'>Field of view</th><th>Placed</th>"
        f"<th class='number'>Median depth ({unit})</th><th class='number'>Depth known</th>"
        f"<th class='number'>Confident</th></tr></thead><tbody>{rows}</tbody></table></div>"
        f"<p class='soft'>Focal length and size are of the original photo; the field of view is "
        f"across the width. Confident: depth known and confidence at least {_CONFIDENT}.</p>"
    )


def _card(reconstruction: Scene, index: int, view: View, colour: NDArray[np.uint8]) -> str:
    name = escape(view.name)
    long_side = _thumbnail_side(len(reconstruction.views))
    known = view.depth[_known(view)]
    if len(known):
        low, high = (number(float(v)) for v in np.percentile(known, [2, 98]))
        depth_says = f"Depth {low} – {high}"
    else:
        depth_says = "No depth"
    maps = (
        (shrunk(view.pixels, long_side), "Photo"),
        (shrunk(depth_to_rgb(view.depth), long_side), depth_says),
        (shrunk(confidence_to_rgb(view.confidence), long_side), _confident_text(view)),
    )
    figures = "".join(
        f"<figure>{picture_tag(picture, f'{view.name}: {says}')}<figcaption>{says}</figcaption>"
        "</figure>"
        for picture, says in maps
    )
    jump = f"<button data-camera='{index}'>See from here</button>" if view.registered else ""
    return (
        f"<article class='card'><header>{_dot(view, colour)}<h3>{index + 1}. {name}</h3>{jump}"
        f"</header>{_reason(view)}<div class='maps'>{figures}</div></article>"
    )


def _row(index: int, view: View, colour: NDArray[np.uint8]) -> str:
    camera = view.camera
    focal = float(camera.intrinsics[0, 0])
    across = float(np.degrees(2 * np.arctan(camera.width / 2 / focal)))
    known = _known(view)
    depth = number(float(np.median(view.depth[known]))) if known.any() else "–"
    placed = "<span class='yes'>yes</span>"
    if not view.registered:
        placed = f"<span class='no'>no</span>: {escape(view.reason or 'no reason given')}"
    return (
        f"<tr><td class='number'>{_dot(view, colour)} {index + 1}</td>"
        f"<td class='name'>{escape(view.name)}</td>"
        f"<td class='number'>{camera.width} × {camera.height}</td>"
        f"<td class='number'>{number(focal)}</td><td class='number'>{across:.1f}°</td>"
        f"<td class='why'>{placed}</td><td class='number'>{depth}</td>"
        f"<td class='number'>{known.mean():.0%}</td>"
        f"<td class='number'>{_confident(view):.0%}</td></tr>"
    )


def _reason(view: View) -> str:
    if view.registered:
        return ""
    return f"<p class='reason'>Not placed: {escape(view.reason or 'no reason given')}</p>"


def _dot(view: View, colour: NDArray[np.uint8]) -> str:
    """Return the dot in the colour that the photo's camera has in every picture."""
    kind = "dot" if view.registered else "dot none"
    return f"<span class='{kind}' style='background:#{bytes(colour).hex()}'></span>"


def _known(view: View) -> NDArray[np.bool_]:
    return np.isfinite(view.depth) & (view.depth > 0)


def _confident(view: View) -> float:
    """Return the share of pixels whose depth is known and sure."""
    return float((_known(view) & (view.confidence >= _CONFIDENT)).mean())


def _confident_text(view: View) -> str:
    return f"Confident {_confident(view):.0%}"


def _thumbnail_side(count: int) -> int:
    """Return the long side of a photo's pictures, so that pages of many photos stay small."""
    if count <= 16:
        return 480
    return 320 if count <= 60 else 200


def shrunk(picture: NDArray[np.uint8], long_side: int) -> NDArray[np.uint8]:
    """Return ``picture`` with no side above ``long_side``; never enlarged."""
    from PIL import Image

    image = Image.fromarray(picture)
    image.thumbnail((long_side, long_side), Image.Resampling.BOX)
    return np.asarray(image)
