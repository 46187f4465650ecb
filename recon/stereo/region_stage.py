"""The planes of the plain regions of all photos, one step after the other, each result kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recon.stage_results import DepthMap
from recon.stereo.agreed_regions import Judge, agreed_regions
from recon.stereo.flat_places import FlatParts, flat_parts
from recon.stereo.lent_planes import lent_planes
from recon.stereo.like_neighbours import with_planes_beside, without_images
from recon.stereo.photo import Photo2D
from recon.stereo.plain_region import RegionPhoto
from recon.stereo.plain_regions import spread_regions
from recon.stereo.region_planes import Candidates, RegionPlanes, region_candidates, regions_of
from recon.work.content_key import content_key

# Of the planes, for results that were kept.
_VERSION = 6
# By this factor a plane may differ from the prior where a region is spread.
_FAR_OFF = 1.4
# Photos whose regions a process holds, by the names of their candidates: each judges planes of
# about eight others.
_MOST_JUDGES = 12
_judges: dict[str, Judge] = {}
_lock = Lock()


class RegionKeys(NamedTuple):
    """Names of what is flat in photos, of the planes that regions may be on, of those that photos
    agree on, and of these with what photos lend each other.
    """

    flat: list[str]
    found: list[str]
    agreed: list[str]
    lent: list[str]


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
        seen = [
            (self.names[i], depth[i], [(self.names[j], depth.get(j)) for j in self.sources[i]])
            for i in self.searched
        ]

        def with_around(what: str, keys: Sequence[str]) -> list[str]:
            return [
                content_key(what, _VERSION, seen[n], keys[n], [(keys[m], seen[m]) for m in near])
                for n, near in enumerate(self.around)
            ]

        flat = [content_key("flat parts", _VERSION, self.names[i], depth[i]) for i in self.searched]
        found = with_around("regions", flat)
        agreed = with_around("agreed regions", found)
        return RegionKeys(flat, found, agreed, with_around("lent regions", agreed))

    def planes(self, keys: RegionKeys, checked: Sequence[DepthMap]) -> Sequence[RegionPlanes]:
        """Return the planes that photos agree on, found by depth ``checked`` of the searched ones
        unless they are there; none without ``keys``.
        """
        known = self.found(keys.lent)
        if known is not None:
            return known
        searched = self.searched
        place = {i: n for n, i in enumerate(searched)}

        def region_photo(i: int) -> RegionPhoto:
            known = np.zeros(tuple(self.photo(i).grey.shape), np.float32)
            if i in place:
                known = _known_inverse(checked[place[i]])
            return RegionPhoto(self.photo(i), self.colours(i), known)

        def sources(n: int) -> list[RegionPhoto]:
            return [region_photo(j) for j in self.sources[searched[n]]]

        def flatten(n: int) -> FlatParts:
            own = region_photo(searched[n])
            return flat_parts(own.photo, own.known, checked[n].confidence)

        def find(n: int) -> Candidates:
            i = searched[n]
            around = [flat[m] for m in (n, *self.around[n])]
            return region_candidates(
                region_photo(i), checked[n].confidence, self.prior(i), sources(n), around
            )

        def judge(n: int) -> Judge:
            own, candidates = region_photo(searched[n]), found[n]
            given = self.prior(searched[n]), sources(n)
            regions = regions_of(candidates.labels, own, *given) if given[1] else {}
            return Judge(own.photo, regions, candidates, own.known)

        def agree(n: int) -> RegionPlanes:
            own, *others = (
                _kept_judge(keys.found[m], partial(judge, m)) for m in (n, *self.around[n])
            )
            planes = agreed_regions(own, others)
            return without_images(own, planes, self.colours(searched[n]))

        def lend(n: int) -> RegionPlanes:
            own = _kept_judge(keys.found[n], partial(judge, n))
            others = [(region_photo(searched[m]), agreed[m]) for m in self.around[n]]
            colours = self.colours(searched[n])
            lent = with_planes_beside(own, lent_planes(own, agreed[n], others), colours)
            labels = spread_regions(lent.labels, lent.have_plane, colours)
            spread = RegionPlanes(labels, lent.planes)
            # Beside a region stays what is known, and the prior where the plane runs off it.
            ratio = spread.inverse(*labels.shape) * self.prior(searched[n])
            stays = (own.known > 0) | (ratio < 1 / _FAR_OFF) | (ratio > _FAR_OFF)
            labels[stays & (lent.labels == 0)] = 0
            return spread

        flat = self.each(keys.flat, flatten, searched)
        found = self.each(keys.found, find, searched)
        agreed = self.each(keys.agreed, agree, searched)
        lent = self.each(keys.lent, lend, searched)
        _judges.clear()
        return lent


def _kept_judge(name: str, make: Callable[[], Judge]) -> Judge:
    """Return what ``make`` does, unless it was made lately under that ``name``."""
    judge = _judges.get(name)
    if judge is None:
        judge = make()
        with _lock:
            while len(_judges) >= _MOST_JUDGES:
                del _judges[next(iter(_judges))]
            _judges[name] = judge
    return judge


def _known_inverse(depth: DepthMap) -> NDArray[np.float32]:
    """Return inverse depth (h, w), 0 where it is not sure."""
    sure = depth.confidence > 0
    return np.where(sure, 1 / np.maximum(depth.depth, 1e-12), 0).astype(np.float32)
