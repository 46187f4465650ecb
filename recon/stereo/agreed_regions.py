"""Which planes of plain regions photos agree on.

One photo seldom tells which of several planes a plain region is on: all cost about the same. Of the
right one other photos say so of the regions that they see there; each wrong one is another in every
photo. So a plane is taken by how much dearer than its best each photo finds it (the sum over photos
decides, not a vote of each one's choice).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array
from recon.stereo.known_pixels import Pixels
from recon.stereo.photo import Photo2D
from recon.stereo.plain_region import Region
from recon.stereo.plane_frames import in_photo, in_world, places_in
from recon.stereo.region_planes import Candidates, RegionPlanes

_WINDOW, _DEAREST = 0.12, 0.15
"""A plane is tried that costs less than the first more than the best of a region; and what one
photo has to say against a plane at most."""
_PIXELS, _LEAST_SHARE = 250, 0.05
"""Pixels of a region that are looked up in other photos, and the share of them from which on a
region there has a say."""
_CORNERS, _ALIKE = 24, 0.006
"""Planes that differ relatively by less at so many pixels of a region are one."""
_SAME = 0.03
"""Depths that differ relatively by less are one surface."""
_WITNESSES, _MORE_WITNESSES = 0.6, 2.0
"""So much has to be known of a plane that is taken: 1 is one other photo that sees regions, or
knows depth, all over it."""
_AGREED, _UNRIVALLED = 0.05, 0.08
"""A plane is taken that is dearer by less than this, on average; or than the second, where no other
is nearly as cheap and so much more is known of it."""
_OTHER, _BETTER, _FAR_BETTER = 0.03, 0.01, 0.04
"""A plane that is relatively so far off the chosen one is another, and has to be so much dearer;
or, not to be nearly as cheap, so much."""

_MOVED, _SHARP, _TOLD = 0.03, 0.01, 3.5
"""Photos have so much more to say against a plane that is taken when it moves relatively so much;
else all may have followed their priors. Where no confirmed points lie on it elsewhere and few see
it, so many times more than they have against it as it is: a region that is two faces in truth fits
no plane."""


@dataclass(frozen=True)
class Judge:
    """A photo that judges planes: its ``regions`` by their number, the ``candidates`` for them, and
    what is ``known`` (h, w) of its inverse depth, 0 = unknown.
    """

    photo: Photo2D
    regions: dict[int, Region]
    candidates: Candidates
    known: NDArray[np.float32]


def agreed_regions(own: Judge, others: Sequence[Judge]) -> RegionPlanes:
    """Return the planes of ``own`` regions on which ``others`` agree, of candidates of all."""
    every = [own.candidates, *(other.candidates for other in others)]
    planes = np.concatenate([candidates.planes for candidates in every])
    less = np.concatenate([candidates.less for candidates in every])
    found = np.zeros((len(own.candidates.least), 3))
    seen = in_photo(planes, own.photo)
    for number, region in own.regions.items():
        few = region.pixels.some(_PIXELS)
        possible = _different(np.flatnonzero(region.allows(seen)), seen, less, few)
        if not len(possible):
            continue
        dearer = region.costs(seen[possible]) - less[possible]
        dearer -= min(dearer.min(), own.candidates.least[number - 1])
        possible, dearer = possible[dearer < _WINDOW], dearer[dearer < _WINDOW]
        plausible = np.array([region.is_plausible(plane) for plane in seen[possible]], bool)
        possible, dearer = possible[plausible], dearer[plausible]
        if not len(possible):
            continue
        weight = np.ones(len(possible))
        for other in others:
            its_dearer, its_weight = _says(
                other, own.photo, few, seen[possible], planes[possible], less[possible]
            )
            dearer, weight = dearer + its_dearer, weight + its_weight
        mean = dearer / weight
        best = int(mean.argmin())
        ratio = np.median(few.at @ seen[possible].T / (few.at @ seen[possible[best]])[:, None], 0)
        rest = mean[np.abs(ratio - 1) > _OTHER]
        margin = rest.min() - mean[best] if len(rest) else np.inf
        unrivalled = margin > _FAR_BETTER and weight[best] >= 1 + _MORE_WITNESSES
        allowed = _UNRIVALLED if unrivalled else _AGREED
        if margin < _BETTER or mean[best] > allowed or weight[best] < 1 + _WITNESSES:
            continue
        plane = seen[possible[best]]
        borne_out = less[possible[best]] > 0 or weight[best] >= 1 + _MORE_WITNESSES
        least = _SHARP if borne_out else max(_SHARP, _TOLD * mean[best])
        if _sharpness(own, region, few, plane, others) > least:
            found[number - 1] = plane
    return RegionPlanes(own.candidates.labels, found)


def _different(possible: NDArray[np.int64], planes: Array, less: Array, pixels: Pixels) -> Array:
    """Return those of the ``possible`` planes that differ anywhere on a region, of like ones the
    one that costs ``less`` for what lies on it.
    """
    order = possible[np.argsort(-less[possible], kind="stable")]
    inverse = planes[order] @ pixels.some(_CORNERS).at.T
    kept: list[int] = []
    for n in range(len(order)):
        if not kept or (np.abs(inverse[kept] / inverse[n] - 1).max(axis=1) > _ALIKE).all():
            kept.append(n)
    return np.asarray(order[kept])


def _sharpness(
    own: Judge, region: Region, few: Pixels, plane: Array, others: Sequence[Judge]
) -> float:
    """Return by how much more photos have to say against a plane (3,) of an ``own`` region when it
    moves or tilts a little, the worse way of the two; the least of these. The prior has no say.
    """
    planes = region.changed(
        plane, np.concatenate([np.zeros((1, 3)), _MOVED * np.eye(3), -_MOVED * np.eye(3)])
    )
    against, weight = region.evidence(planes), 1.0
    in_space = in_world(planes, own.photo)
    for other in others:
        label, _, past = _looked_up(other, own.photo, few, planes)
        seen = in_photo(in_space, other.photo)
        against, weight = against + _DEAREST * past, weight + past[0]
        for number, its in other.regions.items():
            share = float((label[0] == number).mean())
            if share >= _LEAST_SHARE:
                against, weight = against + share * its.evidence(seen), weight + share
    worse = np.maximum(against[1:4], against[4:]) - against[0]
    return float(worse.min() / weight)


def _looked_up(
    other: Judge, photo: Photo2D, few: Pixels, planes: Array
) -> tuple[NDArray[np.int16], Array, Array]:
    """Return the other photo's regions (C, N) where planes (C, 3) of ``photo`` have a ``few``
    pixels, 0 where it sees none; and of which share (C,) of these it knows depth on the plane, and
    beyond it, outside regions.
    """
    seen = places_in(other.photo, photo, few, planes @ few.at.T)
    there = seen.over(other.known[seen.place])
    # What is known nearer hides the plane.
    label = np.where(seen.inside & (there < 1 + _SAME), other.candidates.labels[seen.place], 0)
    outside = (label == 0) & (there > 0)
    on = (outside & (np.abs(there - 1) < _SAME)).mean(axis=1)
    past = (outside & (there <= 1 - _SAME)).mean(axis=1)
    return label, on, past


def _says(
    other: Judge, photo: Photo2D, few: Pixels, planes: Array, in_space: Array, less: Array
) -> tuple[Array, Array]:
    """Return how much dearer (C,) than its best the other photo finds planes (C, 3) of ``photo``,
    ``in_space`` (C, 4), at a ``few`` pixels, weighted by the share (C,) of these that it tells.
    """
    label, on, past = _looked_up(other, photo, few, planes)
    dearer, weight = _DEAREST * past, past + on
    seen = in_photo(in_space, other.photo)
    for number, region in other.regions.items():
        share = (label == number).mean(axis=1)
        asked = np.flatnonzero(share >= _LEAST_SHARE)
        if not len(asked):
            continue
        its = np.full(len(asked), _DEAREST)
        allowed = region.allows(seen[asked])
        costs = region.costs(seen[asked[allowed]]) - less[asked[allowed]]
        least = min(costs.min(initial=np.inf), other.candidates.least[number - 1])
        its[allowed] = (costs - least).clip(0, _DEAREST)
        dearer[asked] += share[asked] * its
        weight[asked] += share[asked]
    return dearer, weight
