"""Prior depth per photo: the network's pointmap, tied to the solved structure.

The network's depth is right only up to a scale per photo, and a weak network bends it besides. The
scene points of bundle adjustment are few but exact: their log ratios to the prior correct it by a
scale, a stretch in log depth and a smooth field, each only as far as the points prove it useful.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pointmap.camera import Array, invert_rigid, transform_points
from pointmap.images import ResizedPhoto
from pointmap.masks import eroded
from pointmap.metrics import MAD_TO_SIGMA
from recon.stage_results import Alignment, DepthMap, PhotoPrior

logger = logging.getLogger(__name__)

# Widths of the smooth correction that are tried, as shares of the photo's longer side.
_FIELD_WIDTHS = (0.3, 0.15, 0.07)
# Typical deviations of the points from which on one is wrong, and the log error that is none.
_FAR, _NEVER_FAR = 5.0, 0.05
# The field's weights grow with the square of the points; this many say all there is to say.
_MAX_ANCHORS = 1500


@dataclass(frozen=True)
class DepthOptions:
    """How the prior depth is tied to the scene points."""

    correct_shape: bool = True
    """Let the scene points bend the prior where that helps; off only scales it."""
    typical_error: float = 0.15
    """Relative error left after the correction at which the prior counts half as much."""


@dataclass(frozen=True)
class Anchors:
    """Scene points in one photo: ``xy`` (P, 2) pixels at the depth's resolution, ``z`` (P,)."""

    xy: Array
    z: Array


def fuse_depths(
    priors: Sequence[PhotoPrior],
    alignment: Alignment,
    frames: Sequence[ResizedPhoto],
    *,
    options: DepthOptions | None = None,
) -> list[DepthMap | None]:
    """Return each photo's prior depth in scene units, at the size of its frame; None if unplaced.

    ``priors``, ``frames`` and ``alignment`` hold the same photos in the same order. A photo alone,
    or one that no scene point was seen in and no pointmaps tie to the others, keeps the network's
    own scale; when other photos are placed it is then a guess, so that its confidence is 0.
    """
    options = options or DepthOptions()
    return [
        None if pose is None else tied_depth(priors[i], alignment, i, frames[i], options)
        for i, pose in enumerate(alignment.cam_to_world)
    ]


def tied_depth(
    prior: PhotoPrior, alignment: Alignment, index: int, frame: ResizedPhoto, options: DepthOptions
) -> DepthMap:
    """Return the prior depth of one placed photo in scene units, at the size of its frame."""
    height, width = frame.pixels.shape[:2]
    raw = upsample_prior(prior, height, width)
    anchors = photo_anchors(alignment, index, frame)
    scale = alignment.depth_scale[index]
    if len(anchors.z):
        return tie_to_anchors(raw, anchors, options)
    if np.isfinite(scale):
        return DepthMap((scale * raw.depth).astype(np.float32), raw.confidence)
    if alignment.placed.sum() > 1:
        logger.warning("%s: no scene point seen, so its depth is a guess", frame.photo.name)
        return DepthMap(raw.depth, np.zeros_like(raw.confidence))
    return raw


def upsample_prior(prior: PhotoPrior, height: int, width: int) -> DepthMap:
    """Return the pointmap's z at ``height`` x ``width``, interpolated in log depth.

    Unpredicted pixels and points behind the camera stay unknown. The network's confidence c >= 1
    becomes 1 - 1 / c: 0 where it knows nothing, towards 1 where it is sure.
    """
    import cv2

    z = prior.points[..., 2].astype(np.float32)
    known = (prior.confidence > 0) & np.isfinite(z) & (z > 0)
    weight = known.astype(np.float32)
    log_z = np.log(np.where(known, z, 1.0)).astype(np.float32)
    certainty = np.where(known, 1 - 1 / np.maximum(prior.confidence, 1.0), 0).astype(np.float32)
    planes = np.stack([weight, log_z * weight, certainty], -1)
    total, log_sum, sure = np.moveaxis(
        cv2.resize(planes, (width, height), interpolation=cv2.INTER_LINEAR), -1, 0
    )
    # Half a neighbourhood of unknown pixels says too little about the one between them.
    usable = total > 0.5
    depth = np.where(usable, np.exp(log_sum / np.maximum(total, 0.5)), 0)
    return DepthMap(
        depth.astype(np.float32), np.where(usable, sure, 0).clip(0, 1).astype(np.float32)
    )


def counted(depth: DepthMap, frame: ResizedPhoto) -> DepthMap:
    """Return the depth of a frame's pixels that count; those beside a mask hold some of what
    doesn't.
    """
    if frame.usable is None:
        return depth
    counts = eroded(frame.usable)
    return DepthMap(depth.depth * counts, depth.confidence * counts)


def photo_anchors(alignment: Alignment, index: int, frame: ResizedPhoto) -> Anchors:
    """Return the scene points that photo ``index`` sees, in front of it and inside the frame."""
    cam_to_world = alignment.cam_to_world[index]
    assert cam_to_world is not None
    tracks = alignment.tracks
    mine = tracks.seen_by(index)
    points = tracks.points[tracks.point_index[mine]]
    z = transform_points(invert_rigid(cam_to_world), points)[:, 2]
    xy = tracks.xy[mine] * [frame.scale_x, frame.scale_y]
    height, width = frame.pixels.shape[:2]
    good = (z > 0) & np.isfinite(z) & ((xy >= 0) & (xy < [width, height])).all(-1)
    return Anchors(xy[good], z[good])


