"""A mesh with the photos themselves as its texture.

Every triangle takes its colours from the photo that sees it largest and unhidden, neighbours the
same photo where they can (Waechter et al. 2014 choose views so, with a better solver). Connected
triangles of one photo are one chart, cut out of the photo as it is: nothing is resampled, and seams
run only where the photo changes. One gain per photo and colour levels exposure differences.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array, invert_rigid, project, transform_points
from recon.fusion.exposure import levelled, photo_gains, well_exposed
from recon.fusion.full_photos import full_photo, scaled_sizes
from recon.fusion.simplify import simplified
from recon.fusion.visibility import Visibility, mesh_visibility
from recon.scene import Mesh, TexturedMesh, View
from recon.work.pieces import Needs, PhotosFailed, PieceMap, PiecesFailed

Result = TypeVar("Result")

_SIGHT = Needs("Texture: what photos see", memory_mb=1300, per_task=8)
_PAINT = Needs("Texture: parts of photos", memory_mb=1500, per_task=4)
# Photos that a triangle may choose from.
_CANDIDATES = 4
# What one neighbour of the same photo is worth, in shares of the triangle's size in its best photo.
_NEIGHBOUR = 0.4
# Pixels of a photo that stay around its charts, for the blending of texels by viewers.
_MARGIN = 2
# A chart of one triangle takes so many texels across, however small the photos are made.
_LEAST_CHART = 2 * _MARGIN + 2
# Triangles that no photo sees get one of this many levels per colour, in cells of as many texels.
_LEVELS, _CELL = 16, 4

# Vertices (N,) that a photo sees, and their colours (N, 3) in it.
_Samples = tuple[NDArray[np.int64], NDArray[np.uint8]]


@dataclass(frozen=True)
class _Layout:
    """The triangles (F,) that some photo sees, laid out in one picture.

    ``vertex`` (W,) numbers of the mesh's vertices, one for each chart that a vertex is in, with
    its place ``texel`` (W, 2); ``faces`` (F, 3) of them; the ``view`` of each face, and the
    whole-numbered ``shift`` (F, 2) from its photo, resized by ``scale``, to its place.
    """

    vertex: NDArray[np.int64]
    texel: Array
    faces: NDArray[np.int64]
    view: NDArray[np.int64]
    shift: NDArray[np.int64]
    scale: float


def texture_mesh(
    mesh: Mesh,
    views: Sequence[View],
    *,
    size: int = 4096,
    max_triangles: int = 200_000,
    pieces: PieceMap | None = None,
) -> TexturedMesh | None:
    """Return the mesh under a texture of at most ``size`` x ``size``; None for an empty mesh.

    Photos are read from ``View.path`` at the resolution that fits; ``View.pixels`` stand in for
    those that are gone. A mesh of more than ``max_triangles``, or than would fit if each were a
    chart, is simplified first: the texture carries the detail. Triangles that no photo sees get
    their own flat colour. ``pieces``: where what concerns single photos is done, by default here;
    :class:`recon.work.pieces.PhotosFailed` is raised for those on which a cluster failed.
    """
    pieces = pieces or PieceMap()
    placed = [view for view in views if view.registered]
    if not len(mesh.faces) or not placed:
        return None
    mesh = simplified(mesh, min(max_triangles, (size // _LEAST_CHART) ** 2))
    candidates, samples = _Candidates.none(len(mesh.faces)), []

    def seen(numbers: Sequence[int]) -> Iterator[tuple[NDArray[np.float32], _Samples]]:
        some = [placed[number] for number in numbers]
        for view, sight in zip(some, mesh_visibility(mesh, some), strict=True):
            yield sight.size_px, _samples(sight, view)

    everyone = range(len(placed))
    sights = _of_photos(pieces, seen, everyone, placed, _SIGHT)
    for number, (size_px, sample) in enumerate(sights):
        candidates = candidates.with_view(number, size_px)
        samples.append(sample)
    labels = _choose(candidates, _neighbours(mesh.faces))
    layout = _lay_out(mesh, labels, placed, size - _LEVELS * _CELL)
    gains = photo_gains(samples, len(mesh.vertices))
    width, height = (int(np.ceil(n)) + _MARGIN for n in layout.texel.max(0, initial=0))
    texture = np.zeros((height + _LEVELS * _CELL, max(width, _LEVELS**2 * _CELL), 3), np.uint8)
    texture_px = texture.shape[1], texture.shape[0]

    def parts(numbers: Sequence[int]) -> Iterator[list[_Part]]:
        for number in numbers:
            pixels = levelled(full_photo(placed[number], layout.scale), gains[number])
            yield list(_parts(pixels.round().astype(np.uint8), layout, number, texture_px))

    shown = np.unique(layout.view).tolist()
    for cut in _of_photos(pieces, parts, shown, placed, _PAINT):
        for part in cut:
            part.paint(texture)
    texture[height:, : _LEVELS**2 * _CELL] = _palette()
    unseen = mesh.faces[labels < 0].astype(np.int64)
    vertex = np.concatenate([layout.vertex, unseen.ravel()])
    texel = np.concatenate([layout.texel, _palette_texels(mesh, unseen, height)])
    more = len(layout.vertex) + np.arange(unseen.size).reshape(-1, 3)
    return TexturedMesh(
        vertices=mesh.vertices[vertex],
        faces=np.concatenate([layout.faces, more]).astype(np.int32),
        normals=mesh.normals[vertex],
        uv=(texel / [texture.shape[1], texture.shape[0]]).astype(np.float32),
        texture=texture,
    )


def _of_photos(
    pieces: PieceMap,
    make: Callable[[Sequence[int]], Iterator[Result]],
    numbers: Sequence[int],
    views: Sequence[View],
    needs: Needs,
) -> Iterator[Result]:
    """Yield what ``make`` makes of each of the views called ``numbers``."""
    try:
        yield from pieces.stream(make, numbers, needs=needs)
    except PiecesFailed as failed:
        named = [((str(views[numbers[n]].path),), why) for n, why in failed.reasons.items()]
        raise PhotosFailed(named) from failed


def _neighbours(faces: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return pairs (E, 2) of triangles that share an edge."""
    edges = np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2).astype(np.int64), axis=1)
    key = edges[:, 0] * (int(faces.max()) + 1) + edges[:, 1]
    order = np.argsort(key, kind="stable")
    same = np.flatnonzero(key[order][1:] == key[order][:-1])
    return np.stack([order[same], order[same + 1]], axis=1) // 3


