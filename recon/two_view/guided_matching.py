"""Feature matches looked for where geometry says: near epipolar lines, at depths that may be.

A small region holds few key points, so that a match needs to beat far fewer rivals than in the
whole photo. What a region gives by chance is counted on displaced epipolar lines: a wrong pose
finds hardly more than they do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter, minimum_filter

from pointmap.camera import Array, Index, pixel_rays
from recon.prediction.pair_sketch import SAMPLE_GRID
from recon.stage_results import PairMatches, PairSketch, PhotoFeatures
from recon.two_view.epipolar import fundamental_from_pose
from recon.two_view.relative_pose import FEW_MATCHES

if TYPE_CHECKING:
    from pointmap.images import Photo


# The best match has to be nearer than this share of the second best. Stricter than Lowe's 0.8: in a
# small region the second best is a random one.
_RATIO = 0.7
# Where a region holds no second key point, the best one competes with what unrelated ones have.
_UNRELATED = 0.8
_ALIKE = np.float32(1 - _UNRELATED**2 / 2)
# Where chance is counted, in bands off the epipolar line: far enough to hold no right match.
_DECOYS_AT = (-8.0, 8.0)
# Key points compared at once, for bounded memory.
_ROWS = 128
# How far off a place predicted by trusted pointmaps may be: of a photo's long side, across and
# along the epipolar line, and as a factor of depth. Their poses are good to about a degree.
_POINTMAP_BAND = 0.02
_DEPTH_SLACK = 1.1


@dataclass(frozen=True)
class Region:
    """Where matches of photos i and j may be.

    ``cam2_to_cam1`` (4, 4): camera j in camera i's frame; ``intrinsics_i``, ``intrinsics_j``
    (3, 3); ``band_px``: distance from the predicted place, in original pixels; ``nearest``,
    ``farthest``: depth in camera i's frame in the pose's unit, one for all or one per key point of
    photo i. They bound the piece of the epipolar line in photo j.
    """

    cam2_to_cam1: Array
    intrinsics_i: Array
    intrinsics_j: Array
    band_px: float
    nearest: Array | float = 0.0
    farthest: Array | float = np.inf


@dataclass(frozen=True)
class GuidedMatches:
    """``matches`` found in a region, and how many the like of it gives ``by_chance``."""

    matches: PairMatches
    by_chance: float

    @property
    def convincing(self) -> bool:
        """Whether there are clearly more than by chance."""
        return len(self.matches) > 2 * self.by_chance + FEW_MATCHES


def guided_matches(
    features_i: PhotoFeatures, features_j: PhotoFeatures, i: int, j: int, region: Region
) -> GuidedMatches:
    """Return the key points (photos ``i`` < ``j``) that choose each other within the region.

    The second best within the region must be clearly further, in both directions. By chance: the
    mean of what epipolar lines displaced by several bands to either side give.
    """
    displaced_px = (0.0, *(at * region.band_px for at in _DECOYS_AT))
    found, *decoys = (
        (row[chosen], column[chosen])
        for row, column, distance in _candidates(features_i, features_j, region, displaced_px)
        for chosen in [_clearly_best(row, distance) & _clearly_best(column, distance)]
    )
    matches = PairMatches.of_key_points(i, j, features_i, features_j, *found)
    return GuidedMatches(matches, float(np.mean([len(row) for row, _ in decoys])))


def pointmap_region(
    sketch: PairSketch,
    cam2_to_cam1: Array,
    photos: tuple[Photo, Photo],
    focals_px: tuple[float, float],
    xy_i: Array,
) -> Region:
    """Return where the pair's pointmaps say that photo j shows what key points ``xy_i`` (K, 2) do.

    ``sketch`` is the prediction (i, j), ``cam2_to_cam1`` (4, 4) the pose it gives, in its unit.
    The depths around a key point bound its own, where known.
    """
    shape = (SAMPLE_GRID, SAMPLE_GRID)
    depth = sketch.points_i[:, 2].astype(np.float64).reshape(shape)
    known = (sketch.confidence_i > 0).reshape(shape)
    nearest = minimum_filter(np.where(known, depth, 0.0), 3, mode="nearest")
    farthest = maximum_filter(np.where(known, depth, np.inf), 3, mode="nearest")
    size = np.array([photos[0].width, photos[0].height])
    column, row = np.clip(SAMPLE_GRID * xy_i / size, 0, SAMPLE_GRID - 1).astype(np.int64).T
    long_sides = [max(photo.width, photo.height) for photo in photos]
    K_i, K_j = (photo.pinhole(focal) for focal, photo in zip(focals_px, photos, strict=True))
    return Region(
        cam2_to_cam1,
        K_i,
        K_j,
        _POINTMAP_BAND * float(np.mean(long_sides)),
        nearest[row, column] / _DEPTH_SLACK,
        farthest[row, column] * _DEPTH_SLACK,
    )


def _clearly_best(group: Index, distance: Array) -> NDArray[np.bool_]:
    """Return which candidates (C,) are the best of their ``group`` (C,), and clearly so."""
    order = np.lexsort((distance, group))
    ranked, length = group[order], distance[order]
    first = np.concatenate([[True], ranked[1:] != ranked[:-1]])[: len(ranked)]
    second = np.full(len(ranked), _UNRELATED)
    rival = np.flatnonzero(first[:-1] & ~first[1:])
    second[rival] = length[rival + 1]
    chosen = np.zeros(len(group), bool)
    chosen[order] = first & (length < _RATIO * second)
    return chosen


def _candidates(
    features_i: PhotoFeatures,
    features_j: PhotoFeatures,
    region: Region,
    displaced_px: Sequence[float],
) -> list[tuple[Index, Index, Array]]:
    """Return numbers (C,), (C,) of key points that may match and the distances of their
    descriptors (C,), below that of unrelated ones, for each displacement of the epipolar lines.
    """
    # Here, not above: most pairs are verified without it, and need not wait for numba.
    import torch

    from recon.two_view.compiled_candidates import alike_near_lines

    F = fundamental_from_pose(region.cam2_to_cam1, region.intrinsics_i, region.intrinsics_j)
    xy1_i, xy1_j = (
        np.concatenate([found.xy, np.ones((len(found.xy), 1))], axis=1)
        for found in (features_i, features_j)
    )
    line_i, line_j = xy1_j @ F.T, xy1_i @ F
    norm_i, norm_j = (
        np.maximum(np.linalg.norm(line[:, :2], axis=1), 1e-300) for line in (line_i, line_j)
    )
    # Single precision is good to a hundredth of a pixel.
    lines = np.ascontiguousarray((line_i / norm_i[:, None]).T, np.float32)
    band, displaced = np.float32(region.band_px), np.array(displaced_px, np.float32)
    columns = torch.from_numpy(features_j.descriptors).T
    none = np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
    parts = [[none] for _ in displaced_px]
    for start in range(0, len(xy1_i), _ROWS):
        rows = slice(start, start + _ROWS)
        # By torch, which one thread can be told to do alone while others match other photos.
        product = torch.mm(torch.from_numpy(features_i.descriptors[rows]), columns).numpy()
        found, off = alike_near_lines(
            product, xy1_i[rows].astype(np.float32), lines, _ALIKE, displaced, band
        )
        for number, (part, shift) in enumerate(zip(parts, displaced_px, strict=True)):
            its = found[:, 2] == number
            row, column = found[its, :2].T
            # The same gap in photo j's pixels.
            gap = np.abs(off[its] - shift) * norm_i[column]
            near = gap < region.band_px * norm_j[start + row]
            row, column = row[near], column[near]
            distance = np.sqrt(np.maximum(2 - 2 * product[row, column].astype(np.float64), 0))
            part.append((start + row, column, distance))
    joined = [tuple(np.concatenate(column) for column in zip(*part, strict=True)) for part in parts]
    return [
        (row[possible], column[possible], distance[possible])
        for row, column, distance in joined
        for possible in [_possible(features_i.xy, features_j.xy, region, row, column)]
    ]


def _possible(
    xy_i: Array, xy_j: Array, region: Region, row: Index, column: Index
) -> NDArray[np.bool_]:
    """Return which candidates (C,) may be in front of both cameras, at a depth in range.

    The depths bound a piece of the epipolar line in photo j, that part of it which is in front of
    camera j; it ends a band further to either side.
    """
    rays_i = pixel_rays(xy_i, region.intrinsics_i)
    rotation, shift = region.cam2_to_cam1[:3, :3], region.cam2_to_cam1[:3, 3]
    unit = np.linalg.norm(shift)
    depths = np.maximum(region.nearest, 1e-3 * unit), np.minimum(region.farthest, 1e6 * unit)
    start, end = ((rays_i * np.reshape(z, (-1, 1)) - shift) @ rotation for z in depths)
    least = 1e-3 * unit
    visible = np.maximum(start[:, 2], end[:, 2]) > least
    focal = region.intrinsics_j[0, 0]
    ends = []
    for here, there in ((start, end), (end, start)):
        gap = there[:, 2] - here[:, 2]
        share = np.where(here[:, 2] < least, (least - here[:, 2]) / np.where(gap, gap, 1.0), 0.0)
        cut = here + np.clip(share, 0, 1)[:, None] * (there - here)
        ends.append(focal * cut[:, :2] / np.maximum(cut[:, 2:], least))
    along = ends[1] - ends[0]
    length = np.linalg.norm(along, axis=1)
    along /= np.maximum(length, 1e-9)[:, None]
    seen = focal * pixel_rays(xy_j, region.intrinsics_j)[column, :2]
    place = ((seen - ends[0][row]) * along[row]).sum(axis=1)
    inside = (place > -region.band_px) & (place < length[row] + region.band_px)
    return np.asarray(visible[row] & inside)


def joined_matches(first: PairMatches, second: PairMatches) -> PairMatches:
    """Return the matches of one pair from two sources, each once."""
    index = np.concatenate([np.stack([m.index_i, m.index_j], axis=1) for m in (first, second)])
    kept = np.sort(np.unique(index, axis=0, return_index=True)[1])
    return replace(
        first,
        xy_i=np.concatenate([first.xy_i, second.xy_i])[kept],
        xy_j=np.concatenate([first.xy_j, second.xy_j])[kept],
        index_i=index[kept, 0],
        index_j=index[kept, 1],
    )
