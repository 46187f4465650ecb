"""Plain regions beside others of the same colour: the doors of a front, parts of one wall.

Where two such regions meet, depth hardly jumps: the nearer one would be seen by its outline, as
another colour. So a region of which photos don't agree on a plane is tried on that of such a
neighbour. And a glossy door shows the floor before it, faintly: that image lies behind the door,
and it is there for all photos, which agree on it and better than on the plain door. But it is seen
only within the door's outline, and jumps to the doors beside it. What photos see in a mirror tells
nothing about the mirror; its rim does.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array
from recon.stereo.agreed_regions import Judge
from recon.stereo.plain_region import Region
from recon.stereo.region_planes import RegionPlanes

_NEARBY, _ALIKE = 0.04, 16.0
"""Regions are beside each other up to this distance, a share of the photo's longer side, and alike
if their colours differ by less than so many grey levels in each channel."""
_JUMP = 0.1
"""Planes jump if one is relatively so far behind the other where their regions meet."""
_DEARER = 1.2
"""What a jump along all of a region's outline costs beside what photos, rim and prior say: a plane
without it may be so much dearer, times the share of the outline."""


def without_images(own: Judge, agreed: RegionPlanes, colours: NDArray[np.float32]) -> RegionPlanes:
    """Return the planes ``agreed`` of ``own`` regions, those of images in a front replaced by the
    front's; ``colours`` (h, w, 3) of the photo, blurred, in grey levels.
    """
    planes = agreed.planes.copy()
    for number, region in own.regions.items():
        its = agreed.planes[number - 1]
        if not its.any():
            continue
        for front, share, at in _alike_beside(agreed, colours, number):
            plane, other = agreed.planes[front - 1], own.regions.get(front)
            if other is None or np.median((at @ its) / (at @ plane)) > 1 - _JUMP:
                continue
            if _is_image(region, other, its, plane, share):
                planes[number - 1] = plane
                break
    return RegionPlanes(agreed.labels, planes)


def with_planes_beside(
    own: Judge, lent: RegionPlanes, colours: NDArray[np.float32]
) -> RegionPlanes:
    """Return the planes ``lent`` of ``own`` regions, and for those without one that of a region of
    like colour beside it; ``colours`` as above.
    """
    planes = lent.planes.copy()
    for number, region in own.regions.items():
        if planes[number - 1].any():
            continue
        for beside, share, _ in _alike_beside(lent, colours, number):
            plane = lent.planes[beside - 1]
            allowed = own.candidates.least[number - 1] + _DEARER * share
            if region.is_plausible(plane) and region.costs(plane[None])[0] < allowed:
                planes[number - 1] = plane
                break
    return RegionPlanes(lent.labels, planes)


def _is_image(region: Region, front: Region, its: Array, plane: Array, share: float) -> bool:
    """Return whether a region on the plane ``its`` (3,) is rather on that of the ``front`` beside
    ``share`` of its outline, of which it shows an image.
    """
    both = np.stack([its, plane])
    if np.median((region.pixels.at @ its) / (region.pixels.at @ plane)) > 1 - _JUMP:
        return False
    cost, front_cost = region.costs(both)
    behind, before = region.rim_costs(both) + front.rim_costs(both)
    return bool(
        before < behind and front_cost - cost < _DEARER * share and region.is_plausible(plane)
    )


def _alike_beside(
    agreed: RegionPlanes, colours: NDArray[np.float32], number: int
) -> Iterator[tuple[int, float, Array]]:
    """Yield the regions with a plane, of a region's colour, beside the region ``number``: their
    number, along which share of its outline they are, and those pixels (N, 3) of it.
    """
    import cv2

    labels = agreed.labels
    its = labels == number
    colour = np.median(colours[its], axis=0)
    alike = np.zeros(int(labels.max()) + 1, bool)
    for other in np.flatnonzero(agreed.have_plane) + 1:
        there = labels == other
        off = np.abs(np.median(colours[there], axis=0) - colour) if there.any() else np.inf
        alike[other] = other != number and np.max(off) < _ALIKE
    them = alike[labels]
    if not them.any():
        return
    distance, nearest = cv2.distanceTransformWithLabels(
        (~them).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    label_of = np.zeros(nearest.max() + 1, np.int16)
    label_of[nearest[them]] = labels[them]
    inner = cv2.erode(its.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    row, column = np.nonzero(its & ~inner)
    beside = np.where(
        distance[row, column] <= _NEARBY * max(labels.shape), label_of[nearest[row, column]], 0
    )
    at = np.stack([np.ones(len(row)), column, row], axis=1)
    shares = np.bincount(beside, minlength=1) / max(len(row), 1)
    shares[0] = 0
    for other in np.argsort(-shares, kind="stable"):
        if shares[other] > 0:
            yield int(other), float(shares[other]), at[beside == other]
