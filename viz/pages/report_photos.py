"""The report's part on the single photos: their pictures side by side and a table of numbers."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

from recon.export.colour import camera_colours, confidence_to_rgb, depth_to_rgb
from recon.scene import Scene, View
from recon.work.threads import in_threads

_CONFIDENT = 0.5  # depth that two photos confirmed has this and more (recon.stereo.cross_check)
_QUALITY = 80  # of JPEGs: good to look at, and small
_OPEN_PHOTOS = 60  # a page of more takes a while to lay out


def number(value: float) -> str:
    """Return ``value`` with three or four digits, as people write it."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:#.3g}"


def picture_tag(
    picture: NDArray[np.uint8], says: str, *, lazy: bool = True, photo: int | None = None
) -> str:
    """Return an ``img`` element that holds ``picture`` (h, w, 3) as JPEG; ``says`` describes it.

    ``photo``: the index into the scene's views of the photo that the 3D view lays over the model.
    """
    text = base64.b64encode(jpeg(picture)).decode("ascii")
    height, width = picture.shape[:2]
    more = ' loading="lazy"' if lazy else ""
    more += f' data-photo="{photo}"' if photo is not None else ""
    return (
        f'<img src="data:image/jpeg;base64,{text}" width="{width}" height="{height}"'
        f'{more} alt="{escape(says)}">'
    )


def jpeg(picture: NDArray[np.uint8]) -> bytes:
    """Return the JPEG file of ``picture`` (h, w, 3) as pages hold it."""
    from PIL import Image

    packed = io.BytesIO()
    Image.fromarray(picture).save(packed, "JPEG", quality=_QUALITY, optimize=True)
    return packed.getvalue()


@dataclass(frozen=True)
class PhotoSummary:
    """What the page shows of one photo's maps: the pictures, small, and numbers.

    ``range``: the 2nd, 50th and 98th percentile of known depth, None where none is; ``known`` and
    ``confident``: shares of the pixels.
    """

    photo: NDArray[np.uint8]
    depth: NDArray[np.uint8]
    confidence: NDArray[np.uint8]
    range: tuple[float, float, float] | None
    known: float
    confident: float


def summarise_photos(scene: Scene) -> list[PhotoSummary]:
    """Return every photo's summary: its maps, which may lie in a file, are read once."""
    count = len(scene.views)
    sides = photo_side(count), _map_side(count)
    return list(in_threads(lambda view: _summary(view, *sides), scene.views))


def _summary(view: View, photo_side: int, map_side: int) -> PhotoSummary:
    depth, confidence = view.depth, view.confidence
    known = np.isfinite(depth) & (depth > 0)
    low, middle, high = np.percentile(depth[known], [2, 50, 98]) if known.any() else (0, 0, 0)
    return PhotoSummary(
        shrunk(view.pixels, photo_side),
        shrunk(depth_to_rgb(depth), map_side),
        shrunk(confidence_to_rgb(confidence), map_side),
        (float(low), float(middle), float(high)) if known.any() else None,
        float(known.mean()),
        float((known & (confidence >= _CONFIDENT)).mean()),
    )


def photo_cards(scene: Scene, summaries: Sequence[PhotoSummary]) -> str:
    """Return the section that shows each photo beside its depth and its confidence.

    Of many photos most are folded away, so that the page opens quickly.
    """
    views = scene.views
    colours = camera_colours(len(views))
    cards = [
        _card(index, view, summary, colours[index])
        for index, (view, summary) in enumerate(zip(views, summaries, strict=True))
    ]
    folded = ""
    if len(cards) > _OPEN_PHOTOS:
        folded = (
            f"<details><summary>{len(cards) - _OPEN_PHOTOS} more photos</summary>"
            f"<div class='two'>{''.join(cards[_OPEN_PHOTOS:])}</div></details>"
        )
    # Both ends as drawn: recon.export.colour keeps off turbo's dark ends.
    near_far = "linear-gradient(90deg,#c32503,#fb8022,#d2e935,#3ff58a,#38a5fb,#3e378f)"
    unsure_sure = "linear-gradient(90deg,#440154,#31688e,#35b779,#fde725)"
    return (
        "<h2>Photos</h2><p class='soft'>Depth: near"
        f"<span class='legend' style='background:{near_far}'></span>far, grey unknown. "
        f"Confidence: low<span class='legend' style='background:{unsure_sure}'></span>high.</p>"
        f"<div class='two'>{''.join(cards[:_OPEN_PHOTOS])}</div>{folded}"
    )


