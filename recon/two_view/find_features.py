"""Key points of all photos, kept in the work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recon.progress import Advance, unheard
from recon.stage_results import PhotoFeatures
from recon.two_view.features import FEATURE_LONG_SIDE, FEATURES, extract_features
from recon.work.content_key import content_key
from recon.work.folder import Pieces
from recon.work.pieces import Needs

if TYPE_CHECKING:
    from recon.inputs import Inputs

# For results that were kept.
_VERSION = 5
_NEEDS = Needs("Finding features", memory_mb=1000)


def find_features(
    inputs: Inputs,
    *,
    limit: int = FEATURES,
    long_side: int = FEATURE_LONG_SIDE,
    advance: Advance = unheard,
) -> Pieces[PhotoFeatures]:
    """Return the key points of every photo, ``limit`` at most, where a known lens is as its ideal
    pinhole shows them. Photos are looked at with their long side at most ``long_side`` pixels.

    Photos are decoded as they come and not kept: this is the largest size at which they are seen.
    """

    def find(number: int) -> PhotoFeatures:
        found = extract_features(inputs.load(number, long_side=long_side), limit=limit)
        return inputs.known.ideal(number, found)

    keys = [
        content_key("features", _VERSION, photo, lens, limit, long_side)
        for photo, lens in zip(inputs.photo_keys, inputs.known.lenses, strict=True)
    ]
    return inputs.work.each(
        keys,
        find,
        at_once=None,
        needs=_NEEDS,
        photos=lambda number: [str(inputs.photos[number].path)],
        advance=advance,
    )
