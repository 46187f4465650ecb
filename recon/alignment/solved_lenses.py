"""The lenses that the photos show: shared ones as rich as asked for, or each photo's own centre."""

from __future__ import annotations

from collections.abc import Sequence

from pointmap.images import Photo
from recon.alignment.cut_out import as_cut_out
from recon.alignment.lens_choice import with_chosen_lenses
from recon.alignment.principal_points import with_principal_points
from recon.alignment.refinement import AlignOptions
from recon.stage_results import Alignment, PairEvidence, PhotoFeatures


def solved_lenses(
    photos: Sequence[Photo],
    evidence: PairEvidence,
    alignment: Alignment,
    options: AlignOptions,
    *,
    cut_out: bool = True,
    features: Sequence[PhotoFeatures] | None = None,
    seed: int = 0,
) -> Alignment:
    """Return the alignment with the lenses that its matches tell.

    ``cut_out``: photos may have been cut out of larger ones, each elsewhere. ``features``,
    ``seed``: as in :func:`recon.alignment.align.align`.
    """
    usual = with_principal_points(photos, alignment, evidence.focals)
    chosen = with_chosen_lenses(photos, evidence, usual, options, features=features, seed=seed)
    if not cut_out:
        return chosen
    own = as_cut_out(photos, evidence, alignment, chosen, options, features=features, seed=seed)
    return own or chosen
