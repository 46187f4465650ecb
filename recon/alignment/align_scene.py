"""Align the photos, match those that few features hold again, align once more."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from recon.alignment.align import align
from recon.alignment.refinement import AlignOptions
from recon.progress import Advance, unheard
from recon.stage_results import Alignment, PairEvidence, PhotoFeatures
from recon.two_view.magnified_matching import (
    MatchedAgain,
    magnified_features,
    match_again,
    pairs_to_match_again,
    photos_with_few_matches,
)

if TYPE_CHECKING:
    from recon.inputs import Inputs

logger = logging.getLogger(__name__)


def align_scene(
    inputs: Inputs,
    features: Sequence[PhotoFeatures],
    evidence: PairEvidence,
    options: AlignOptions,
    *,
    seed: int = 0,
    advance: Advance = unheard,
) -> Alignment:
    """Return the cameras of all photos in original pixels, known lenses as they were given.

    Photos that few features hold are matched again at twice the size. What that gives is taken
    unless fewer photos are placed with it. A photo without a place is warned of.
    """

    def aligned(features: Sequence[PhotoFeatures], evidence: PairEvidence) -> Alignment:
        found = align(
            inputs.photos,
            evidence,
            options,
            seed=seed,
            features=features,
            known_cam_to_world=inputs.known.cam_to_world,
        )
        return inputs.known.restored(found)

    alignment = aligned(features, evidence)
    second = _matched_again(inputs, features, evidence, alignment, advance)
    if second.changed:
        trial = aligned(second.features, replace(evidence, edges=second.edges))
        if _placed(trial) >= _placed(alignment):
            alignment = trial
    for photo, reason in zip(inputs.photos, alignment.reasons, strict=True):
        if reason is not None:
            logger.warning("%s could not be placed: %s", photo.name, reason)
    return alignment


def _placed(alignment: Alignment) -> int:
    return sum(pose is not None for pose in alignment.cam_to_world)


def _matched_again(
    inputs: Inputs,
    features: Sequence[PhotoFeatures],
    evidence: PairEvidence,
    alignment: Alignment,
    advance: Advance,
) -> MatchedAgain:
    """Return features and edges after photos that few hold are matched again at twice the size."""
    photos, known = inputs.photos, inputs.known
    chosen = pairs_to_match_again(photos_with_few_matches(alignment), evidence.matches, len(photos))
    involved = sorted({k for m in chosen for k in (m.i, m.j)})
    finer = {}
    for number, k in enumerate(involved):
        finer[k] = known.ideal(k, magnified_features(photos[k]))
        advance(number + 1, len(involved))
    focals = [
        float(K[0, 0]) if focal is None else focal
        for K, focal in zip(alignment.intrinsics, known.focals_px, strict=True)
    ]
    return match_again(photos, features, finer, chosen, evidence.edges, focals)