@dataclass(frozen=True)
class _Candidates:
    """The photos ``view`` (F, C) that see each triangle largest, and its ``size_px`` (F, C) there,
    largest first; size 0 where fewer see it.
    """

    view: NDArray[np.int64]
    size_px: NDArray[np.float32]

    @staticmethod
    def none(triangles: int) -> _Candidates:
        """Return those of no photo."""
        size = triangles, _CANDIDATES
        return _Candidates(np.zeros(size, np.int64), np.zeros(size, np.float32))

    def with_view(self, number: int, size_px: NDArray[np.float32]) -> _Candidates:
        """Return those with one more photo, in which triangles have sizes (F,)."""
        larger = np.flatnonzero(size_px > self.size_px[:, -1])
        view = np.insert(self.view[larger], _CANDIDATES, number, axis=1)
        sizes = np.insert(self.size_px[larger], _CANDIDATES, size_px[larger], axis=1)
        order = np.argsort(-sizes, axis=1, kind="stable")[:, :_CANDIDATES]
        views, all_sizes = self.view.copy(), self.size_px.copy()
        views[larger] = np.take_along_axis(view, order, axis=1)
        all_sizes[larger] = np.take_along_axis(sizes, order, axis=1)
        return _Candidates(views, all_sizes)


def _choose(
    candidates: _Candidates, pairs: NDArray[np.int64], rounds: int = 8
) -> NDArray[np.int64]:
    """Return one photo per triangle (F,), -1 where none sees it.

    Iterated conditional modes: in turn, half of the triangles choose the photo that is best for
    them, counting its size and their neighbours' choices.
    """
    views, found = candidates.view, candidates.size_px
    seen = found > 0
    scores = found / np.maximum(found[:, :1], 1e-12)
    labels = np.where(seen[:, 0], views[:, 0], -1)
    one, other = np.concatenate([pairs, pairs[:, ::-1]]).T
    odd = np.random.default_rng(0).random(len(labels)) < 0.5
    for number in range(rounds):
        votes = np.zeros(views.shape)
        agrees = views[one] == labels[other][:, None]
        for slot in range(_CANDIDATES):
            votes[:, slot] = np.bincount(one, agrees[:, slot], len(labels))
        best = np.where(seen, scores + _NEIGHBOUR * votes, -1.0).argmax(axis=1)
        turn = seen[:, 0] & (odd == (number % 2 == 0))
        labels = np.where(turn, views[np.arange(len(views)), best], labels)
    return labels


