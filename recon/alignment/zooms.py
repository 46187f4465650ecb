"""Photos of one camera, as far as their files tell, that were taken at several zooms."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pointmap.camera import Array, Index, Mask, project
from pointmap.images import Photo
from recon.alignment.align import align
from recon.alignment.explained import pair_fits, unit_px
from recon.alignment.refinement import AlignOptions
from recon.stage_results import Alignment, Focals, PairEvidence

logger = logging.getLogger(__name__)

# Photos whose verified matches all but fit share their focal length: below this share it is asked
# whether they do.
_ALL_FIT = 0.97
# Focal lengths of their own leave this part of the squared errors, of at least so many of the
# observations, or they explain nothing: measured, 0.94 to 0.99 in sets of one camera, 0.4 where
# some photos were zoomed.
_LEFT, _KEPT = 0.75, 0.98
# They can leave so little only where the photos that don't fit have a share of the errors.
_WORTH = (1 - _LEFT) / 2
# How free they are for that, in logarithms, and the step between two zooms.
_FREE, _STEP = 0.2, np.log(1.15)


def cameras_by_zoom(
    photos: Sequence[Photo], evidence: PairEvidence, alignment: Alignment, options: AlignOptions
) -> list[tuple[str, float | None]] | None:
    """Return the photos' ``camera_key``, another one for each zoom, and ``exif_focal_px``; None
    where one focal length for each camera explains the matches as well.

    Cameras whose focal length is given stay as they are. What EXIF says of photos that were cut out
    and enlarged since, it says of others: it is dropped where the matches say otherwise.
    """
    open_ = np.array([source != "given" for source in evidence.focals.sources])
    misfits = open_ & _misfits(photos, alignment)
    before = _squared_errors(photos, alignment)
    # What a few photos of hundreds leave is not worth aligning all of them anew.
    theirs = sum(float(before[k].sum()) for k in np.flatnonzero(misfits))
    if not misfits.any() or theirs < _WORTH * sum(float(some.sum()) for some in before):
        return None
    focals = evidence.focals
    own = np.where(open_, focals.groups.max(initial=0) + 1 + np.arange(len(photos)), focals.groups)
    sigma = np.where(open_, np.maximum(focals.log_sigma, _FREE), focals.log_sigma)
    trial = align(
        photos, replace(evidence, focals=replace(focals, groups=own, log_sigma=sigma)), options
    )
    first, after = (np.concatenate(some) for some in (before, _squared_errors(photos, trial)))
    if len(after) < _KEPT * len(first) or after.mean() > _LEFT * first.mean():
        return None
    placed = np.array([pose is not None for pose in trial.cam_to_world])
    zoom = np.zeros(len(photos), np.int64)
    for group in np.unique(focals.groups[open_]):
        members = np.flatnonzero((focals.groups == group) & open_ & placed)
        order = members[np.argsort(trial.intrinsics[members, 0, 0], kind="stable")]
        steps = np.diff(np.log(trial.intrinsics[order, 0, 0])) > _STEP
        zoom[order] = np.concatenate([[0], np.cumsum(steps)])[: len(order)]
    if not zoom.any():
        return None
    logger.warning(
        "photos of equal size were taken at %d zooms, as their matches tell: each has a focal "
        "length of its own",
        zoom.max() + 1,
    )
    contradicted = _contradicted(photos, trial, focals, zoom)
    return [
        (
            f"{photo.camera_key}, zoom {z}" if z else photo.camera_key,
            None if wrong else photo.exif_focal_px,
        )
        for photo, z, wrong in zip(photos, zoom.tolist(), contradicted.tolist(), strict=True)
    ]


def with_zooms(
    photos: Sequence[Photo], zooms: Sequence[tuple[str, float | None]]
) -> tuple[Photo, ...]:
    """Return the photos with what :func:`cameras_by_zoom` found of each."""
    return tuple(
        replace(photo, camera_key=key, exif_focal_px=focal_px)
        for photo, (key, focal_px) in zip(photos, zooms, strict=True)
    )


def _contradicted(photos: Sequence[Photo], trial: Alignment, focals: Focals, zoom: Index) -> Mask:
    """Return (N,) of which photos EXIF tells another focal length than that of their ``zoom``."""
    told = [p.exif_focal_px if p.exif_focal_px is not None else np.nan for p in photos]
    off = np.abs(np.log(trial.intrinsics[:, 0, 0] / np.array(told)))
    result = np.zeros(len(photos), bool)
    cameras = np.stack([focals.groups, zoom], axis=1)
    for camera in np.unique(cameras, axis=0):
        members = (cameras == camera).all(axis=1)
        result[members] = np.median(off[members]) > _STEP
    return result


def _misfits(photos: Sequence[Photo], alignment: Alignment) -> Mask:
    """Return (N,) of which placed photos too many verified matches don't fit the cameras."""
    fits = pair_fits(photos, alignment)
    matches = np.zeros((len(photos), 2))
    for side in fits.pairs.T:
        np.add.at(matches, side, np.stack([fits.matches, fits.matches * fits.share], axis=1))
    return np.asarray(matches[:, 1] < _ALL_FIT * matches[:, 0])


def _squared_errors(photos: Sequence[Photo], alignment: Alignment) -> list[Array]:
    """Return the squared reprojection errors of each photo's observations, in pixels at 640 px."""
    tracks = alignment.tracks
    errors = []
    for k, pose in enumerate(alignment.cam_to_world):
        if pose is None:
            errors.append(np.zeros(0))
            continue
        rows = tracks.seen_by(k)
        points = (tracks.points[tracks.point_index[rows]] - pose[:3, 3]) @ pose[:3, :3]
        xy = project(points, alignment.intrinsics[k], alignment.lenses[k])
        errors.append(np.square((xy - tracks.xy[rows]) / unit_px(photos[k])).sum(axis=1))
    return errors
