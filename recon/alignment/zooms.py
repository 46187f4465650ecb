"""Photos of one camera, as far as their files tell, that were taken at several zooms.

A zoom looks much like a step ahead. Cameras that all have to have one focal length so come to stand
where they don't: a photo from nearer by through a shorter lens even behind the others, with all
directions reversed. From there focal lengths of their own lead as far as where the cameras stand in
one place, and no farther; beyond it lies the other sign. So trials start beyond it, too.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pointmap.camera import Array, Index, Mask, project
from pointmap.images import Photo
from recon.alignment.align import align
from recon.alignment.explained import pair_fits
from recon.alignment.missed_share import MissedShare
from recon.alignment.refinement import AlignOptions
from recon.alignment.solved_lenses import solved_lenses
from recon.stage_results import (
    Alignment,
    Focals,
    PairEdge,
    PairEvidence,
    PairMatches,
    unit_px,
)
from recon.two_view.relative_pose import verify_pair
from recon.two_view.similarity import fitted_similarity
from recon.work.threads import in_threads

logger = logging.getLogger(__name__)

# Of many photos it is asked whether they share their focal length where their verified matches fit
# less than this share; of few ones, which a wrong focal length contradicts less, always, unless
# EXIF tells it.
_ALL_FIT, _FEW_PHOTOS = 0.97, 15
# Those of many that don't fit have such a share of the squared errors, or it is not worth while to
# align all of them anew.
_WORTH = 0.125
# Focal lengths of their own leave this part of what matches miss by, or they explain nothing; of
# many photos, where they are tried from one start only, this.
_LEFT, _LEFT_OF_MANY = 0.95, 0.75
# How free they are for that, in logarithms, and the step between two zooms.
_FREE, _STEP = 0.2, np.log(1.15)
# How far zooms are from one another as a rule (standard deviation of logarithms). Those that mere
# repetition asks for are off by any factor.
_SPREAD = 0.17
# Focal lengths that agree to this (standard deviation of logarithms) are one, and how many times as
# far from one another as they were found others start.
_AGREE, _BEYOND = 0.015, (1.0, 1.5, 2.0)
# So many matches, half of which a similarity has within so many times their accuracy: photos from
# one place that turned by two degrees (0.9 to 1.4; others, of the ground from above, from 3).
_ENOUGH, _ALIKE = 60, 2.0


@dataclass(frozen=True)
class Zooms:
    """Cameras of N photos that were taken at several zooms: of each photo its ``camera_key``,
    another one for each zoom, and ``exif_focal_px``; their ``focals``; and the ``alignment`` that
    these were found with.
    """

    cameras: tuple[tuple[str, float | None], ...]
    focals: Focals
    alignment: Alignment


def cameras_by_zoom(
    photos: Sequence[Photo],
    evidence: PairEvidence,
    alignment: Alignment,
    options: AlignOptions,
    *,
    known_cam_to_world: Sequence[Array | None] | None = None,
) -> Zooms | None:
    """Return the cameras of photos that were taken at several zooms; None where one focal length
    for each camera explains the matches as well.

    Cameras whose focal length is given stay as they are. What EXIF says of photos that were cut out
    and enlarged since, it says of others: it is dropped where the matches say otherwise.
    ``known_cam_to_world``: as in :func:`recon.alignment.align.align`.
    """
    focals = evidence.focals

    def aligned(told: PairEvidence, start: Alignment | None) -> Alignment:
        return align(photos, told, options, known_cam_to_world=known_cam_to_world, start=start)

    open_ = np.array([source != "given" for source in focals.sources])
    if not _asked(photos, evidence, alignment, open_):
        return None
    measured = MissedShare(photos, evidence.edges, alignment)
    found = _with_own_focals(photos, evidence, alignment, open_, aligned, measured)
    if found is None:
        return None
    told, trial = found
    logs = np.log(trial.intrinsics[open_ & measured.placed, 0, 0])
    if np.ptp(logs) <= _STEP:
        return None
    zoom = _zooms(trial, focals, open_)
    # What changes little by little is no zoom that several photos have.
    if zoom.any():
        shared = _focals(trial, focals, open_, zoom, _contradicted(photos, trial, focals, zoom))
        grouped = aligned(replace(told, focals=shared), trial)
        if measured.left(trial) <= _LEFT * measured.left(grouped):
            zoom = _own(focals, open_)
        else:
            trial = grouped
    else:
        zoom = _own(focals, open_)
    # Of pairs that one focal length left unverified, too.
    matches = every_match(evidence.matches, evidence.edges)
    every = MissedShare(photos, [PairEdge.unverified(m) for m in matches], alignment)
    if every.gain(trial) < _surprise(trial, focals, open_ & measured.placed, zoom):
        return None
    if len(photos) <= _FEW_PHOTOS:
        # Principal points that are off look like zooms, too; solved for, they then explain more.
        with_lenses = solved_lenses(photos, evidence, alignment, options)
        if measured.left(with_lenses) <= _LEFT * measured.left(trial):
            return None
    logger.warning(
        "photos of equal size were taken at %d zooms, as their matches tell: each has a focal "
        "length of its own",
        zoom.max() + 1,
    )
    contradicted = _contradicted(photos, trial, focals, zoom)
    cameras = tuple(
        (
            f"{photo.camera_key}, zoom {z}" if z else photo.camera_key,
            None if wrong else photo.exif_focal_px,
        )
        for photo, z, wrong in zip(photos, zoom.tolist(), contradicted.tolist(), strict=True)
    )
    return Zooms(cameras, _focals(trial, focals, open_, zoom, contradicted), trial)


def with_zooms(photos: Sequence[Photo], zooms: Zooms) -> tuple[Photo, ...]:
    """Return the photos with what :func:`cameras_by_zoom` found of each."""
    return tuple(
        replace(photo, camera_key=key, exif_focal_px=focal_px)
        for photo, (key, focal_px) in zip(photos, zooms.cameras, strict=True)
    )


def _asked(
    photos: Sequence[Photo], evidence: PairEvidence, alignment: Alignment, open_: Mask
) -> bool:
    """Return whether the photos may have been taken at several zooms."""
    misfits = open_ & _misfits(photos, alignment)
    errors = _squared_errors(photos, alignment)
    theirs = sum(errors[k] for k in np.flatnonzero(misfits).tolist())
    if misfits.any() and theirs >= _WORTH * sum(errors):
        return True
    told = np.array([source == "exif" for source in evidence.focals.sources])
    few = 2 < alignment.placed.sum() and len(photos) <= _FEW_PHOTOS
    return bool(few and len(alignment.tracks.points) and (open_ & ~told).any())


def _with_own_focals(
    photos: Sequence[Photo],
    evidence: PairEvidence,
    alignment: Alignment,
    open_: Mask,
    aligned: Callable[[PairEvidence, Alignment | None], Alignment],
    measured: MissedShare,
) -> tuple[PairEvidence, Alignment] | None:
    """Return evidence and cameras with a focal length for each ``open_`` photo (N,); None where
    these explain the matches no better, or agree.
    """
    focals, together = evidence.focals, alignment.intrinsics[:, 0, 0]
    own = np.where(open_, focals.groups.max(initial=0) + 1 + np.arange(len(photos)), focals.groups)
    sigma = np.where(open_, np.maximum(focals.log_sigma, _FREE), focals.log_sigma)
    free = replace(focals, groups=own, log_sigma=sigma)
    told = replace(evidence, focals=free)
    few = len(photos) <= _FEW_PHOTOS
    start = None
    if not few:
        # They take long from the start, and would come by the same way.
        told, start = replace(told, edges=list(alignment.edges)), alignment
    trials = [(told, aligned(told, start))]
    apart = np.log(trials[0][1].intrinsics[:, 0, 0] / together)
    if np.std(apart[open_ & measured.placed]) < _AGREE:
        return None

    def try_from(focals_px: Array) -> None:
        told = verified_anew(photos, evidence, replace(free, focals_px=focals_px))
        trials.append((told, aligned(told, None)))

    if few:
        for times in _BEYOND:
            try_from(together * np.exp(times * apart))
        zoomed = longer_from_one_place(evidence.matches, len(photos))
        if zoomed.any():
            try_from(together * np.exp(np.where(open_, zoomed, 0)))
        best = min(trials, key=lambda one: measured.left(one[1]))
        try_from(best[1].intrinsics[:, 0, 0])
    shares = [measured.left(trial) for _, trial in trials]
    logger.debug("focal lengths of their own leave %s of what matches miss by", shares)
    least = int(np.argmin(shares))
    return trials[least] if shares[least] <= (_LEFT if few else _LEFT_OF_MANY) else None


def longer_from_one_place(matches: Sequence[PairMatches], count: int) -> Array:
    """Return how much longer a lens each photo (N,) has than the widest one that was taken from its
    place, in logarithms; 0 where there is none.

    From one place, nearly the same way, a zoom enlarges the picture, near and far alike.
    """
    near: list[tuple[float, int, int]] = []
    for pair in matches:
        fit = fitted_similarity(pair) if len(pair) >= _ENOUGH else None
        if fit is not None and np.median(fit.off) < _ALIKE:
            near.append((np.log(fit.zoom), pair.i, pair.j))
    longer, place = np.zeros(count), np.arange(count)
    for log, i, j in near:
        if place[i] != place[j]:
            joined = place == place[j]
            longer[joined] += longer[i] + log - longer[j]
            place[joined] = place[i]
    widest = np.array([longer[place == one].min() for one in place])
    return np.where(longer - widest > _STEP, longer - widest, 0.0)


def verified_anew(photos: Sequence[Photo], evidence: PairEvidence, focals: Focals) -> PairEvidence:
    """Return what the pairs' matches say with other focal lengths."""
    matches = every_match(evidence.matches, evidence.edges)
    found = in_threads(lambda pair: verify_pair(photos, pair, None, focals.focals_px), matches)
    edges = [edge for edge in found if edge is not None]
    return replace(evidence, edges=edges, focals=focals)