def _lay_out(mesh: Mesh, labels: NDArray[np.int64], views: Sequence[View], size: int) -> _Layout:
    """Return the triangles that have a photo, packed into a square of ``size`` texels.

    Photos are made smaller until their parts fit. A part moves by whole texels, so that it can be
    copied as it is.
    """
    import xatlas

    shown = labels >= 0
    # A vertex counts anew in every photo that shows it.
    key = labels[shown, None] * len(mesh.vertices) + mesh.faces[shown]
    keys, faces = np.unique(key, return_inverse=True)
    view, vertex = keys // len(mesh.vertices), keys % len(mesh.vertices)
    xy = _photo_positions(mesh, vertex, view, views)
    faces = faces.reshape(-1, 3)
    if not len(faces):
        none = np.zeros(0, np.int64)
        return _Layout(none, np.zeros((0, 2)), faces, none, np.zeros((0, 2), np.int64), 1.0)
    extent = np.array([(v.camera.width, v.camera.height) for v in views], np.float64)
    a, b, c = ((xy * extent[view])[faces[:, k]] for k in range(3))
    area = 0.5 * np.abs(np.linalg.det(np.stack([b - a, c - a], axis=-1))).sum()
    # Charts fill nine tenths of an atlas at best; where they don't, it is tried again, smaller.
    scale = min(1.0, 0.9 * size / max(np.sqrt(area), 1.0))
    while True:
        pixels = xy * scaled_sizes(extent, scale)[view]
        atlas = xatlas.Atlas()
        atlas.add_uv_mesh(
            pixels.astype(np.float32),
            faces.astype(np.uint32),
            labels[shown, None].astype(np.uint32),
        )
        options = xatlas.PackOptions()
        options.texels_per_unit, options.padding = 1.0, 2 * _MARGIN
        options.rotate_charts = options.rotate_charts_to_axis = False
        atlas.generate(pack_options=options)
        largest = max(atlas.width, atlas.height)
        if largest <= size:
            break
        scale *= min(0.95, 0.98 * size / largest)
    source, packed, uv = atlas.get_mesh(0)
    shift = np.round(uv * [atlas.width, atlas.height] - pixels[source]).astype(np.int64)
    packed = packed.astype(np.int64)
    return _Layout(
        vertex[source], pixels[source] + shift, packed, labels[shown], shift[packed[:, 0]], scale
    )


def _photo_positions(
    mesh: Mesh, vertex: NDArray[np.int64], view: NDArray[np.int64], views: Sequence[View]
) -> Array:
    """Return where vertices (W,) are in their photos (W, 2), as shares of width and height."""
    xy = np.zeros((len(vertex), 2))
    for number, photo in enumerate(views):
        mine, camera = view == number, photo.camera
        assert camera.cam_to_world is not None
        points = transform_points(invert_rigid(camera.cam_to_world), mesh.vertices[vertex[mine]])
        xy[mine] = project(points, camera.intrinsics, camera.lens) / [camera.width, camera.height]
    return xy


