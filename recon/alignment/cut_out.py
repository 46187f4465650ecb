"""Photos that were cut out of larger ones, each elsewhere: their principal points are anywhere.

A camera that turns shows nearly the same as one whose principal point is off, so that pairs of such
photos fit turned cameras well, and the scene is wrong by as much. With a principal point of its own
for each photo the matches fit far better, those that were held out, too.
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
from recon.stage_results import Alignment, PairEvidence, PhotoFeatures
from recon.verdict.uncertainty import uncertainty

logger = logging.getLogger(__name__)

# Fewer photos leave open where each was cut out; of many a trial takes as long as aligning them.
_FEWEST, _MOST = 4, 60
# Lenses of their own leave this share of the squared errors that shared ones leave, or it isn't
# tried. Measured: 0.95 to 0.99 in photos of one camera, 0.57 to 0.87 of ones that were cut out.
_WORTH_TRYING = 0.92
# What held-out matches miss by has to fall to this share: to 0.96 to 1.0, and to 0.34 to 0.6.
_BETTER = 0.75
# Focal lengths that are all but shared (logarithm) are taken if matches miss by no more than so
# many times as much.
_OWN, _SHARED, _AS_WELL = 0.2, 0.01, 1.03
# Off the photo's centre by less of its long side (typically), it is no cutting out.
_OFF_CENTRE = 0.02
# A photo turned far by its wrong centre is led back step by step, by more matches each time.
_ROUNDS = 2
_CENTRE = LensModel(centre=True)


def as_cut_out(
    photos: Sequence[Photo],
    evidence: PairEvidence,
    alignment: Alignment,
    options: AlignOptions,
    *,
    features: Sequence[PhotoFeatures] | None = None,
    seed: int = 0,
) -> Alignment | None:
    """Return the alignment with a principal point of each photo's own; None where those that there
    are explain the matches as well, or too few photos tell.

    ``features``, ``seed``: as in :func:`recon.alignment.align.align`.
    """
    placed = np.array([pose is not None for pose in alignment.cam_to_world], bool)
    focals = evidence.focals
    if not _FEWEST <= placed.sum() <= _MOST or (focals.log_sigma == 0).any():
        return None
    if any(lens.is_fisheye for lens in alignment.lenses):
        return None
    shared, own = (uncertainty(photos, alignment, own_lenses=own).left for own in (False, True))
    logger.debug("lenses of their own leave %.3f of the errors, shared ones %.3f", own, shared)
    if own >= _WORTH_TRYING * shared:
        return None
    told = replace(evidence, edges=list(alignment.edges))
    learned, held_out = held_out_split(told)
    first = align(photos, learned, options, start=alignment)
    freed = replace(
        focals,
        focals_px=alignment.intrinsics[:, 0, 0].copy(),
        groups=np.arange(len(photos)),
        log_sigma=np.full(len(photos), _OWN),
    )
    best = _led_on(photos, replace(learned, focals=freed), alignment, options)
    # Nearly one focal length, if that does.
    one = _medians(best.intrinsics[:, 0, 0], focals.groups)
    held = replace(freed, focals_px=one, log_sigma=np.full(len(photos), _SHARED))
    simpler = _led_on(photos, replace(learned, focals=held), best, options)
    before, cost, simple = (misses(photos, a, held_out) for a in (first, best, simpler))
    right = np.minimum(before, cost) < 1
    if not right.any() or cost[right].mean() >= _BETTER * before[right].mean():
        return None
    if simple[right].mean() <= _AS_WELL * cost[right].mean():
        best, freed = simpler, held
    told = replace(told, focals=freed)
    best = _led_on(photos, told, best, options)
    chosen = align(photos, told, options, seed=seed, features=features, start=best, lens=_CENTRE)
    now = np.array([pose is not None for pose in chosen.cam_to_world], bool)
    if now.sum() < placed.sum() or np.median(_off_centre(photos, chosen)[now]) < _OFF_CENTRE:
        return None
    logger.warning(
        "the photos were cut out of larger ones, each elsewhere, as their matches tell: their "
        "principal points are solved for one by one, which matches hardly hold; give the original "
        "files"
    )
    return replace(chosen, cut_out=True)


def _led_on(
    photos: Sequence[Photo], evidence: PairEvidence, start: Alignment, options: AlignOptions
) -> Alignment:
    for _ in range(_ROUNDS):
        start = align(photos, evidence, options, start=start, lens=_CENTRE)
    return start


def _medians(values: Array, groups: Array) -> Array:
    """Return each value's median over its group."""
    result = values.copy()
    for group in np.unique(groups):
        result[groups == group] = np.median(values[groups == group])
    return result


def _off_centre(photos: Sequence[Photo], alignment: Alignment) -> Array:
    """Return how far principal points (N,) are from the photos' centres, in long sides."""
    sizes = np.array([[photo.width, photo.height] for photo in photos], np.float64)
    off = np.linalg.norm(alignment.intrinsics[:, :2, 2] - sizes / 2, axis=1)
    return np.asarray(off / sizes.max(axis=1))
