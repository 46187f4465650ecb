"""Photos that matches tell to leave out: everything that is known of the others."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from recon.stage_results import PairMatches, PhotoFeatures
from recon.work.on_demand import Chosen

if TYPE_CHECKING:
    from recon.inputs import Inputs

Found = tuple["Inputs", Sequence[PhotoFeatures], list[PairMatches]]
"""Photos, their key points, and the matches of their pairs."""


def without_photos(
    inputs: Inputs,
    features: Sequence[PhotoFeatures],
    matches: Sequence[PairMatches],
    gone: Collection[int],
) -> Found:
    """Return what there is without the photos ``gone``, by number, and the others renumbered.

    Left in without matches, they would be matched again at twice the size, or placed by pointmaps.
    """
    if not gone:
        return inputs, features, list(matches)
    kept = [k for k in range(len(inputs.photos)) if k not in gone]
    place = {photo: k for k, photo in enumerate(kept)}
    renumbered = [
        replace(m, i=place[m.i], j=place[m.j]) for m in matches if m.i in place and m.j in place
    ]
    return inputs.of_photos(kept), Chosen(features, kept), renumbered