def every_match(matches: Sequence[PairMatches], edges: Sequence[PairEdge]) -> list[PairMatches]:
    """Return the matches of each pair, verified or not, sorted: those of its edge if it has one."""
    found = {(m.i, m.j): m for m in matches}
    found |= {(edge.matches.i, edge.matches.j): edge.matches for edge in edges}
    return [found[pair] for pair in sorted(found)]


def _zooms(trial: Alignment, focals: Focals, open_: Mask) -> Index:
    """Return the number (N,) of each photo's zoom, from 0 in each camera: from one to the next
    there is a step.
    """
    logs = np.log(trial.intrinsics[:, 0, 0])
    zoom = np.zeros(len(logs), np.int64)
    for group in np.unique(focals.groups[open_]):
        members = np.flatnonzero((focals.groups == group) & open_ & trial.placed)
        order = members[np.argsort(logs[members], kind="stable")]
        steps = np.diff(logs[order]) > _STEP
        zoom[order] = np.concatenate([[0], np.cumsum(steps)])[: len(order)]
    return zoom


def _surprise(trial: Alignment, focals: Focals, asked: Mask, zoom: Index) -> float:
    """Return how much unlikelier (natural logarithm) than one zoom of each camera those are that
    were found of the photos ``asked`` (N,): by how far they are spread.
    """
    logs = np.log(trial.intrinsics[:, 0, 0])
    spread = 0.0
    for group in np.unique(focals.groups[asked]):
        members = asked & (focals.groups == group)
        found = [np.mean(logs[members & (zoom == z)]) for z in np.unique(zoom[members])]
        spread += float(np.square(found - np.mean(found)).sum())
    return spread / (2 * _SPREAD**2)


