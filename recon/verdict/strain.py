"""How much better the matches of two photos fit together than the cameras of the scene have it.

Whatever two cameras without a bent lens are, and however they stand, one fundamental matrix tells
where the one photo's points lie in the other: matches that are right fit some such matrix to within
their errors. Where they fit the matrix that follows from the scene's cameras worse, these stand
otherwise, or are others (zooms, crops). Unlike a limit in pixels, the ratio of the two tells from
small errors, too, and not from key points that are inaccurate.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pointmap.camera import Array, invert_rigid, pixel_rays
from pointmap.images import Photo
from recon.alignment.explained import one_place_length
from recon.alignment.moving_things import MovingThings
from recon.stage_results import Alignment, PairEdge, unit_px
from recon.two_view.epipolar import fundamental_from_pose, sampson_px

# Pairs of so many verified matches are asked, each by so many at most, and so many pairs; matches
# weigh as independent ones up to so many.
_FEWEST, _MATCHES, _PAIRS, _ENOUGH = 30, 400, 300, 200
# Pixels, at 640 px, that matches are off by at the least: no ratio says anything below. The
# logarithm of the ratio counts up to a limit: from there on a pair is of something else.
_FLOOR_PX, _MOST = 0.2, 2.0
# Where the loss (Cauchy) leaves the square, in pixels at 640 px, and rounds of reweighting.
_LOSS_PX, _ROUNDS = 1.0, 8


def strain(photos: Sequence[Photo], alignment: Alignment, moving: MovingThings) -> float:
    """Return the mean logarithm, over verified pairs of placed photos, of how many times farther
    matches lie from the epipolar lines of the cameras than from those of the pair's own fundamental
    matrix (medians); 0 where no pair tells. What moves does not count.
    """
    poses, one_place = alignment.cam_to_world, one_place_length(alignment)
    logarithms, weights = [], []
    edges = [e for e in alignment.edges if e.pose.inliers.sum() >= _FEWEST]
    for edge in edges[:: -(-len(edges) // _PAIRS) or 1]:
        pose_i, pose_j = poses[edge.matches.i], poses[edge.matches.j]
        if pose_i is None or pose_j is None:
            continue
        motion = invert_rigid(pose_i) @ pose_j
        if np.linalg.norm(motion[:3, 3]) <= one_place:
            continue
        xy_i, xy_j, focals = _at_640_px(photos, alignment, edge, moving)
        if len(xy_i) < _FEWEST:
            continue
        K_i, K_j = (np.diag([focal, focal, 1.0]) for focal in focals)
        by_cameras = sampson_px(fundamental_from_pose(motion, K_i, K_j), xy_i, xy_j)
        some = slice(None, None, -(-len(xy_i) // _MATCHES))
        own = sampson_px(_fundamental(xy_i[some], xy_j[some]), xy_i, xy_j)
        far, near = (np.hypot(np.median(np.abs(px)), _FLOOR_PX) for px in (by_cameras, own))
        logarithms.append(np.clip(np.log(far / near), 0.0, _MOST))
        weights.append(min(len(xy_i), _ENOUGH))
    return float(np.average(logarithms, weights=weights)) if weights else 0.0


def _at_640_px(
    photos: Sequence[Photo], alignment: Alignment, edge: PairEdge, moving: MovingThings
) -> tuple[Array, Array, list[float]]:
    """Return where the verified matches of what stands (M, 2) lie in both photos as pinholes of
    640 px show them, from their principal points; and the focal lengths of these.
    """
    i, j = edge.matches.i, edge.matches.j
    matches = edge.matches.select(edge.pose.inliers)
    stands = ~(moving.shown_at(i, matches.xy_i) | moving.shown_at(j, matches.xy_j))
    places, focals = [], []
    for photo, xy in ((i, matches.xy_i), (j, matches.xy_j)):
        rays = pixel_rays(xy[stands], alignment.intrinsics[photo], alignment.lenses[photo])
        focals.append(float(alignment.intrinsics[photo, 0, 0]) / unit_px(photos[photo]))
        places.append(rays[:, :2] / rays[:, 2:] * focals[-1])
    return places[0], places[1], focals


def _fundamental(xy_i: Array, xy_j: Array) -> Array:
    """Return the fundamental matrix (3, 3) that most of the matches (M, 2), (M, 2) fit: eight
    points, normalised (Hartley 1997, "In defense of the eight-point algorithm"), reweighted by the
    slope of Sampson's error and a robust loss.
    """
    (p_i, T_i), (p_j, T_j) = _normalised(xy_i), _normalised(xy_j)
    rows = (p_i[:, :, None] * p_j[:, None, :]).reshape(len(p_i), 9)
    h_i, h_j = (np.column_stack([xy, np.ones(len(xy))]) for xy in (xy_i, xy_j))
    weight, F = np.ones(len(rows)), np.eye(3)
    for _ in range(_ROUNDS):
        weighted = rows * weight[:, None]
        _, vectors = np.linalg.eigh(weighted.T @ weighted)
        u, s, vt = np.linalg.svd(vectors[:, 0].reshape(3, 3))
        F = T_i.T @ (u * [s[0], s[1], 0.0]) @ vt @ T_j
        line_i, line_j = h_j @ F.T, h_i @ F
        slope = np.square(np.hstack([line_i[:, :2], line_j[:, :2]])).sum(axis=1)
        slope = np.sqrt(np.maximum(slope, 1e-30))
        px = (h_i * line_i).sum(axis=1) / slope
        weight = slope.mean() / slope / np.sqrt(1 + (px / _LOSS_PX) ** 2)
    return F


def _normalised(xy: Array) -> tuple[Array, Array]:
    """Return points (M, 2) as homogeneous ones (M, 3) about 0 at a mean distance of sqrt(2), and
    the matrix (3, 3) that makes them so.
    """
    middle = xy.mean(axis=0)
    scale = np.sqrt(2) / max(float(np.linalg.norm(xy - middle, axis=1).mean()), 1e-9)
    T = np.array([[scale, 0, -scale * middle[0]], [0, scale, -scale * middle[1]], [0, 0, 1]])
    return np.column_stack([(xy - middle) * scale, np.ones(len(xy))]), T
