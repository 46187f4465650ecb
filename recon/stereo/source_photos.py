"""Which photos a photo's depth is searched with, and how near and far the search goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array, invert_rigid, pixel_rays, project, transform_points

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from recon.stereo.view import StereoView

# What a place that only the prior puts into another photo counts, against a shared scene point.
_UNSEEN = 0.2
# A source worse than the best by more than this adds noise rather than support.
_LEAST_SHARE = 0.01
# Photos of many that are judged as sources: those that share most points, and most cells of space;
# the edge of a cell in usual distances.
_JUDGED, _CELL = 20, 0.15
# Up to so many photos all are searched. Of more, enough that everything seen is searched so many
# times, but for this share of it.
SEARCH_ALL, _TIMES_SEEN, _UNCOVERED = 40, 3, 0.1
# Rows, and columns, of the prior's points that are projected.
_GRID = 16
# The best angle between two rays, the weight's standard deviations below and above it, and the
# angle below which depth is anyone's guess, however many points are shared.
_BEST_DEG, _SPREADS_DEG, _LEAST_DEG = 8.0, (3.0, 12.0), 0.3
# Depths from which percentiles are taken at least.
_FEWEST = 20
# Factors by which the range of depth is widened.
_BEFORE, _BEYOND = 0.7, 1.5


@dataclass(frozen=True)
class PhotoOverview:
    """What the choice of photos takes of one: its camera at ``width`` x ``height``, the scene
    ``points`` (P, 3) it sees with their ascending ``point_ids`` (P,), and ``grid`` (G, 3), world
    points of its prior depth at every so many pixels.
    """

    intrinsics: Array
    width: int
    height: int
    cam_to_world: Array
    points: Array
    point_ids: NDArray[np.int64]
    grid: Array

    @staticmethod
    def of(view: StereoView) -> PhotoOverview:
        """Return the overview of a view, which may then be let go."""
        ids, first = np.unique(view.point_ids, return_index=True)
        height, width = view.pixels.shape[:2]
        return PhotoOverview(
            view.intrinsics,
            width,
            height,
            view.cam_to_world,
            view.points[first],
            ids,
            _prior_points(view),
        )


def choose_sources(
    photos: Sequence[PhotoOverview], count: int, among: Sequence[int] | None = None
) -> list[list[int]]:
    """Return for each photo up to ``count`` others to compare it with, best first.

    A shared scene point counts by the angle between its two rays: most near 8 degrees, little below
    2 (no parallax) or above 30 (looks too different). Photos without shared points are judged by
    where the prior depth projects, at a discount because nothing says the surface is visible.

    Of many photos only those are judged that share most points, or most cells of space by the
    prior: the work grows with the number of photos and not with its square. ``among``: the photos
    that may be chosen; all without it.
    """
    return [
        _ranked(photos, index, candidates)[:count]
        for index, candidates in enumerate(_candidates(photos, among))
    ]


def _ranked(photos: Sequence[PhotoOverview], index: int, candidates: Sequence[int]) -> list[int]:
    """Return the candidates that are worth comparing with, best first."""
    scores = {j: _score(photos[index], photos[j]) for j in candidates}
    enough = max(max(scores.values(), default=0.0) * _LEAST_SHARE, 1e-4)
    ranked = sorted(scores, key=lambda j: (-scores[j], j))
    return [j for j in ranked if scores[j] > enough]


def _score(photo: PhotoOverview, other: PhotoOverview) -> float:
    shared = np.isin(photo.point_ids, other.point_ids, assume_unique=True)
    score = _angle_weight(photo, other, photo.points[shared]).sum() / max(len(shared), 1)
    if len(photo.grid):
        inside = _inside(other, photo.grid)
        weights = _angle_weight(photo, other, photo.grid[inside])
        score += _UNSEEN * weights.sum() / len(photo.grid)
    return float(score)


def _candidates(photos: Sequence[PhotoOverview], among: Sequence[int] | None) -> list[list[int]]:
    """Return for each photo the others to judge, ascending: all of a few, of many the nearest."""
    allowed = list(range(len(photos)) if among is None else among)
    if len(allowed) <= 2 * _JUDGED:
        return [[j for j in allowed if j != i] for i in range(len(photos))]
    found: list[set[int]] = [set() for _ in photos]
    for held in (_points_held(photos), _cells_held(photos, [photo.grid for photo in photos])):
        shared = (held @ held[allowed].T).tocsr()
        for i, row in enumerate(found):
            here = slice(*shared.indptr[i : i + 2])
            order = np.lexsort((shared.indices[here], -shared.data[here]))[: _JUDGED + 1]
            row.update(allowed[k] for k in shared.indices[here][order])
    return [sorted(row - {i}) for i, row in enumerate(found)]


def _points_held(photos: Sequence[PhotoOverview]) -> csr_matrix:
    """Return which photo (N, ...) sees which scene point, as ones."""
    return _incidence([photo.point_ids for photo in photos])


def _cells_held(photos: Sequence[PhotoOverview], places: Sequence[Array]) -> csr_matrix:
    """Return in which cells of space photos (N, ...) see ``places`` (P, 3) each, as ones.

    The cells' edge is a fraction of the usual distance of what is seen.
    """
    distances = [
        np.median(np.linalg.norm(seen - photo.cam_to_world[:3, 3], axis=1))
        for photo, seen in zip(photos, places, strict=True)
        if len(seen)
    ]
    edge = _CELL * float(np.median(distances)) if distances else 1.0
    cells = [np.floor(seen / edge).astype(np.int64) for seen in places]
    _, number = np.unique(np.concatenate(cells), axis=0, return_inverse=True)
    ends = np.cumsum([len(c) for c in cells])
    return _incidence([np.unique(part) for part in np.split(number.ravel(), ends[:-1])])


def _incidence(ids: Sequence[NDArray[np.int64]]) -> csr_matrix:
    from scipy.sparse import csr_matrix

    starts = np.concatenate([[0], np.cumsum([len(row) for row in ids])])
    columns = np.concatenate([*ids, np.zeros(0, np.int64)])
    width = int(columns.max(initial=-1)) + 1
    return csr_matrix((np.ones(len(columns), np.float32), columns, starts), (len(ids), width))


def photos_to_search(photos: Sequence[PhotoOverview]) -> list[int]:
    """Return the photos, ascending, whose depth is worth a search of its own; all of a few.

    Of many photos as many as see nearly every cell of space, by the scene points and by the prior,
    three times over where that many do: enough for depth to be confirmed by two others. (Not every
    point: most are seen in two or three photos alone, so that all photos would be wanted.)
    Greedily, always the photo that sees most of what is still wanted (set multicover; Chvatal
    1979). What the others see is known from these.
    """
    if len(photos) <= SEARCH_ALL:
        return list(range(len(photos)))
    from scipy.sparse import hstack

    points = _cells_held(photos, [photo.points for photo in photos])
    cells = _cells_held(photos, [photo.grid for photo in photos])
    # Points are where the texture is, the prior is everywhere: both count as a whole.
    worth = np.concatenate(
        [np.full(held.shape[1], 1 / max(held.nnz, 1)) for held in (points, cells)]
    )
    held = hstack([points, cells]).tocsr()
    wanted = np.minimum(_TIMES_SEEN, np.asarray(held.sum(axis=0)).ravel())
    missing = enough = float(worth @ wanted)
    gains = held @ (worth * (wanted > 0))
    chosen: list[int] = []
    while missing > _UNCOVERED * enough and len(chosen) < len(photos):
        # Gains only fall: the best of the old ones that stays the best is the best.
        while True:
            best = int(gains.argmax())
            seen = held.indices[slice(*held.indptr[best : best + 2])]
            gain = float(worth[seen] @ (wanted[seen] > 0))
            if gain >= gains[best] - 1e-12:
                break
            gains[best] = gain
        chosen.append(best)
        gains[best] = -1.0
        wanted[seen] = np.maximum(wanted[seen] - 1, 0)
        missing -= gain
    return sorted(chosen)


def _prior_points(view: StereoView) -> Array:
    """Return world points (G, 3) of the prior depth on a coarse grid."""
    height, width = view.prior.depth.shape
    row, column = (
        axis.ravel()
        for axis in np.meshgrid(
            np.linspace(0, height - 1, _GRID).astype(int),
            np.linspace(0, width - 1, _GRID).astype(int),
            indexing="ij",
        )
    )
    z = view.prior.depth[row, column].astype(np.float64)
    rays = pixel_rays(np.stack([column + 0.5, row + 0.5], -1), view.intrinsics)
    return transform_points(view.cam_to_world, rays * z[:, None])[z > 0]


def _inside(photo: PhotoOverview, points: Array) -> NDArray[np.bool_]:
    """Return which world points (P, 3) project into the photo."""
    in_camera = transform_points(invert_rigid(photo.cam_to_world), points)
    xy = project(in_camera, photo.intrinsics)
    with np.errstate(invalid="ignore"):
        return np.all((xy >= 0) & (xy <= [photo.width, photo.height]), axis=-1)


def _angle_weight(photo: PhotoOverview, other: PhotoOverview, points: Array) -> Array:
    """Return weights (P,) in [0, 1] by the angle at which two cameras see each point."""
    rays = [points - v.cam_to_world[:3, 3] for v in (photo, other)]
    unit = [ray / np.linalg.norm(ray, axis=-1, keepdims=True).clip(1e-12) for ray in rays]
    angle = np.degrees(np.arccos(np.clip((unit[0] * unit[1]).sum(-1), -1, 1)))
    weight = np.exp(-0.5 * ((angle - _BEST_DEG) / np.where(angle < _BEST_DEG, *_SPREADS_DEG)) ** 2)
    return weight * (angle > _LEAST_DEG)


def inverse_range(view: StereoView) -> tuple[float, float]:
    """Return the smallest and largest inverse depth to search.

    The prior's range, held to within a factor of two of the scene points' where there are enough of
    them; widened because both miss the nearest and farthest surfaces.
    """
    prior = view.prior.depth[view.prior.depth > 0]
    z = transform_points(invert_rigid(view.cam_to_world), view.points)[:, 2]
    z = z[z > 0]
    # Without the outermost hundredths: a few wrong depths would stretch the range.
    ranges = [np.percentile(d, [1, 99]) for d in (prior, z) if len(d) >= _FEWEST]
    if not ranges:
        return 0.0, 0.0
    near, far = min(r[0] for r in ranges), max(r[1] for r in ranges)
    if len(z) >= _FEWEST:
        near, far = max(near, ranges[-1][0] / 2), min(far, ranges[-1][1] * 2)
    return float(1 / (far * _BEYOND)), float(1 / (near * _BEFORE))
