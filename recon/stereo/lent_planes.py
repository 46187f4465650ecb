"""Planes that regions take over from other photos, in which the same surface has one.

Whether photos agree on the plane of a region hangs on what each happens to see: its outline, its
rim, who else looks. Of a wall in ten photos some get its plane and some don't, each a little
another. So a plane that one has is tried where others see the same surface as a region without,
and planes of one surface are averaged.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array
from recon.stereo.agreed_regions import Judge
from recon.stereo.plain_region import Region, RegionPhoto
from recon.stereo.plane_frames import in_photo, in_world, places_in
from recon.stereo.region_planes import RegionPlanes

_PIXELS = 250
"""Pixels of a region that are looked up in other photos."""
_SAME, _BEHIND = 0.02, 0.03
"""Depths that differ relatively by less are of one plane, and what is so much farther is behind."""
_LEAST, _LOOKED_PAST = 0.02, 0.2
"""Share of a region that others have on a plane at least, and past how much of that they may look.
"""
_SEVERAL, _MOST = 2, 0.5
"""Where so many others look past more than this share of a region's plane, and none has it there,
it was agreed on wrongly (a door was taken for the table before it) and gives way to theirs."""
_DEARER, _WHOLLY = 0.2, 0.5
"""A plane may cost so much more than the best of a region (an image in it, on which its colours
match better), less where others have less than so much of the region on it."""
_ONE_SURFACE, _SHARED = 0.03, 0.05
"""Planes that differ relatively by less on a region are averaged, if another photo has so much of
it on its own."""


def lent_planes(
    own: Judge, agreed: RegionPlanes, others: Sequence[tuple[RegionPhoto, RegionPlanes]]
) -> RegionPlanes:
    """Return the planes ``agreed`` of ``own`` regions, and for those without one, or past whose
    several ``others`` look, that of others which most of the region is on; all averaged with those
    of others on the same surface.
    """
    tried = np.concatenate([
        np.zeros((0, 3)),
        *(in_photo(in_world(its.planes[its.have_plane], other.photo), own.photo)
          for other, its in others),
    ])  # fmt: skip
    planes = agreed.planes.copy()
    for number, region in own.regions.items():
        possible = tried[region.allows(tried)]
        its = planes[number - 1]
        if not len(possible) or (its.any() and not _is_contradicted(own, region, its, others)):
            continue
        on, past = _looked_at(own, region, possible, others)
        allowed = own.candidates.least[number - 1] + _DEARER * np.minimum(on / _WHOLLY, 1)
        good = (on > _LEAST) & (past < _LOOKED_PAST * on) & (region.costs(possible) < allowed)
        for n in np.argsort(past - on, kind="stable"):
            if good[n] and region.is_plausible(possible[n]):
                planes[number - 1] = possible[n]
                break
    for number, region in own.regions.items():
        if planes[number - 1].any():
            planes[number - 1] = _averaged(own, region, planes[number - 1], others)
    return RegionPlanes(agreed.labels, planes)


def _is_contradicted(
    own: Judge, region: Region, plane: Array, others: Sequence[tuple[RegionPhoto, RegionPlanes]]
) -> bool:
    """Return whether several others look past most of a region's ``plane`` (3,)."""
    on, past = _numbers_of_others(own, region, plane[None], others)
    return bool(((past >= _SEVERAL) & (on == 0)).mean() > _MOST)


def _looked_at(
    own: Judge,
    region: Region,
    planes: Array,
    others: Sequence[tuple[RegionPhoto, RegionPlanes]],
) -> tuple[Array, Array]:
    """Return the share of a region that others have on ``planes`` (C, 3), and past which they look
    without any having it there: (C,) each.
    """
    on, past = _numbers_of_others(own, region, planes, others)
    return (on > 0).mean(axis=1), ((past > 0) & (on == 0)).mean(axis=1)


def _numbers_of_others(
    own: Judge,
    region: Region,
    planes: Array,
    others: Sequence[tuple[RegionPhoto, RegionPlanes]],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return how many others have a few pixels of a region on ``planes`` (C, 3), and how many look
    past them: (C, N) each.
    """
    few = region.pixels.some(_PIXELS)
    inverse = planes @ few.at.T
    on, past = (np.zeros(inverse.shape, np.int64) for _ in range(2))
    for other, its in others:
        seen = places_in(other.photo, own.photo, few, inverse)
        planes_there = np.concatenate([np.zeros((1, 3)), its.planes])[its.labels[seen.place]]
        row, column = seen.place
        flat = (planes_there * np.stack([np.ones(row.shape), column, row], axis=-1)).sum(axis=-1)
        on += np.abs(seen.over(flat) - 1) < _SAME
        there = seen.over(np.where(flat > 0, flat, other.known[seen.place]))
        past += (there > 0) & (there < 1 - _BEHIND)
    return on, past


def _averaged(
    own: Judge, region: Region, plane: Array, others: Sequence[tuple[RegionPhoto, RegionPlanes]]
) -> Array:
    """Return the mean of a region's ``plane`` (3,) and those that others have there, weighted by
    the share of the region that each sees on it.
    """
    few = region.pixels.some(_PIXELS)
    inverse = few.at @ plane
    total, weight = plane, 1.0
    for other, its in others:
        seen = places_in(other.photo, own.photo, few, inverse[None])
        label = np.where(seen.inside, its.labels[seen.place], 0)
        shares = np.bincount(label.ravel(), minlength=len(its.planes) + 1)[1:] / label.size
        used = its.have_plane & (shares >= _SHARED)
        its_planes = in_photo(in_world(its.planes[used], other.photo), own.photo)
        for its_plane, share in zip(its_planes, shares[used], strict=True):
            if np.median(np.abs(few.at @ its_plane / inverse - 1)) < _ONE_SURFACE:
                total, weight = total + share * its_plane, weight + share
    return np.asarray(total / weight)
