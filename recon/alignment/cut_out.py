"""Photos that were cut out of larger ones, each elsewhere: their principal points are anywhere.

A camera that turns shows nearly the same as one whose principal point is off, so that pairs of such
photos fit turned cameras well, and the scene is wrong by as much. With a principal point of its own
for each photo the matches fit far better, those that were held out, too.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pointmap.camera import Array, Index, Mask
from pointmap.images import Photo
from recon.alignment.align import align
from recon.alignment.explained import pair_fits
from recon.alignment.lens_choice import held_out_split, misses
from recon.alignment.refinement import AlignOptions, LensModel
from recon.stage_results import Alignment, Focals, PairEvidence, PhotoFeatures
from recon.verdict.uncertainty import uncertainty

logger = logging.getLogger(__name__)

# Fewer photos leave open where each was cut out; of many a trial takes as long as aligning them.
_FEWEST, _MOST = 4, 60
# Lenses of their own leave this share of the squared errors that shared ones leave, or it isn't
# tried. Measured: 0.95 to 0.99 in photos of one camera, 0.57 to 0.87 of ones that were cut out.
_WORTH_TRYING = 0.92
# What held-out matches miss by has to fall to this share: to 0.96 to 1.0 (0.70 in one street walked
# along with a phone), and to 0.34 to 0.6.
_BETTER = 0.65
# Focal lengths that are all but shared (logarithm) are taken if matches miss by no more than so
# many times as much.
_OWN, _SHARED, _AS_WELL = 0.2, 0.01, 1.03
# Off the photos' centres by less of the long side at most, it is no cutting out.
_OFF_CENTRE = 0.03
# Photos that were cut out fit their cameras then, all but wrong matches: this share of the verified
# matches, to be held to so many degrees. Measured: 0.984 to 1.0 and 0.2 to 0.7; 0.95 where some
# were taken by a fisheye, 5.7 degrees where all were taken from one place, some zoomed.
_EXPLAINED, _HELD_DEG = 0.97, 3.0
# A photo turned far by its wrong centre is led back step by step, by more matches each time.
_ROUNDS = 2


def as_cut_out(
    photos: Sequence[Photo],
    evidence: PairEvidence,
    centred: Alignment,
    alignment: Alignment,
    options: AlignOptions,
    *,
    features: Sequence[PhotoFeatures] | None = None,
    seed: int = 0,
) -> Alignment | None:
    """Return an alignment with a principal point of each photo's own; None where those of
    ``alignment`` explain the matches as well, or too few photos tell, or all from one place.

    ``centred``: the alignment with all principal points in the middle, to start from: one that
    photos share is a compromise from which no small steps lead on. ``features``, ``seed``: as in
    :func:`recon.alignment.align.align`.
    """
    placed = alignment.placed
    focals = evidence.focals
    if not _FEWEST <= placed.sum() <= _MOST or (focals.log_sigma == 0).any():
        return None
    if any(lens.is_fisheye for lens in alignment.lenses):
        return None
    moves = pair_fits(photos, alignment).moves
    if not len(moves) or moves.mean() < 0.5:
        return None
    shared, own = (uncertainty(photos, alignment, own_lenses=own).left for own in (False, True))
    if _mostly_alone(focals.groups[placed]):
        # Of as many sizes as photos: if principal points are off the middle, each is by itself.
        alignment = centred
        shared, own = 1.0, uncertainty(photos, centred, own_lenses=True).left
    logger.debug("lenses of their own leave %.3f of the errors, shared ones %.3f", own, shared)
    if own >= _WORTH_TRYING * shared:
        return None
    told = replace(evidence, edges=list(alignment.edges))
    learned, held_out = held_out_split(told)
    first = align(photos, learned, options, start=alignment)
    everyone = np.ones(len(photos), bool)
    best = _Freed(everyone, _with_own(focals, centred.intrinsics[:, 0, 0], everyone, _OWN))
    found = best.led_on(photos, learned, centred, options)
    before, cost = (misses(photos, a, held_out) for a in (first, found))
    right = np.minimum(before, cost) < 1
    if not right.any() or cost[right].mean() >= _BETTER * before[right].mean():
        return None
    # Nearly one focal length, if that does, and one camera of those that are in the middle.
    one = _medians(found.intrinsics[:, 0, 0], focals.groups)
    off = _off_centre(photos, found) > _OFF_CENTRE
    for cut, sigma in ((everyone, _SHARED), (off, _OWN)):
        if not cut.any() or (cut is off and cut.all()):
            continue
        simpler = _Freed(cut, _with_own(focals, one, cut, sigma))
        trial = simpler.led_on(photos, learned, _in_the_middle(photos, found, ~cut), options)
        left = misses(photos, trial, held_out)
        if left[right].mean() <= _AS_WELL * cost[right].mean():
            best, found = simpler, trial
    found = best.led_on(photos, told, found, options)
    chosen = best.aligned(photos, told, found, options, features=features, seed=seed)
    lost = chosen.placed.sum() < placed.sum()
    if lost or _off_centre(photos, chosen)[chosen.placed].max() < _OFF_CENTRE:
        return None
    if not explains(photos, chosen, alignment):
        return None
    return replace(chosen, cut_out=True)


def explains(photos: Sequence[Photo], alignment: Alignment, shared: Alignment) -> bool:
    """Return whether the verified matches fit, more of them than with ``shared`` lenses, and hold
    the cameras.
    """
    fits, errors = pair_fits(photos, alignment), uncertainty(photos, alignment)
    explained = fits.explained / max(int(fits.matches.sum()), 1)
    error_deg = float(np.nanmedian(np.maximum(errors.rotation_deg, errors.direction_deg)))
    logger.debug("cut out, %.3f of the matches fit, to %.2f degrees", explained, error_deg)
    # What repeats leads centres of their own to fit some of it better, but no more of it.
    more = fits.explained > pair_fits(photos, shared).explained
    return more and explained >= _EXPLAINED and error_deg <= _HELD_DEG


@dataclass(frozen=True)
class _Freed:
    """Which photos (N,) have a principal point of their own, and the ``focals`` that go with it."""

    cut: Mask
    focals: Focals

    def aligned(
        self,
        photos: Sequence[Photo],
        evidence: PairEvidence,
        start: Alignment,
        options: AlignOptions,
        *,
        features: Sequence[PhotoFeatures] | None = None,
        seed: int = 0,
    ) -> Alignment:
        told = replace(evidence, focals=self.focals)
        lens = LensModel(centre=tuple(self.cut.tolist()))
        return align(photos, told, options, seed=seed, features=features, start=start, lens=lens)

    def led_on(
        self,
        photos: Sequence[Photo],
        evidence: PairEvidence,
        start: Alignment,
        options: AlignOptions,
    ) -> Alignment:
        for _ in range(_ROUNDS):
            start = self.aligned(photos, evidence, start, options)
        return start


def _with_own(focals: Focals, focals_px: Array, cut: Mask, log_sigma: float) -> Focals:
    """Return focal lengths (N,) of which those that are ``cut`` out are shared with no other photo,
    and known to ``log_sigma``.
    """
    own = focals.groups.max(initial=0) + 1 + np.arange(len(cut))
    return replace(
        focals,
        focals_px=np.where(cut, focals_px, focals.focals_px),
        groups=np.where(cut, own, focals.groups),
        log_sigma=np.where(cut, log_sigma, focals.log_sigma),
    )


def _in_the_middle(photos: Sequence[Photo], alignment: Alignment, which: Mask) -> Alignment:
    """Return the alignment with the principal points of photos (N,) in their middle."""
    intrinsics = alignment.intrinsics.copy()
    intrinsics[which, :2, 2] = np.array([photo.middle for photo in photos])[which]
    return replace(alignment, intrinsics=intrinsics)


def _mostly_alone(groups: Index) -> bool:
    """Return whether most photos share their lens with no other one."""
    return bool(np.mean(np.bincount(groups)[groups] == 1) > 0.5)


def _medians(values: Array, groups: Index) -> Array:
    """Return each value's median over its group."""
    result = values.copy()
    for group in np.unique(groups):
        result[groups == group] = np.median(values[groups == group])
    return result


def _off_centre(photos: Sequence[Photo], alignment: Alignment) -> Array:
    """Return how far principal points (N,) are from the photos' middles, in long sides."""
    middle = np.array([photo.middle for photo in photos])
    off = np.linalg.norm(alignment.intrinsics[:, :2, 2] - middle, axis=1)
    return np.asarray(off / [max(photo.width, photo.height) for photo in photos])
