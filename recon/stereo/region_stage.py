"""The planes of the plain regions of all photos, one step after the other, each result kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array
from recon.stage_results import DepthMap
from recon.stereo.agreed_regions import agreed_regions
from recon.stereo.photo import Photo2D
from recon.stereo.region_planes import (
    RegionPhoto,
    RegionPlanes,
    region_planes,
    seen_by,
    shared_planes,
)
from recon.work.content_key import content_key

# Of the planes, for results that were kept.
_VERSION = 1


class RegionKeys(NamedTuple):
    """Names of the planes of regions, of those that photos agree on, of these with some that were
    found elsewhere, and of all that photos agree on then.
    """

    found: list[str]
    sure: list[str]
    shared: list[str]
    agreed: list[str]


NO_REGIONS = RegionKeys([], [], [], [])


@dataclass(frozen=True)
class RegionStage:
    """``names`` of all photos; which were ``searched``; the ``sources`` of each photo, by number;
    and the photos ``around`` each searched one, by their place among those. ``photo``, ``colours``
    and ``prior`` depth give a photo's, by number, at one size; ``each(keys, make, photos)`` makes
    and keeps results, ``found(keys)`` returns those that are all there.
    """

    names: Sequence[str]
    searched: Sequence[int]
    sources: Sequence[Sequence[int]]
    around: Sequence[Sequence[int]]
    photo: Callable[[int], Photo2D]
    colours: Callable[[int], NDArray[np.float32]]
    prior: Callable[[int], NDArray[np.float32]]
    each: Callable[..., Sequence[Any]]
    found: Callable[[Sequence[str]], Sequence[Any] | None]

    def keys(self, checked: Sequence[str]) -> RegionKeys:
        """Return the names of results, by those of the depth ``checked`` of the searched photos."""
        depth = dict(zip(self.searched, checked, strict=True))
        found = [
            content_key(
                "regions",
                _VERSION,
                self.names[i],
                depth[i],
                [(self.names[j], depth.get(j)) for j in self.sources[i]],
            )
            for i in self.searched
        ]

        def asked(what: str, keys: Sequence[str]) -> list[str]:
            return [
                content_key(what, _VERSION, keys[n], [(keys[m], checked[m]) for m in near])
                for n, near in enumerate(self.around)
            ]

        sure = asked("sure regions", found)
        shared = asked("shared planes", sure)
        return RegionKeys(found, sure, shared, asked("agreed regions", shared))

    def agreed(self, keys: RegionKeys, checked: Sequence[DepthMap]) -> Sequence[RegionPlanes]:
        """Return the planes that photos agree on, found by depth ``checked`` of the searched ones
        unless they are there; none without ``keys``.
        """
        known = self.found(keys.agreed)
        if known is not None:
            return known
        searched = self.searched
        place = {i: n for n, i in enumerate(searched)}

        def region_photo(i: int) -> RegionPhoto:
            known = np.zeros(tuple(self.photo(i).grey.shape), np.float32)
            if i in place:
                known = _known_inverse(checked[place[i]])
            return RegionPhoto(self.photo(i), self.colours(i), known)

        def find(n: int) -> RegionPlanes:
            i = searched[n]
            sources = [region_photo(j) for j in self.sources[i]]
            return region_planes(region_photo(i), checked[n].confidence, self.prior(i), sources)

        def agree(regions: Sequence[RegionPlanes], n: int) -> RegionPlanes:
            others = [
                (regions[m], self.photo(searched[m]), _known_inverse(checked[m]))
                for m in self.around[n]
            ]
            return agreed_regions(regions[n], self.photo(searched[n]), others)

        def share(n: int) -> RegionPlanes:
            i = searched[n]
            sources = [region_photo(j) for j in self.sources[i]]
            planes = [
                seen_by(_planes_of(sure[m]), self.photo(searched[m]), self.photo(i))
                for m in (n, *self.around[n])
            ]
            return shared_planes(
                region_photo(i), self.prior(i), sources, found[n], sure[n], np.concatenate(planes)
            )

        found = self.each(keys.found, find, searched)
        sure = self.each(keys.sure, lambda n: agree(found, n), searched)
        shared = self.each(keys.shared, share, searched)
        return self.each(keys.agreed, lambda n: agree(shared, n), searched)


def _planes_of(regions: RegionPlanes) -> Array:
    """Return the planes (K, 3) that regions have."""
    return regions.planes[regions.planes.any(axis=1)]


def _known_inverse(depth: DepthMap) -> NDArray[np.float32]:
    """Return inverse depth (h, w), 0 where it is not sure."""
    sure = depth.confidence > 0
    return np.where(sure, 1 / np.maximum(depth.depth, 1e-12), 0).astype(np.float32)
