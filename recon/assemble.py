"""The results of the stages put together into what a reconstruction holds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recon.fusion import Fused
from recon.scene import Camera, LoadedMaps, PairRecord, Scene, View
from recon.stage_results import Alignment, DenseDepths, PairEvidence, PairMatches


def assemble_scene(
    evidence: PairEvidence, alignment: Alignment, views: tuple[View, ...], fused: Fused
) -> Scene:
    """Return the scene that the stages have found, in scene units."""
    return Scene(
        views=views,
        tracks=alignment.tracks,
        cloud=fused.cloud,
        surface=fused.surface.mesh,
        textured=fused.surface.textured,
        statistics=fused.surface.statistics,
        pairs=pair_records(evidence.matches, alignment),
    )


def assemble_views(alignment: Alignment, dense: DenseDepths) -> tuple[View, ...]:
    """Return the views of all photos; those without depth or place know nothing."""
    views = []
    for k, (frame, depth) in enumerate(zip(dense.frames, dense.depths, strict=True)):
        photo = frame.photo
        unknown = np.zeros(frame.pixels.shape[:2], np.float32)
        views.append(
            View(
                name=photo.name,
                path=photo.path,
                camera=Camera(
                    alignment.intrinsics[k],
                    photo.width,
                    photo.height,
                    alignment.cam_to_world[k],
                    float(alignment.k1[k]),
                ),
                maps=LoadedMaps(
                    frame.pixels,
                    unknown if depth is None else depth.depth,
                    unknown if depth is None else depth.confidence,
                ),
                reason=alignment.reasons[k],
                turned=photo.orientation != 1,
            )
        )
    return tuple(views)


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
