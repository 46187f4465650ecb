"""Align the photos, match those that came to stand close, and those that few features hold, align
once more; then part photos of places that only look alike, or that hardly anything joins.
"""

from __future__ import annotations

import functools
import itertools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Mask
from pointmap.errors import some_of, told_together
from recon.alignment.align import align
from recon.alignment.bridges import without_lone_bridges
from recon.alignment.compared_pictures import compare_pictures
from recon.alignment.doppelgangers import contradicting_group
from recon.alignment.explained import pair_fits
from recon.alignment.hanging_groups import hanging_group, weak_ties
from recon.alignment.pairs_by_place import edges_by_place
from recon.alignment.refinement import AlignOptions, LensModel
from recon.prediction.view_graph import Pair
from recon.progress import Advance, unheard
from recon.stage_results import Alignment, PairEvidence, PhotoFeatures
from recon.two_view.features import FEATURE_LONG_SIDE
from recon.two_view.magnified_matching import (
    MatchedAgain,
    firm_pairs,
    magnified_features,
    match_again,
    pairs_to_match_again,
    photos_with_few_matches,
)
from recon.work.steps import Steps

if TYPE_CHECKING:
    from pointmap.images import Photo
    from recon.inputs import Inputs

logger = logging.getLogger(__name__)

# Photos whose finer features are kept at a time, 4 MB each: pairs of one photo come together.
_KEPT = 32
# Each takes a whole alignment; a street of equal houses would go on for long.
_DIVISIONS = 4


def align_scene(
    inputs: Inputs,
    features: Sequence[PhotoFeatures],
    evidence: PairEvidence,
    options: AlignOptions,
    *,
    by_place: bool = True,
    feature_size: int = FEATURE_LONG_SIDE,
    seed: int = 0,
    lens: LensModel | None = None,
    start: Alignment | None = None,
    steps: Steps | None = None,
    advance: Advance = unheard,
) -> Alignment:
    """Return the cameras of all photos in original pixels, known lenses as they were given.

    Photos that stand where they would see the same things are matched where they have not been,
    unless ``by_place`` says that pairs are not to be added; if that tells something new, all is
    aligned anew (:mod:`recon.alignment.pairs_by_place`).
    Photos that few features hold, and pairs on which groups of photos hang, are matched again at
    twice the ``feature_size`` (long side in pixels) at which features were found. What that gives
    is taken unless fewer photos are placed with it. Photos of a place that only looks like that of
    the others are parted from them, and told of (:mod:`recon.alignment.doppelgangers`), and so are
    those that hang on the others by single pairs (:mod:`recon.alignment.hanging_groups`). A photo
    without a place is warned of. ``start``: cameras that are gone on from at first. What each
    alignment on the way gave is kept among ``steps``, if there are any, until they are told to
    forget it.
    """
    steps, numbers = steps or Steps(), itertools.count()
    known = inputs.known.cam_to_world
    if len(inputs.photos) == 2 and inputs.matcher is not None:
        # Two photos have told their focal length already, as far as they know it. Here the matches
        # of a learned matcher would be believed as if they had no error in common.
        told = replace(evidence.focals, log_sigma=np.zeros(2))
        evidence = replace(evidence, focals=told)

    def aligned(
        features: Sequence[PhotoFeatures], evidence: PairEvidence, start: Alignment | None
    ) -> _Aligned:
        # All that it depends on follows from what the first one does.
        alignment = steps.once(
            f"alignment {next(numbers)}",
            lambda: align(
                inputs.photos,
                evidence,
                options,
                seed=seed,
                features=features,
                known_cam_to_world=known,
                start=start,
                lens=lens,
            ),
            passing=True,
        )
        return _Aligned(features, evidence, alignment)

    found = aligned(features, evidence, start)
    # Cameras that are known hold whatever the photos show.
    moves = all(pose is None for pose in known)
    if moves and by_place:
        found = _with_pairs_by_place(inputs, found, aligned)
    ties = weak_ties(found.alignment) if moves else set()
    finer = functools.partial(magnified_features, long_side=feature_size)
    found = _with_finer_features(inputs, found, ties, aligned, finer, advance)
    if moves:
        found = _of_one_place(inputs, found, aligned)
    alignment = inputs.known.restored(found.alignment)
    _tell_unplaced(inputs.photos, alignment)
    return alignment


@dataclass(frozen=True)
class _Aligned:
    """An alignment, and what it was made of."""

    features: Sequence[PhotoFeatures]
    evidence: PairEvidence
    alignment: Alignment


_Align = Callable[[Sequence[PhotoFeatures], PairEvidence, Alignment | None], _Aligned]
_Finer = Callable[["Photo"], PhotoFeatures]


def _with_pairs_by_place(inputs: Inputs, before: _Aligned, aligned: _Align) -> _Aligned:
    """Return what edges between photos that came to stand close lead to, if that explains more."""
    photos, features, evidence = inputs.photos, before.features, before.evidence
    focals = _focals_px(inputs, before.alignment)
    further = edges_by_place(photos, features, evidence.matches, before.alignment, focals)
    if not further:
        return before
    every = sorted([*evidence.edges, *further], key=lambda e: (e.matches.i, e.matches.j))
    trial = aligned(features, replace(evidence, edges=every), None)
    logger.debug("%d edges between photos that stand close", len(further))
    as_it_was = replace(before.alignment, edges=trial.alignment.edges)
    explained = [pair_fits(photos, one).explained for one in (as_it_was, trial.alignment)]
    return trial if explained[1] > explained[0] else before


