"""Pictures of what two photos have in common: their matches as lines from one to the other."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array
from pointmap.errors import InputError
from recon.export.colour import camera_colours, png
from recon.scene import Scene, View
from viz.pages.report_photos import picture_tag

if TYPE_CHECKING:
    from PIL import Image

_LINES = 60  # more hide the photos
_HEIGHT = 320  # of the photos, pixels
_GAP = 8  # between them
_SHOWN = 2  # pairs from each end


@dataclass(frozen=True)
class SharedPoints:
    """Where photos ``i`` < ``j`` see the same track points: ``xy_i``, ``xy_j`` (M, 2) in original
    pixels.
    """

    i: int
    j: int
    xy_i: Array
    xy_j: Array


@dataclass(frozen=True)
class PairPicture:
    """Two photos side by side, their ``matches`` joined by lines: ``pixels`` (h, w, 3)."""

    first: str
    second: str
    matches: int
    pixels: NDArray[np.uint8] = field(repr=False)

    def _repr_png_(self) -> bytes:
        return png(self.pixels)


def pair_picture(scene: Scene, first: str, second: str) -> PairPicture:
    """Return the picture of two photos of ``scene``, by their names.

    Raises ``InputError`` for a name that it does not have.
    """
    names = [view.name for view in scene.views]
    for name in (first, second):
        if name not in names:
            raise InputError(f"the scene has no photo {name}: it has {', '.join(names[:8])}")
    shared = shared_points(scene, names.index(first), names.index(second))
    return PairPicture(first, second, len(shared.xy_i), match_picture(scene, shared))


def match_section(scene: Scene) -> str:
    """Return the report's part with the strongest and the weakest pairs; "" where none match."""
    counts = shared_counts(scene)
    i, j = np.nonzero(np.triu(counts, 1))
    if len(i) == 0:
        return ""
    order = np.argsort(-counts[i, j], kind="stable")
    strongest = order[:_SHOWN]
    weakest = order[max(_SHOWN, len(order) - _SHOWN) :]
    figures = [_figure(scene, int(i[k]), int(j[k]), "Strong") for k in strongest]
    figures += [_figure(scene, int(i[k]), int(j[k]), "Weak") for k in weakest]
    most = max(len(scene.tracks.points), 1)
    return (
        "<h2>Matches</h2><p class='soft'>Places that two photos agree on, of the "
        f"{most:,} tracks that hold the cameras: the pairs with the most and the fewest in "
        f"common, at most {_LINES} lines each.</p>"
        f"<div class='two zoom'>{''.join(figures)}</div>"
    )


def shared_counts(scene: Scene) -> NDArray[np.int64]:
    """Return how many track points each two photos share: (V, V), symmetric."""
    from scipy.sparse import csr_matrix

    tracks = scene.tracks
    shape = (len(tracks.points), len(scene.views))
    seen = csr_matrix((np.ones(len(tracks.xy)), (tracks.point_index, tracks.view_index)), shape)
    # A point that one photo holds twice counts once.
    seen.data[:] = 1
    counts: NDArray[np.int64] = np.rint((seen.T @ seen).toarray()).astype(np.int64)
    return counts


def shared_points(scene: Scene, i: int, j: int) -> SharedPoints:
    """Return where photos ``i`` and ``j`` see the track points that they share."""
    tracks = scene.tracks
    rows = [tracks.seen_by(view) for view in (i, j)]
    _, at_i, at_j = np.intersect1d(
        tracks.point_index[rows[0]], tracks.point_index[rows[1]], return_indices=True
    )
    return SharedPoints(i, j, tracks.xy[rows[0][at_i]], tracks.xy[rows[1][at_j]])


def match_picture(
    scene: Scene, shared: SharedPoints, *, height: int = _HEIGHT
) -> NDArray[np.uint8]:
    """Return both photos side by side, (height, w, 3), with lines between their matches.

    Lines are coloured from left to right of the first photo, an even choice of them where there
    are many.
    """
    from PIL import Image, ImageDraw

    first, second = scene.views[shared.i], scene.views[shared.j]
    photos = [_resized(view, height) for view in (first, second)]
    left = photos[0].width + _GAP
    sheet = Image.new("RGB", (left + photos[1].width, height), (128, 128, 128))
    sheet.paste(photos[0], (0, 0))
    sheet.paste(photos[1], (left, 0))
    order = np.argsort(shared.xy_i[:, 0], kind="stable")
    if len(order):
        order = order[np.unique(np.linspace(0, len(order) - 1, _LINES).astype(int))]
    colours = camera_colours(len(order))
    drawn = ImageDraw.Draw(sheet)
    starts = shared.xy_i[order] * _scale(first, photos[0])
    ends = shared.xy_j[order] * _scale(second, photos[1]) + [left, 0]
    for start, end, colour in zip(starts, ends, colours, strict=True):
        ink = tuple(int(level) for level in colour)
        drawn.line([*start, *end], fill=ink, width=1)
        for x, y in (start, end):
            drawn.ellipse([x - 2.5, y - 2.5, x + 2.5, y + 2.5], fill=ink, outline=(0, 0, 0))
    return np.asarray(sheet)


def _figure(scene: Scene, i: int, j: int, kind: str) -> str:
    shared = shared_points(scene, i, j)
    names = [escape(scene.views[k].name) for k in (i, j)]
    noun = "match" if len(shared.xy_i) == 1 else "matches"
    says = f"{kind}: {i + 1}. {names[0]} – {j + 1}. {names[1]}, {len(shared.xy_i):,} {noun}"
    plain = f"{scene.views[i].name} and {scene.views[j].name}, joined matches"
    picture = match_picture(scene, shared)
    return f"<figure>{picture_tag(picture, plain)}<figcaption>{says}</figcaption></figure>"


def _resized(view: View, height: int) -> Image.Image:
    from PIL import Image

    width = max(1, round(view.camera.width / view.camera.height * height))
    return Image.fromarray(view.pixels).resize((width, height), Image.Resampling.LANCZOS)


def _scale(view: View, photo: Image.Image) -> Array:
    """Return pixels of ``photo`` per original pixel, along x and y."""
    return np.array([photo.width / view.camera.width, photo.height / view.camera.height])
