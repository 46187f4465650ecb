"""Cameras of another start, where the matches fit these far better: a remedy for few photos.

Adjustment ends in a minimum near its start. Where cameras are in doubt, they are solved for again
from other focal lengths (:mod:`recon.verdict.solved_again`). Right cameras are hardly ever bettered
by that; wrong ones often, and what is better then mostly is right.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pointmap.images import Photo
from recon.alignment.align import align
from recon.alignment.missed_share import MissedShare
from recon.alignment.refinement import AlignOptions
from recon.alignment.solved_lenses import solved_lenses
from recon.alignment.zooms import verified_anew
from recon.stage_results import Alignment, PairEdge, PairEvidence, PhotoFeatures
from recon.verdict.evidence import SceneEvidence, TellEvidence, scene_evidence
from recon.verdict.probability import probability_wrong
from recon.verdict.solved_again import SolveAgain, solved_again, tells_by_starts

logger = logging.getLogger(__name__)

# Scenes that are less likely wrong than this are left alone.
_DOUBT = 0.05
# Other cameras are taken where they leave this share of what matches miss the first ones by.
# Measured: of 98 right scenes in doubt four have a start that does, of 73 wrong ones 37 %.
_BETTER = 0.9
# How free focal lengths are from there (standard deviation of logarithms).
_FREE = 0.2


def from_better_start(
    photos: Sequence[Photo],
    evidence: PairEvidence,
    alignment: Alignment,
    options: AlignOptions,
    *,
    features: Sequence[PhotoFeatures] | None = None,
    seed: int = 0,
    tell: TellEvidence = scene_evidence,
    again: SolveAgain = solved_again,
) -> tuple[PairEvidence, Alignment] | None:
    """Return evidence and finished cameras, lenses and all, of another start, where they fit all
    matches far better than those of the ``alignment``, which are finished, too; None where none do,
    where nothing speaks against the alignment, or where other starts say nothing
    (:func:`recon.verdict.solved_again.tells_by_starts`).

    Photos that were cut out, each elsewhere, are left alone. ``features``, ``seed``: as in
    :func:`recon.alignment.align.align`. ``tell`` gives the evidence of matches, ``again`` solves
    for the cameras from other starts.
    """
    if alignment.cut_out or "given" in evidence.focals.sources:
        return None
    if not tells_by_starts(photos, alignment) or not _in_doubt(tell(photos, alignment)):
        return None
    trials = [
        _shared(photos, evidence, one.alignment, options, features, seed)
        for one in again(photos, alignment)
        if one.left <= _BETTER
    ]
    if not trials:
        return None
    matches = [edge.matches for told, _ in trials for edge in (*evidence.edges, *told.edges)]
    every = {(m.i, m.j): PairEdge.unverified(m) for m in matches}
    measured = MissedShare(photos, list(every.values()), alignment)
    told, trial = max(trials, key=lambda one: measured.gain(one[1]))
    trial = solved_lenses(photos, told, trial, options, cut_out=False, features=features, seed=seed)
    left, gain = measured.left(trial), measured.gain(trial)
    logger.debug("from another focal length %.3f of the misses are left, gain %.1f", left, gain)
    if left > _BETTER or gain <= 0:
        return None
    logger.warning(
        "from another focal length at first, the cameras fit the matches far better: these are "
        "taken; add photos in between, taken a step aside, or give --focal.focal-px"
    )
    return told, trial


def _shared(
    photos: Sequence[Photo],
    evidence: PairEvidence,
    start: Alignment,
    options: AlignOptions,
    features: Sequence[PhotoFeatures] | None,
    seed: int,
) -> tuple[PairEvidence, Alignment]:
    """Return evidence and cameras from a start, of which photos share their focal length as they
    did: one for each photo makes many cameras fit.
    """
    focals = evidence.focals
    logs = np.log(start.intrinsics[:, 0, 0])
    free = replace(
        focals,
        focals_px=np.exp([np.median(logs[focals.groups == group]) for group in focals.groups]),
        log_sigma=np.maximum(focals.log_sigma, _FREE),
        sources=("epipolar",) * len(photos),
    )
    told = verified_anew(photos, evidence, free)
    return told, align(photos, told, options, seed=seed, features=features, start=start)


def _in_doubt(evidence: SceneEvidence) -> bool:
    return bool(np.isfinite(evidence.shift_deg)) and probability_wrong(evidence) > _DOUBT
