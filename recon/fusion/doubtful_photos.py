"""What photos in doubt show is left to the others, where these show it.

In a scene that is sound a photo may stand a little aside, and be told as in doubt. Its colours then
smear those that others see right, and its depth votes against theirs. But mostly such a photo is
right; so what it alone shows is kept.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from recon.fusion.frames import UsableDepth, unpacked
from recon.fusion.passing_things import StandingMaps
from recon.fusion.witnesses import is_shown


def only_by_themselves(
    depths: Sequence[UsableDepth], others: Sequence[Sequence[int]], in_doubt: Collection[str]
) -> list[UsableDepth]:
    """Return the depths, those of photos ``in_doubt`` (names) without what others show, too, of
    views whose pixels are not usable there. ``others``: numbers of those that each is compared
    with.
    """

    def alone(number: int) -> UsableDepth:
        depth = depths[number]
        sound = [depths[n] for n in others[number] if depths[n].view.name not in in_doubt]
        known = depth.known
        if not sound or not known.any():
            return depth
        shown = np.zeros(known.shape, bool)
        points = depth.points(known)
        shown[known] = np.any([is_shown(other, depth, points) for other in sound], axis=0)
        maps, hidden = depth.view.maps, shown
        if isinstance(maps, StandingMaps):
            hidden = shown | unpacked(maps.passing, known.shape)
            maps = maps.maps
        view = replace(depth.view, maps=StandingMaps(maps, np.packbits(hidden), known.shape))
        left = replace(depth, padded=depth.padded.copy(), view=view)
        left.rounded[shown] = 0
        return left

    return [
        alone(number) if depth.view.name in in_doubt else depth
        for number, depth in enumerate(depths)
    ]
