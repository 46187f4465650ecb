"""Points from rays: two-view midpoints, multi-view refinement and angles, batched."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pointmap.camera import Array, Index
from recon.alignment import loops

if TYPE_CHECKING:
    from recon.alignment.cameras import Cameras

# Of Gauss-Newton.
_STEPS = 4


def midpoints(
    centres_1: Array, rays_1: Array, centres_2: Array, rays_2: Array
) -> tuple[Array, Array]:
    """Return the points (M, 3) midway where two rays come closest, NaN for parallel rays, and the
    angles between the rays (M,) in degrees.

    ``rays`` are unit vectors. The point may lie behind a camera: nothing is checked.
    """
    given = centres_1, rays_1, centres_2, rays_2
    points, angles = loops.ray_midpoints(*(np.ascontiguousarray(v, np.float64) for v in given))
    return points, np.degrees(angles)


def refine_points(
    cameras: Cameras,
    points: Array,
    *,
    point: Index,
    view: Index,
    xy: Array,
    sigma_px: Array,
) -> Array:
    """Return points (P, 3) after Gauss-Newton on their reprojection errors.

    One row per observation in ``point`` (M,), sorted and naming every point, ``view`` (M,), ``xy``
    (M, 2) and ``sigma_px`` (M,). A point that a step would make worse keeps its place. Errors are
    those of the pinhole picture, freed of lens distortion.
    """
    seen = cameras.on_plane(view, xy)
    return np.asarray(
        loops.refined_points(
            cameras.world_to_cam_rotation,
            cameras.centre,
            np.ascontiguousarray(cameras.focals_px, np.float64),
            _ends(point, len(points)),
            np.ascontiguousarray(view, np.int64),
            *(np.ascontiguousarray(values, np.float64) for values in (seen, sigma_px, points)),
            _STEPS,
        )
    )


def widest_angles_deg(cameras: Cameras, points: Array, *, point: Index, view: Index) -> Array:
    """Return the widest angle (P,) under which any two photos of a point see it.

    ``point`` (M,) sorted, naming every point, and ``view`` (M,): the observations.
    """
    chords = loops.widest_chords(
        cameras.centre,
        _ends(point, len(points)),
        np.ascontiguousarray(view, np.int64),
        np.ascontiguousarray(points, np.float64),
    )
    return np.degrees(2 * np.arcsin(np.minimum(np.sqrt(chords) / 2, 1.0)))


def _ends(point: Index, points: int) -> Index:
    """Return where the observations of each point begin, and where the last ones end (P + 1,)."""
    return np.concatenate([[0], np.cumsum(np.bincount(point, minlength=points))]).astype(np.int64)


def ragged_range(starts: Index, counts: Index) -> Index:
    """Return ``arange(start, start + count)`` of every row (R,), one after the other."""
    total = int(counts.sum())
    before = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64)
    return np.asarray(np.repeat(starts - before, counts) + np.arange(total), np.int64)
