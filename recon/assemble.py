"""The results of the stages put together into what a reconstruction holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array, scale_intrinsics, transform_points
from pointmap.images import Photo, ResizedPhoto
from recon.fusion.fuse_views import Fused
from recon.scene import Camera, PairRecord, Scene, View
from recon.stage_results import Alignment, DenseDepths, DepthMap, PairEvidence, PairMatches
from recon.work.content_key import content_key, item_key


def assemble_scene(
    photos: Sequence[Photo],
    evidence: PairEvidence,
    alignment: Alignment,
    views: tuple[View, ...],
    fused: Fused,
    new_from_old: Array | None = None,
) -> Scene:
    """Return the scene that the stages have found, in scene units. ``new_from_old`` (4, 4): what
    has taken views and surface from the alignment's world to theirs.
    """
    tracks = alignment.tracks
    if any(photo.file_size for photo in photos):
        tracks = replace(tracks, xy=tracks.xy * _to_file(photos)[tracks.view_index])
    if new_from_old is not None:
        tracks = replace(tracks, points=transform_points(new_from_old, tracks.points))
    return Scene(
        views=views,
        tracks=tracks,
        cloud=fused.cloud,
        surface=fused.surface.mesh,
        textured=fused.surface.textured,
        statistics=fused.surface.statistics,
        pairs=pair_records(evidence.matches, alignment),
    )


@dataclass(frozen=True)
class StoredMaps:
    """:class:`recon.scene.Maps` of photo ``number``, read when they are asked for."""

    frames: Sequence[ResizedPhoto]
    depths: Sequence[DepthMap | None]
    number: int

    @property
    def content_key(self) -> str:
        """Name of the maps, by what they depend on."""
        parts = (item_key(items, self.number) for items in (self.frames, self.depths))
        return content_key("maps", 1, *parts)

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """The photo, (h, w, 3) RGB."""
        return self.frames[self.number].pixels

    @property
    def depth(self) -> NDArray[np.float32]:
        """Depth (h, w) along z, 0 = unknown."""
        known = self.depths[self.number]
        return self._unknown() if known is None else known.depth

    @property
    def confidence(self) -> NDArray[np.float32]:
        """Confidence (h, w) in [0, 1]."""
        known = self.depths[self.number]
        return self._unknown() if known is None else known.confidence

    @property
    def usable(self) -> NDArray[np.bool_] | None:
        """Which pixels (h, w) are neither masked nor transparent; None: all."""
        return self.frames[self.number].usable

    def _unknown(self) -> NDArray[np.float32]:
        return np.zeros(self.pixels.shape[:2], np.float32)


def assemble_views(
    photos: Sequence[Photo], alignment: Alignment, dense: DenseDepths
) -> tuple[View, ...]:
    """Return the views of all photos; those without depth or place know nothing."""
    to_file = _to_file(photos)
    return tuple(
        View(
            name=photo.name,
            path=photo.path,
            camera=Camera(
                scale_intrinsics(alignment.intrinsics[k], *to_file[k]),
                *(photo.file_size or (photo.width, photo.height)),
                alignment.cam_to_world[k],
                alignment.lenses[k],
            ),
            maps=StoredMaps(dense.frames, dense.depths, k),
            reason=alignment.reasons[k],
            turned=photo.turned,
            video=photo.video,
            mask=photo.mask,
        )
        for k, photo in enumerate(photos)
    )


def _to_file(photos: Sequence[Photo]) -> Array:
    """Return what takes x and y of each photo (N, 2) to those of its file: 1, or of a squeezed one
    another number.
    """
    files = [photo.file_size or (photo.width, photo.height) for photo in photos]
    return np.array(files) / [(photo.width, photo.height) for photo in photos]


def pair_records(matches: Sequence[PairMatches], alignment: Alignment) -> tuple[PairRecord, ...]:
    """Return a record of every pair looked at; pairs that nothing relates have no method."""
    by_pointmaps = {(int(i), int(j)) for i, j in alignment.pointmap_pairs}
    verified = {(edge.matches.i, edge.matches.j): k for k, edge in enumerate(alignment.edges)}
    records = []
    for pair in matches:
        number = verified.get((pair.i, pair.j))
        if number is None:
            carried = (pair.i, pair.j) in by_pointmaps
            method = "pointmaps" if carried else "none"
            records.append(PairRecord(pair.i, pair.j, len(pair), 0, method, carried))
            continue
        edge = alignment.edges[number]
        records.append(
            PairRecord(
                pair.i,
                pair.j,
                len(edge.matches),
                int(edge.pose.inliers.sum()),
                edge.pose.method,
                bool(alignment.used_edges[number]),
            )
        )
    return tuple(records)


def in_order(scene: Scene, names: Sequence[str]) -> Scene:
    """Return the scene with its photos in the order of ``names``, and those beside it likewise."""
    place = {name: k for k, name in enumerate(names)}
    order = sorted(range(len(scene.views)), key=lambda k: place[scene.views[k].name])
    moved = np.argsort(np.array(order, np.int64))
    verdict = scene.verdict
    if verdict is not None and verdict.photos:
        verdict = replace(verdict, photos=tuple(verdict.photos[k] for k in order))
    pairs = [
        replace(pair, i=int(min(ends)), j=int(max(ends)))
        for pair in scene.pairs
        for ends in (moved[[pair.i, pair.j]],)
    ]
    return replace(
        scene,
        views=tuple(scene.views[k] for k in order),
        tracks=replace(scene.tracks, view_index=moved[scene.tracks.view_index]),
        verdict=verdict,
        pairs=tuple(sorted(pairs, key=lambda pair: (pair.i, pair.j))),
        other_places=tuple(
            tuple(sorted(some, key=place.__getitem__)) for some in scene.other_places
        ),
        further=tuple(in_order(other, names) for other in scene.further),
    )
