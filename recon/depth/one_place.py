"""Depth of photos that were all taken from one place, which no parallax measures.

What the network says of each photo alone has a scale of its own. A point has one distance from the
place, whichever photo shows it: matches bring the photos to a common scale, though they tell
nothing of the shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.linalg import lsqr

from pointmap.camera import Array, pixel_rays
from pointmap.images import Photo
from recon.stage_results import Alignment, PhotoPrior

# Cameras may stand apart by guess where there is hardly any parallax: under a degree.
_LEAST_DISTANCES = 60.0
# Matches of a pair that tell as much as any number of them, and the fewest that tell something.
_ENOUGH, _FEWEST = 200, 8


def in_one_scale(
    alignment: Alignment, priors: Sequence[PhotoPrior], photos: Sequence[Photo]
) -> Alignment:
    """Return the alignment with a ``depth_scale`` for each placed photo, if no point is seen in
    parallax and no pointmaps tell one; else as it is.

    The logarithms of the scales are the least squares solution of the median ratios of distances
    that pairs of photos give to what they both show. Photos that no pair ties to others keep a
    scale of 1.
    """
    placed = np.flatnonzero(alignment.placed).tolist()
    told = np.isfinite(alignment.depth_scale[placed]).any() or len(alignment.tracks.points)
    if len(placed) < 2 or told:
        return alignment
    rows = _ratios(alignment, priors, photos)
    logs = np.zeros(len(photos))
    if rows:
        i, j, ratio, weight = (np.array(column) for column in zip(*rows, strict=True))
        number = np.arange(len(rows))
        system = coo_array(
            (
                np.concatenate([weight, -weight]),
                (np.tile(number, 2), np.concatenate([i, j]).astype(np.int64)),
            ),
            shape=(len(rows), len(photos)),
        )
        # Of the solutions the smallest: no photo is made larger or smaller than needed.
        logs = lsqr(system.tocsr(), ratio * weight, atol=1e-10, btol=1e-10)[0]
    scale = np.full(len(photos), np.nan)
    scale[placed] = np.exp(logs[placed])
    return replace(alignment, depth_scale=scale * _far_enough(alignment, priors, scale))


def _ratios(
    alignment: Alignment, priors: Sequence[PhotoPrior], photos: Sequence[Photo]
) -> list[tuple[int, int, float, float]]:
    """Return (i, j, log of scale i over scale j, weight) of the pairs that tell it."""
    rows = []
    for edge in alignment.edges:
        matches = edge.matches.select(edge.pose.inliers)
        i, j = matches.i, matches.j
        if alignment.cam_to_world[i] is None or alignment.cam_to_world[j] is None:
            continue
        one, other = (
            _distances(priors[k], alignment, k, photos[k], xy)
            for k, xy in ((i, matches.xy_i), (j, matches.xy_j))
        )
        both = (one > 0) & (other > 0)
        if both.sum() >= _FEWEST:
            ratio = float(np.median(np.log(other[both] / one[both])))
            rows.append((i, j, ratio, float(np.sqrt(min(both.sum(), _ENOUGH)))))
    return rows


def _distances(prior: PhotoPrior, alignment: Alignment, k: int, photo: Photo, xy: Array) -> Array:
    """Return how far a photo's prior says that what it shows at original pixels ``xy`` (M, 2) is;
    0 where it says nothing.
    """
    height, width = prior.confidence.shape
    place = xy * [width / photo.width, height / photo.height]
    column, row = np.clip(place.astype(np.int64), 0, [width - 1, height - 1]).T
    depth = np.where(prior.confidence[row, column] > 0, prior.points[row, column, 2], 0)
    rays = pixel_rays(xy, alignment.intrinsics[k], alignment.lenses[k])
    return np.asarray(np.maximum(depth, 0) * np.linalg.norm(rays, axis=1))


def _far_enough(alignment: Alignment, priors: Sequence[PhotoPrior], scale: Array) -> float:
    """Return what to multiply ``scale`` (N,) by, so that depth fits cameras without parallax."""
    poses = [pose for pose in alignment.cam_to_world if pose is not None]
    centres = np.array([pose[:3, 3] for pose in poses])
    extent = float(np.linalg.norm(np.ptp(centres, axis=0)))
    depths = [
        scale[k] * np.median(depth)
        for k in np.flatnonzero(np.isfinite(scale)).tolist()
        if len(depth := priors[k].points[..., 2][priors[k].confidence > 0])
    ]
    if not depths or extent <= 1e-9 * float(np.median(depths)):
        return 1.0
    return max(1.0, _LEAST_DISTANCES * extent / float(np.median(depths)))