def _own(focals: Focals, open_: Mask) -> Index:
    """Return the number (N,) of each photo's zoom in its camera, all of which differ."""
    zoom = np.zeros(len(open_), np.int64)
    for group in np.unique(focals.groups[open_]):
        members = np.flatnonzero((focals.groups == group) & open_)
        zoom[members] = np.arange(len(members))
    return zoom


def _focals(
    trial: Alignment, focals: Focals, open_: Mask, zoom: Index, contradicted: Mask
) -> Focals:
    """Return the focal lengths of cameras that are told apart by ``zoom`` (N,): what EXIF says of
    them, unless it is ``contradicted`` (N,), or what was found.
    """
    cameras, groups = np.unique(
        np.stack([focals.groups, zoom], axis=1), axis=0, return_inverse=True
    )
    told = np.array([source == "exif" for source in focals.sources]) & ~contradicted
    found = open_ & ~told
    focals_px, sigma = focals.focals_px.copy(), focals.log_sigma.copy()
    for group in range(len(cameras)):
        members = np.flatnonzero((groups == group) & found & trial.placed)
        if len(members):
            focals_px[members] = np.median(trial.intrinsics[members, 0, 0])
            sigma[members] = np.maximum(sigma[members], _FREE)
    sources = tuple(
        "epipolar" if new else source for new, source in zip(found, focals.sources, strict=True)
    )
    return Focals(focals_px, sigma, sources, groups.astype(np.int64))


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


def _squared_errors(photos: Sequence[Photo], alignment: Alignment) -> list[float]:
    """Return each photo's sum of squared reprojection errors, in pixels at 640 px."""
    tracks = alignment.tracks
    errors = []
    for k, pose in enumerate(alignment.cam_to_world):
        if pose is None:
            errors.append(0.0)
            continue
        rows = tracks.seen_by(k)
        points = (tracks.points[tracks.point_index[rows]] - pose[:3, 3]) @ pose[:3, :3]
        xy = project(points, alignment.intrinsics[k], alignment.lenses[k])
        errors.append(float(np.square((xy - tracks.xy[rows]) / unit_px(photos[k])).sum()))
    return errors