def photo_table(scene: Scene, summaries: Sequence[PhotoSummary]) -> str:
    """Return the section with one row of numbers per photo, folded away where they are many."""
    views = scene.views
    colours = camera_colours(len(views))
    rows = "".join(
        _row(index, view, summary, colours[index])
        for index, (view, summary) in enumerate(zip(views, summaries, strict=True))
    )
    unit = "m" if scene.units == "metres" else "units"
    table = (
        "<div class='wide'><table><thead><tr><th class='number'>#</th>"
        "<th>Photo</th><th class='number'>Size</th><th class='number'>Focal px</th>"
        "<th class='number'>Field of view</th><th>Placed</th>"
        f"<th class='number'>Median depth ({unit})</th><th class='number'>Depth known</th>"
        f"<th class='number'>Confident</th></tr></thead><tbody>{rows}</tbody></table></div>"
        f"<p class='soft'>Focal length and size are of the original photo; the field of view is "
        f"across the width. Confident: depth known and confidence at least {_CONFIDENT}.</p>"
    )
    if len(views) > _OPEN_PHOTOS:
        table = f"<details><summary>All {len(views)} photos</summary>{table}</details>"
    return f"<h2>Photos in numbers</h2>{table}"


def _card(index: int, view: View, summary: PhotoSummary, colour: NDArray[np.uint8]) -> str:
    name = escape(view.name)
    depth_says = "No depth"
    if summary.range is not None:
        depth_says = f"Depth {number(summary.range[0])} – {number(summary.range[2])}"
    maps = (
        (summary.photo, "Photo", index),
        (summary.depth, depth_says, None),
        (summary.confidence, f"Confident {summary.confident:.0%}", None),
    )
    figures = "".join(
        f"<figure>{picture_tag(picture, f'{view.name}: {says}', photo=photo)}"
        f"<figcaption>{says}</figcaption></figure>"
        for picture, says, photo in maps
    )
    jump = f"<button data-camera='{index}'>See from here</button>" if view.registered else ""
    return (
        f"<article class='card'><header>{_dot(view, colour)}<h3>{index + 1}. {name}</h3>{jump}"
        f"</header>{_reason(view)}<div class='maps'>{figures}</div></article>"
    )


def _row(index: int, view: View, summary: PhotoSummary, colour: NDArray[np.uint8]) -> str:
    camera = view.camera
    focal = float(camera.intrinsics[0, 0])
    across = float(np.degrees(2 * np.arctan(camera.width / 2 / focal)))
    depth = "–" if summary.range is None else number(summary.range[1])
    placed = "<span class='yes'>yes</span>"
    if not view.registered:
        placed = f"<span class='no'>no</span>: {escape(view.reason or 'no reason given')}"
    return (
        f"<tr><td class='number'>{_dot(view, colour)} {index + 1}</td>"
        f"<td class='name'>{escape(view.name)}</td>"
        f"<td class='number'>{camera.width} × {camera.height}</td>"
        f"<td class='number'>{number(focal)}</td><td class='number'>{across:.1f}°</td>"
        f"<td class='why'>{placed}</td><td class='number'>{depth}</td>"
        f"<td class='number'>{summary.known:.0%}</td>"
        f"<td class='number'>{summary.confident:.0%}</td></tr>"
    )


def _reason(view: View) -> str:
    if view.registered:
        return ""
    return f"<p class='reason'>Not placed: {escape(view.reason or 'no reason given')}</p>"


def _dot(view: View, colour: NDArray[np.uint8]) -> str:
    """Return the dot in the colour that the photo's camera has in every picture."""
    kind = "dot" if view.registered else "dot none"
    return f"<span class='{kind}' style='background:#{bytes(colour).hex()}'></span>"


def photo_side(count: int) -> int:
    """Return the long side of each of ``count`` photos in a page, in pixels: those that are laid
    over the model are looked at closely, and a page of hundreds stays below 15 MB.
    """
    for most, side in ((16, 640), (60, 480), (150, 320)):
        if count <= most:
            return side
    return round(200 * (150 / count) ** 0.5)


def _map_side(count: int) -> int:
    """Return the long side of depth and confidence, which tell as much when they are smaller."""
    return min(photo_side(count), 360) if count <= 150 else round(0.8 * photo_side(count))


def shrunk(picture: NDArray[np.uint8], long_side: int) -> NDArray[np.uint8]:
    """Return a picture (h, w, 3) with no side above ``long_side``; never enlarged."""
    from PIL import Image

    image = Image.fromarray(picture)
    image.thumbnail((long_side, long_side), Image.Resampling.BOX)
    return np.asarray(image)