def tie_to_anchors(prior: DepthMap, anchors: Anchors, options: DepthOptions) -> DepthMap:
    """Return ``prior`` corrected to the depths of ``anchors``, its confidence by what is left.

    Scale first (median log ratio); then a stretch of log depth and a smooth field, kept only where
    leaving each point out shows that they predict it better.
    """
    xy, z, at = _at_anchors(prior, anchors)
    known = prior.depth > 0
    log_prior = np.log(np.where(known, prior.depth, 1.0))
    if not len(z):
        return DepthMap(prior.depth, np.zeros_like(prior.confidence))
    slope, shift = 1.0, float(np.median(np.log(z / at)))
    if options.correct_shape:
        slope, shift = _log_line(np.log(at), np.log(z))
    left = np.log(z) - (slope * np.log(at) + shift)
    # Points far off what the prior says of all the others are wrong ones, and would bend a good
    # prior; a coarse prior keeps them all.
    far = max(_FAR * MAD_TO_SIGMA * float(np.median(np.abs(left))), _NEVER_FAR)
    xy, z, left = (values[np.abs(left) <= far] for values in (xy, z, left))
    widths = _FIELD_WIDTHS if options.correct_shape else ()
    width, error = _best_field(xy, left, max(prior.depth.shape), widths)
    log_depth = slope * log_prior + shift
    if width:
        log_depth = log_depth + _field(xy, left, prior.depth.shape, width)
    depth = np.where(known, np.exp(log_depth), 0).astype(np.float32)
    trust = 1 / (1 + (error / options.typical_error) ** 2)
    # Few points leave the error itself uncertain.
    trust *= len(z) / (len(z) + 5)
    return DepthMap(depth, (prior.confidence * trust).astype(np.float32))


def shape_error(prior: DepthMap, anchors: Anchors) -> float:
    """Return the typical log error that a scale and a stretch leave in ``prior`` at ``anchors``."""
    _, z, at = _at_anchors(prior, anchors)
    if not len(z):
        return np.inf
    slope, shift = _log_line(np.log(at), np.log(z))
    return float(MAD_TO_SIGMA * np.median(np.abs(np.log(z) - slope * np.log(at) - shift)))


def _at_anchors(prior: DepthMap, anchors: Anchors) -> tuple[Array, Array, Array]:
    """Return pixels (P, 2) and depths (P,) of anchors, not too many, and what ``prior`` says there,
    where it says anything.
    """
    step = max(1, -(-len(anchors.z) // _MAX_ANCHORS))
    xy, z = anchors.xy[::step], anchors.z[::step]
    column, row = xy.astype(int).T
    at = prior.depth[row, column]
    return xy[at > 0], z[at > 0], at[at > 0]


def _log_line(x: Array, y: Array) -> tuple[float, float]:
    """Return slope, shift of y = slope x + shift, robust; slope 1 where x hardly varies.

    Iterated least squares with Cauchy weights, the slope drawn to 1 by a prior worth as much as 20
    points of the typical spread, and held to [0, 2.5]. A prior that is mere noise gets slope 0.
    """
    slope, shift = 1.0, float(np.median(y - x))
    if len(x) < 10:
        return slope, shift
    for _ in range(10):
        left = y - slope * x - shift
        scale = MAD_TO_SIGMA * np.median(np.abs(left)) + 1e-3
        weight = 1 / (1 + (left / (2 * scale)) ** 2)
        mean_x, mean_y = (np.average(v, weights=weight) for v in (x, y))
        dx, dy = x - mean_x, y - mean_y
        # Worth 20 points that lie 0.1 (10 % in depth) from the mean.
        ridge = 20 * 0.1**2
        slope = float(((weight * dx * dy).sum() + ridge) / ((weight * dx * dx).sum() + ridge))
        slope = float(np.clip(slope, 0.0, 2.5))
        shift = float(mean_y - slope * mean_x)
    return slope, shift


def _kernel(a: Array, b: Array, width: float) -> Array:
    """Return Gaussian weights (A, B) between pixels (A, 2) and (B, 2)."""
    # By axes: a sum along an axis of two would take as long as all the rest.
    across, down = (np.subtract.outer(a[:, k], b[:, k]) for k in range(2))
    return np.asarray(np.exp(-0.5 * (across**2 + down**2) / width**2))


# A correction shrinks to nothing where fewer than about this many points are near.
_SHRINK = 1.0


def _best_field(
    xy: Array, left: Array, long_side: int, widths: Sequence[float]
) -> tuple[float, float]:
    """Return the field's width in pixels (0 = no field) and the median error it leaves.

    Each point is predicted from the others (leave-one-out), so that a field cannot win by noise.
    """
    best, error = 0.0, float(MAD_TO_SIGMA * np.median(np.abs(left)))
    for share in widths if len(left) >= 8 else ():
        weights = _kernel(xy, xy, share * long_side)
        np.fill_diagonal(weights, 0)
        predicted = weights @ left / (weights.sum(1) + _SHRINK)
        found = float(MAD_TO_SIGMA * np.median(np.abs(left - predicted)))
        # A gain below 5 % may be chance.
        if found < 0.95 * error:
            best, error = share * long_side, found
    return best, error


def _field(xy: Array, left: Array, shape: tuple[int, int], width: float) -> Array:
    """Return the smooth correction (h, w): a normalised convolution, evaluated coarsely."""
    import cv2

    height, full_width = shape
    step = max(1.0, width / 4)
    rows, columns = max(2, round(height / step)), max(2, round(full_width / step))
    x = (np.arange(columns) + 0.5) * full_width / columns
    y = (np.arange(rows) + 0.5) * height / rows
    grid = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)
    weights = _kernel(grid, xy, width)
    values = (weights @ left / (weights.sum(1) + _SHRINK)).reshape(rows, columns)
    return cv2.resize(values, (full_width, height), interpolation=cv2.INTER_CUBIC)