@dataclass(frozen=True)
class _Part:
    """A part of a photo: its ``pixels`` (h, w, 3), where its ``mask`` (h, w) says so, and the place
    ``low`` (2,) of its first one in the texture.
    """

    pixels: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    low: NDArray[np.int64]

    def paint(self, texture: NDArray[np.uint8]) -> None:
        """Copy it to its place."""
        (x, y), (height, width) = self.low, self.mask.shape
        place = texture[y : y + height, x : x + width]
        np.copyto(place, self.pixels, where=self.mask[..., None] > 0)


def _parts(
    pixels: NDArray[np.uint8], layout: _Layout, number: int, size_px: tuple[int, int]
) -> Iterator[_Part]:
    """Yield the parts of photo ``number`` in a texture of (width, height) ``size_px``."""
    import cv2

    mine = np.flatnonzero(layout.view == number)
    _, part = np.unique(layout.shift[mine], axis=0, return_inverse=True)
    mine = mine[np.argsort(part.ravel(), kind="stable")]
    starts = np.flatnonzero(np.any(np.diff(layout.shift[mine], axis=0), axis=1)) + 1
    kernel = np.ones((2 * _MARGIN + 1, 2 * _MARGIN + 1), np.uint8)
    for faces in np.split(mine, starts):
        corners = layout.texel[layout.faces[faces]]
        shift = layout.shift[faces[0]]
        # The part's box, inside the texture and inside the photo.
        low = np.floor(corners.min((0, 1))).astype(int) - _MARGIN
        high = np.ceil(corners.max((0, 1))).astype(int) + _MARGIN
        low = np.maximum(np.maximum(low, 0), shift)
        high = np.minimum(np.minimum(high, size_px), shift + pixels.shape[1::-1])
        if np.any(high <= low):
            continue
        mask = np.zeros((high - low)[::-1], np.uint8)
        # In sixteenths of a pixel; OpenCV counts from the centre of the first.
        polygons = np.round((corners - low - 0.5) * 16).astype(np.int32)
        cv2.fillPoly(mask, list(polygons), 1, shift=4)
        (u0, v0), (u1, v1) = low - shift, high - shift
        yield _Part(pixels[v0:v1, u0:u1], cv2.dilate(mask, kernel).astype(np.uint8), low)


def _samples(sight: Visibility, view: View) -> _Samples:
    """Return the vertices (N,) that a photo sees, and their colours (N, 3) in it."""
    number = np.flatnonzero(sight.visible)
    column, row = sight.xy[number].astype(int).T
    colour = view.pixels[row, column]
    good = well_exposed(colour)
    return number[good], colour[good]


def _palette() -> NDArray[np.uint8]:
    """Return all colours of ``_LEVELS`` levels in cells: red and green along x, blue along y."""
    levels = np.round(np.linspace(0, 255, _LEVELS)).astype(np.uint8)
    blue, red, green = np.meshgrid(levels, levels, levels, indexing="ij")
    colours = np.stack([red, green, blue], -1).reshape(_LEVELS, _LEVELS**2, 3)
    return colours.repeat(_CELL, axis=0).repeat(_CELL, axis=1)


def _palette_texels(mesh: Mesh, faces: NDArray[np.int64], top: int) -> Array:
    """Return the places (3 F, 2) of the mean colours of ``faces`` in the palette at row ``top``."""
    mean = mesh.colours[faces].astype(np.float64).mean(axis=1)
    red, green, blue = np.round(mean / 255 * (_LEVELS - 1)).T
    cells = np.stack([red * _LEVELS + green, blue + top / _CELL], axis=-1)
    return np.repeat((cells + 0.5) * _CELL, 3, axis=0)
