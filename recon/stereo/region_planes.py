"""The plain regions of a photo, the planes that each may be on, and those that were chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pointmap.camera import Array
from recon.stereo.box_edges import with_faces_apart
from recon.stereo.flat_places import FlatParts, flat_directions, flat_places
from recon.stereo.piecewise_planes import find_planes
from recon.stereo.plain_region import Region, RegionPhoto, Sources
from recon.stereo.plain_regions import plain_regions, with_unknown_parts
from recon.stereo.plane_frames import in_photo, in_world

_MOSTLY_KNOWN = 0.85
"""A region of which so much is known needs no plane."""
_PLACE_SAY, _FULL_PLACE = 0.04, 0.005
"""By how much less a plane costs at most on which confirmed points lie as they don't beside it, and
the share of all points from which on it does."""
_MOST_CANDIDATES, _FEW_CANDIDATES, _WINDOW = 8, 2, 0.12
"""Planes of a plain region that are compared between photos, and of an unknown part, at most; and
by how much more than the best none of them costs."""
_CANDIDATE = 0.3
"""A flat place is tried where it is within this share of the prior."""


@dataclass(frozen=True)
class RegionPlanes:
    """The plain regions of a photo: ``labels`` (h, w), 0 = none, else the number in the list from
    1; ``planes`` (R, 3) of inverse depth a + b x + c y at column x and row y, all 0 where there is
    none.
    """

    labels: NDArray[np.int16]
    planes: Array

    @property
    def have_plane(self) -> NDArray[np.bool_]:
        """Which regions (R,) have a plane."""
        return np.asarray(self.planes.any(axis=1))

    def inverse(self, height: int, width: int) -> NDArray[np.float32]:
        """Return inverse depth (height, width) on the planes, 0 where there is none."""
        return self.on_planes(self.labels_at(height, width))

    def labels_at(self, height: int, width: int) -> NDArray[np.int16]:
        """Return the labels (height, width) of the photo at another size."""
        rows, columns = self.labels.shape
        x = (np.arange(width) + 0.5) * (columns / width)
        y = (np.arange(height) + 0.5) * (rows / height)
        return self.labels[y.astype(int)[:, None], x.astype(int)]

    def on_planes(self, labels: NDArray[np.int16]) -> NDArray[np.float32]:
        """Return inverse depth (h, w) on the planes of ``labels`` (h, w) at any size of the photo,
        0 where there is none.
        """
        (height, width), (rows, columns) = labels.shape, self.labels.shape
        x = (np.arange(width) + 0.5) * (columns / width)
        y = (np.arange(height) + 0.5) * (rows / height)
        a, b, c = np.concatenate([np.zeros((1, 3)), self.planes])[labels].transpose(2, 0, 1)
        return np.maximum(a + b * (x - 0.5) + c * (y[:, None] - 0.5), 0).astype(np.float32)


@dataclass(frozen=True)
class Candidates:
    """Planes that the plain regions of a photo may be on: ``labels`` (h, w), 0 = none, else the
    number of the region from 1; ``planes`` (C, 4) of the world, unit normals and offsets, and by
    how much ``less`` (C,) each costs for what lies on it; ``least`` (R,): cost of the cheapest of
    each region, infinite where there is none.
    """

    labels: NDArray[np.int16]
    planes: Array
    less: Array
    least: Array


def regions_of(
    labels: NDArray[np.int16],
    reference: RegionPhoto,
    prior: NDArray[np.float32],
    sources: Sequence[RegionPhoto],
) -> dict[int, Region]:
    """Return by number those regions of ``labels`` (h, w) that need a plane."""
    seen = Sources.of(reference.photo, sources)
    found = {}
    for number in range(1, int(labels.max()) + 1):
        its = labels == number
        if its.any() and (reference.known[its] > 0).mean() <= _MOSTLY_KNOWN:
            found[number] = Region.of(its, reference, prior, seen)
    return found


def region_candidates(
    reference: RegionPhoto,
    confidence: NDArray[np.float32],
    prior: NDArray[np.float32],
    sources: Sequence[RegionPhoto],
    around: Sequence[FlatParts],
) -> Candidates:
    """Return the planes that regions of ``reference`` may be on, as its ``sources`` see it.

    ``confidence`` (h, w): of what is known; ``prior`` (h, w): depth, 0 = unknown; ``around``: what
    is flat in it and in photos around it.
    """
    plain = plain_regions(reference.colours)
    plain = with_faces_apart(plain, reference.known, _MOSTLY_KNOWN)
    labels = with_unknown_parts(plain, reference.known > 0, reference.colours)
    labels[prior <= 0] = 0
    regions = regions_of(labels, reference, prior, sources) if sources else {}
    least = np.full(int(labels.max()), np.inf)
    planes, less = [np.zeros((0, 4))], [np.zeros(0)]
    if regions:
        photo = reference.photo
        directions = flat_directions(around)
        places, shares = flat_places(around, directions)
        seen = in_photo(places, photo)
        through_camera = np.column_stack([directions, directions @ _centre(reference) + 1])
        along = in_photo(through_camera, photo)
        elsewhere = find_planes(torch.from_numpy(reference.known), torch.from_numpy(confidence))
    for number, region in regions.items():
        near = region.pixels.off(seen) < _CANDIDATE
        # There are as many unknown parts as plain regions: they only try planes that are there.
        is_plain = number <= plain.max()
        own = region.candidates(elsewhere, along) if is_plain else region.planes_at_hand(elsewhere)
        tried = np.concatenate([seen[near], own])
        if not len(tried):
            continue
        its_less = np.zeros(len(tried))
        its_less[: near.sum()] = _PLACE_SAY * np.minimum(shares[near] / _FULL_PLACE, 1)
        costs = region.costs(tried) - its_less
        most = _MOST_CANDIDATES if is_plain else _FEW_CANDIDATES
        chosen = np.argsort(costs, kind="stable")[:most]
        chosen = chosen[costs[chosen] < costs.min() + _WINDOW]
        least[number - 1] = costs.min()
        planes.append(in_world(tried[chosen], photo))
        less.append(its_less[chosen])
    return Candidates(labels, np.concatenate(planes), np.concatenate(less), least)


def _centre(photo: RegionPhoto) -> Array:
    return np.asarray(photo.photo.cam_to_world.cpu().numpy()[:3, 3])
