"""How much of what was verified pair by pair the cameras of the whole scene explain."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pointmap.camera import Array, Index, Mask, cross_matrix, invert_rigid, pixel_rays
from pointmap.images import Photo
from recon.stage_results import Alignment, PairEdge, PairMatches, unit_px

ENOUGH = 200
"""A pair's matches weigh as independent ones up to so many."""

# A match fits within so many pixels, at 640 px, of where the cameras have it.
_FITS_PX = 2.0
# In one place nothing adjusts a focal length: rotations a little off are no contradiction.
_TURNED_PX = 10.0
# Cameras nearer to each other than this share of the points' distance stand in one place: there is
# no epipolar line, but a match has one place itself.
_ONE_PLACE = 1e-3


@dataclass(frozen=True)
class PairFits:
    """Of E verified pairs of placed photos, ``pairs`` (E, 2): their verified ``matches`` (E,), the
    ``share`` (E,) of them that fits the cameras, and whether the cameras ``move`` (E,) between the
    two.
    """

    pairs: Index
    matches: Index
    share: Array
    moves: Mask

    @property
    def explained(self) -> float:
        """How many verified matches fit the cameras."""
        return float(self.matches @ self.share)

    def of_photos(self, count: int) -> Array:
        """Return which share of each photo's verified matches fits (N,), of ``count`` photos; NaN
        where it has none. A pair's matches weigh as independent ones up to :data:`ENOUGH`.
        """
        weight = np.minimum(self.matches, ENOUGH).astype(np.float64)
        total, fitting = np.zeros((2, count))
        for side in self.pairs.T:
            np.add.at(total, side, weight)
            np.add.at(fitting, side, weight * self.share)
        with np.errstate(invalid="ignore"):
            return np.where(total > 0, fitting / total, np.nan)


def pair_fits(photos: Sequence[Photo], alignment: Alignment) -> PairFits:
    """Return what each verified pair of placed photos says of the scene."""
    return fits_of(photos, alignment, lambda _, xy_i, __: np.ones(len(xy_i), bool))


def fits_of(
    photos: Sequence[Photo],
    alignment: Alignment,
    counted: Callable[[tuple[int, int], Array, Array], Mask],
) -> PairFits:
    """Return what the ``counted`` verified matches of each pair say of the scene: of a pair (i, j)
    and the places (M, 2) of its matches in the two photos, which of them (M,) count.
    """
    pairs, numbers, shares, moving = [], [], [], []
    one_place = one_place_length(alignment)
    for edge in placed_edges(alignment):
        matches, chosen = edge.matches, edge.pose.inliers.copy()
        i, j = matches.i, matches.j
        chosen[chosen] = counted((i, j), matches.xy_i[chosen], matches.xy_j[chosen])
        fits, moves = _fitting(edge, chosen, photos, alignment, one_place)
        pairs.append((i, j))
        numbers.append(len(fits))
        shares.append(fits.mean() if len(fits) else 0.0)
        moving.append(moves)
    return PairFits(
        np.array(pairs, np.int64).reshape(-1, 2),
        np.array(numbers, np.int64),
        np.array(shares, np.float64),
        np.array(moving, bool),
    )


def placed_edges(alignment: Alignment) -> Iterator[PairEdge]:
    """Yield the verified pairs of placed photos, in the order in which :func:`pair_fits` counts."""
    poses = alignment.cam_to_world
    for edge in alignment.edges:
        if poses[edge.matches.i] is not None and poses[edge.matches.j] is not None:
            yield edge


def match_fits(photos: Sequence[Photo], alignment: Alignment) -> Iterator[tuple[PairMatches, Mask]]:
    """Yield the matches (M) of each verified pair of placed photos, those that its own pose leaves
    out, too, and which of them (M,) fit the cameras.
    """
    one_place = one_place_length(alignment)
    for edge in placed_edges(alignment):
        every = np.ones(len(edge.matches), bool)
        yield edge.matches, _fitting(edge, every, photos, alignment, one_place)[0]


def _fitting(
    edge: PairEdge, chosen: Mask, photos: Sequence[Photo], alignment: Alignment, one_place: float
) -> tuple[Mask, bool]:
    """Return which of the ``chosen`` matches (M,) fit the cameras, and whether these are apart."""
    error, moves = _errors_px(edge, chosen, photos, alignment, one_place)
    return np.asarray(error < (_FITS_PX if moves else _TURNED_PX)), moves


def match_errors_px(photos: Sequence[Photo], alignment: Alignment) -> Iterator[Array]:
    """Yield how far the matches (M,) of each verified pair of placed photos, those that its own
    pose leaves out, too, are from where the cameras have them, in pixels at 640 px.
    """
    one_place = one_place_length(alignment)
    for edge in placed_edges(alignment):
        every = np.ones(len(edge.matches), bool)
        yield _errors_px(edge, every, photos, alignment, one_place)[0]


def _errors_px(
    edge: PairEdge, chosen: Mask, photos: Sequence[Photo], alignment: Alignment, one_place: float
) -> tuple[Array, bool]:
    """Return the errors of the ``chosen`` matches (M,), and whether the cameras stand apart.

    Cameras that stand apart: first-order distance from the epipolar geometry (Sampson's error;
    Hartley and Zisserman 2004, eq. 11.9). In one place: distance of the point turned into the
    other photo.
    """
    i, j = edge.matches.i, edge.matches.j
    pose_i, pose_j = alignment.cam_to_world[i], alignment.cam_to_world[j]
    assert pose_i is not None and pose_j is not None
    x_i, x_j = (
        pixel_rays(xy[chosen], alignment.intrinsics[k], alignment.lenses[k])
        for k, xy in ((i, edge.matches.xy_i), (j, edge.matches.xy_j))
    )
    motion = invert_rigid(pose_i) @ pose_j
    R, length = motion[:3, :3], float(np.linalg.norm(motion[:3, 3]))
    moves = length > one_place
    if moves:
        E = cross_matrix(motion[:3, 3] / length) @ R
        line_i, line_j = x_j @ E.T, x_i @ E
        slope = np.square(np.hstack([line_i[:, :2], line_j[:, :2]])).sum(axis=1)
        error = np.abs((x_i * line_i).sum(axis=1)) / np.sqrt(np.maximum(slope, 1e-30))
    else:
        turned = x_j @ R.T
        z = np.where(turned[:, 2] > 1e-3, turned[:, 2], np.inf)
        error = np.linalg.norm(turned[:, :2] / z[:, None] - x_i[:, :2], axis=1)
    focal = min(float(alignment.intrinsics[k, 0, 0]) / unit_px(photos[k]) for k in (i, j))
    return error * focal, moves


def one_place_length(alignment: Alignment) -> float:
    """Return how far apart cameras are, in scene units, that stand in one place all the same."""
    return _ONE_PLACE * points_distance(alignment)


def points_distance(alignment: Alignment) -> float:
    """Return how far points are from the cameras, typically; infinite where there are none."""
    points = alignment.tracks.points
    if len(points) == 0:
        return np.inf
    centres = np.stack([pose[:3, 3] for pose in alignment.cam_to_world if pose is not None])
    return float(np.median(np.linalg.norm(points - np.median(centres, axis=0), axis=1)))
