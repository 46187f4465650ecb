"""Focal lengths that files state, where matches tell next to nothing of them.

Photos of a walk straight ahead fit nearly any focal length: what is twice as long makes everything
twice as far. Thousands of matches, whose errors are alike, then draw it far from what EXIF says for
a gain that held-out matches don't see.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pointmap.camera import Array
from pointmap.images import Photo
from recon.alignment.align import align
from recon.alignment.lens_choice import held_out_split, misses
from recon.alignment.refinement import AlignOptions, LensModel
from recon.stage_results import Alignment, Focals, PairEvidence, PhotoFeatures
from recon.two_view.focal_lengths import EXIF_LOG_SIGMA

logger = logging.getLogger(__name__)

# From where on (logarithm) a focal length is far from a stated one, and how closely it is held.
_FAR, _HELD = 2 * EXIF_LOG_SIGMA, EXIF_LOG_SIGMA / 5
# Held-out matches miss by no more than so many times as much. Measured: 1.01 and 1.05 on a street
# walked along with a phone, where focal lengths from 738 to 1120 px fit alike (stated: 1035).
_AS_WELL = 1.1
# Of more photos some turn or step aside, and a trial takes as long as aligning them.
_MOST_PHOTOS = 100


def as_stated(
    photos: Sequence[Photo],
    evidence: PairEvidence,
    alignment: Alignment,
    options: AlignOptions,
    *,
    lens: LensModel | None = None,
    features: Sequence[PhotoFeatures] | None = None,
    seed: int = 0,
) -> tuple[PairEvidence, Alignment] | None:
    """Return evidence and alignment with focal lengths near those that EXIF states, where the
    ``alignment`` has others and matches let them be drawn there and fit as well; None where that is
    not so.

    ``lens``, ``features``, ``seed``: as in :func:`recon.alignment.align.align`.
    """
    placed, focals = alignment.placed, evidence.focals
    stated = np.array([source == "exif" for source in focals.sources])
    strayed = _apart(alignment, focals) > _FAR
    held = np.isin(focals.groups, focals.groups[stated & strayed & placed])
    if not held.any() or not 2 <= placed.sum() <= _MOST_PHOTOS:
        return None
    told = replace(
        evidence,
        edges=list(alignment.edges),
        focals=replace(focals, log_sigma=np.where(held, _HELD, focals.log_sigma)),
    )
    learned, held_out = held_out_split(told)
    first, trial = (
        align(photos, one, options, start=alignment, lens=lens)
        for one in (replace(learned, focals=focals), learned)
    )
    if (_apart(trial, focals) > _FAR)[held & trial.placed].any():
        return None
    before, cost = (misses(photos, one, held_out) for one in (first, trial))
    right = np.minimum(before, cost) < 1
    if not right.any() or cost[right].mean() > _AS_WELL * before[right].mean():
        return None
    logger.debug("focal lengths are as stated: held-out matches miss by %.4f", cost[right].mean())
    chosen = align(photos, told, options, seed=seed, features=features, start=alignment, lens=lens)
    return (told, chosen) if chosen.placed.sum() >= placed.sum() else None


def _apart(alignment: Alignment, focals: Focals) -> Array:
    """Return how far (logarithm) focal lengths (N,) are from those that were told at first."""
    return np.asarray(np.abs(np.log(alignment.intrinsics[:, 0, 0] / focals.focals_px)))
