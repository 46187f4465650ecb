"""Align the photos, match loose ones again, align once more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pointmap.images import Photo
from recon.known_cameras import KnownCameras
from recon.options import Options
from recon.progress import Advance
from recon.stage_results import Alignment, PairEvidence, PhotoFeatures


def align_pairs(
    photos: Sequence[Photo],
    features: Sequence[PhotoFeatures],
    pairs: PairEvidence,
    known: KnownCameras,
    options: Options,
) -> Alignment:
    """Return the cameras that the pairs' evidence gives, known lenses as they were."""
    from recon.alignment import align

    alignment = align(
        photos,
        pairs.edges,
        pairs.priors,
        pairs.focals.focals_px,
        focal_log_sigma=pairs.focals.log_sigma,
        focal_groups=pairs.focals.groups,
        options=options.align,
        seed=options.seed,
        features=features,
        sketches=pairs.sketches,
        known_cam_to_world=known.cam_to_world,
    )
    return known.restored(alignment)


def rematch_loose_photos(
    photos: Sequence[Photo],
    features: Sequence[PhotoFeatures],
    pairs: PairEvidence,
    alignment: Alignment,
    known: KnownCameras,
    options: Options,
    advance: Advance,
) -> tuple[PairEvidence, Alignment]:
    """Return the evidence and the alignment after a finer look at photos that few features hold.

    They are those of before where the second look places fewer photos or finds nothing.
    """
    from recon.two_view.magnified_matching import (
        finer_features,
        look_again,
        loose_photos,
        pairs_to_look_at,
    )

    chosen = pairs_to_look_at(loose_photos(alignment), pairs.matches, len(photos))
    involved = sorted({k for m in chosen for k in (m.i, m.j)})
    finer = {}
    for number, k in enumerate(involved):
        finer[k] = known.ideal(k, finer_features(photos[k]))
        advance(number + 1, len(involved))
    focals = [
        float(K[0, 0]) if focal is None else focal
        for K, focal in zip(alignment.intrinsics, known.focals_px, strict=True)
    ]
    second = look_again(photos, features, finer, chosen, pairs.edges, focals)
    if not second.changed:
        return pairs, alignment
    evidence = replace(pairs, edges=second.edges)
    trial = align_pairs(photos, second.features, evidence, known, options)
    placed = [sum(pose is not None for pose in a.cam_to_world) for a in (alignment, trial)]
    return (evidence, trial) if placed[1] >= placed[0] else (pairs, alignment)