def _with_finer_features(
    inputs: Inputs,
    before: _Aligned,
    ties: set[Pair],
    aligned: _Align,
    finer: _Finer,
    advance: Advance,
) -> _Aligned:
    """Return what pairs that were matched again at twice the size lead to, the ``ties`` and those
    of photos that few matches hold, unless fewer photos are placed with them.
    """
    evidence, alignment = before.evidence, before.alignment
    loose = photos_with_few_matches(alignment)
    second = _matched_again(inputs, before, (loose, ties), finer, advance)
    if not second.changed:
        return before
    # A whole group of photos that a weak pair has put elsewhere is not led back.
    start = None if ties else _without_poses(alignment, loose)
    trial = aligned(second.features, replace(evidence, edges=second.edges), start)
    return trial if trial.alignment.placed.sum() >= alignment.placed.sum() else before


def _of_one_place(inputs: Inputs, found: _Aligned, aligned: _Align) -> _Aligned:
    """Return the scene parted from photos that have no business in it, one group at a time."""
    for _ in range(_DIVISIONS):
        group, bends = _of_another_place(inputs, found.alignment)
        if group is None:
            break
        start = None if bends else _without_poses(found.alignment, np.flatnonzero(group))
        found = aligned(found.features, found.evidence.apart(group), start)
    return found


def _tell_unplaced(photos: Sequence[Photo], alignment: Alignment) -> None:
    """Warn of photos without a place, of many for one reason in one line."""
    unplaced = (
        (photo.name, reason)
        for photo, reason in zip(photos, alignment.reasons, strict=True)
        if reason is not None
    )
    for names, reason in told_together(unplaced):
        if len(names) == 1:
            logger.warning("%s could not be placed: %s", names[0], reason)
        else:
            logger.warning(
                "%d photos could not be placed (%s): %s", len(names), some_of(names), reason
            )


def _focals_px(inputs: Inputs, alignment: Alignment) -> list[float]:
    """Return the photos' focal lengths as they are known or were found, in original pixels."""
    return [
        float(K[0, 0]) if focal is None else focal
        for K, focal in zip(alignment.intrinsics, inputs.known.focals_px, strict=True)
    ]


def _of_another_place(inputs: Inputs, alignment: Alignment) -> tuple[Mask | None, bool]:
    """Return which photos (N,) have no business in the scene, and say why; None without any. The
    second value tells whether they bend the scene, which is then to be aligned from the start.
    """
    photos = inputs.photos
    # Pictures are as lenses that are known bend them.
    compared = compare_pictures(photos, inputs.known.restored(alignment))
    group = contradicting_group(photos, alignment, compared)
    if group is not None:
        logger.warning(
            "%d photos, %s among them, match others, but show something else around what matches: "
            "two places that look alike, which are taken apart",
            group.sum(),
            photos[int(np.argmax(group))].name,
        )
        return group, True
    group = hanging_group(alignment)
    if group is not None:
        logger.warning(
            "%d photos, %s among them, are joined to the others by single pairs of photos, which "
            "is too little to say where they stand: they are taken for another place",
            group.sum(),
            photos[int(np.argmax(group))].name,
        )
    return group, False


def _without_poses(alignment: Alignment, photos: NDArray[np.int64]) -> Alignment:
    """Return the alignment as if ``photos`` had no place: one that few matches gave may be wrong,
    and better matches would not lead out of it.
    """
    poses = list(alignment.cam_to_world)
    for photo in photos.tolist():
        poses[photo] = None
    return replace(alignment, cam_to_world=tuple(poses))


def _matched_again(
    inputs: Inputs,
    before: _Aligned,
    weak: tuple[NDArray[np.int64], set[Pair]],
    finer: _Finer,
    advance: Advance,
) -> MatchedAgain:
    """Return features and edges after the ``weak`` ones, loose photos and ties of groups of photos,
    are matched again at twice the size.
    """
    photos, known = inputs.photos, inputs.known
    features, evidence, (loose, ties) = before.features, before.evidence, weak
    firm = firm_pairs(before.alignment)
    chosen = pairs_to_match_again(loose, evidence.matches, len(photos), firm=firm, ties=ties)
    involved = {k for m in chosen for k in (m.i, m.j)}
    looked_at: set[int] = set()

    @functools.lru_cache(_KEPT)
    def looked_at_again(photo: int) -> PhotoFeatures:
        looked_at.add(photo)
        advance(len(looked_at), len(involved))
        return known.ideal(photo, finer(photos[photo]))

    focals = _focals_px(inputs, before.alignment)
    found = match_again(photos, features, looked_at_again, chosen, evidence.edges, focals)
    return replace(found, edges=without_lone_bridges(evidence.edges, found.edges, len(photos)))
