"""A plane for each plain region of a photo: the one that the photos, its rim and the prior support.

Windows see noise on a plain surface; a region of thousands of pixels sees its own outline and the
little shading there is, in every photo (Gallup, Frahm and Pollefeys 2010). What mirrors or shines
tells colours apart no more than that; there the depth of the rim tells the plane: gaps between
doors, handles, the edge of a table. Within a rim, depth behind the plane may be a mirror's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pointmap.camera import Array
from recon.stereo.known_pixels import Pixels, evenly
from recon.stereo.photo import Photo2D, pixel_terms
from recon.stereo.piecewise_planes import find_planes
from recon.stereo.plain_regions import plain_regions
from recon.stereo.region_rim import ON_PLANE, Rim, rim_of
from recon.stereo.stacked_photos import stacked_photos

_PIXELS, _NEAR_OUTLINE = 900, 3
"""Pixels at which a region's colours are compared: half spread over it, half so near its outline,
in pixels."""
_MOSTLY_KNOWN = 0.85
"""A region of which so much is known needs no plane."""
_PRIOR_SAY, _RIM_SAY = 0.1, 0.7
"""Weight of the prior and of the rim beside the photos' colours."""
_FAR_OFF = 0.2
"""From this relative distance on a plane pays all that the prior has to say."""
_CANDIDATE = 0.3
"""A plane found elsewhere in the photo is tried where it is within this share of the prior."""
_STARTS, _STEPS, _TRIES = 3, (0.08, 0.04, 0.02, 0.01, 0.005, 0.0025), 24
"""The best candidates are improved by random changes of these relative sizes, so many of each."""
_FEWEST, _NO_WORSE = 60, 0.01
"""From so many known pixels on a plane on they tell it best, if its cost hardly rises."""
_ALLOWED = 0.35
"""Natural logarithm of the factor by which a plane's depth may differ from the prior's."""
_IN_FRONT = 0.15
"""Share of a region in which known depth may lie before its plane."""
_OWN, _BESIDE = 0.05, 1.3
"""Depth known inside a region, relatively so near to its plane, is its own and not a mirror's; the
plane is beside it if it is off by so many times more than the best plane through it."""
_FLAT, _CURVED = 0.003, 1.5
"""A region is curved, and no plane's, if known depth is farther off its plane than the first,
relatively, and so many times farther than off a quadric."""
_SHARED_SAY = 0.03
"""A plane that photos agree on elsewhere may cost so much more than a region's own."""
_JUDGED = 0.02
"""How much worse a plane gets by this relative change tells how well it is determined."""


@dataclass(frozen=True)
class RegionPlanes:
    """The plain regions of a photo: ``labels`` (h, w), 0 = none, else the number in the lists from
    1; ``planes`` (R, 3) of inverse depth a + b x + c y at column x and row y, all 0 where none was
    found, and ``sharpness`` (R,): by how much a plane's cost rises at least within 2 %.
    """

    labels: NDArray[np.int16]
    planes: Array
    sharpness: Array

    def inverse(self, height: int, width: int) -> NDArray[np.float32]:
        """Return inverse depth (height, width) on the planes, 0 where there is none."""
        rows, columns = self.labels.shape
        x = (np.arange(width) + 0.5) * (columns / width)
        y = (np.arange(height) + 0.5) * (rows / height)
        labels = self.labels[y.astype(int)[:, None], x.astype(int)]
        a, b, c = np.concatenate([np.zeros((1, 3)), self.planes])[labels].transpose(2, 0, 1)
        return np.maximum(a + b * (x - 0.5) + c * (y[:, None] - 0.5), 0).astype(np.float32)

    def only(self, which: NDArray[np.bool_]) -> RegionPlanes:
        """Return the regions of which ``which`` (R,) is true."""
        return RegionPlanes(self.labels, self.planes * which[:, None], self.sharpness)


@dataclass(frozen=True)
class RegionPhoto:
    """A photo as regions are seen in it: ``colours`` (h, w, 3) in grey levels, blurred; ``known``
    (h, w): confirmed inverse depth, 0 = unknown.
    """

    photo: Photo2D
    colours: NDArray[np.float32]
    known: NDArray[np.float32]


def region_planes(
    reference: RegionPhoto,
    confidence: NDArray[np.float32],
    prior: NDArray[np.float32],
    sources: Sequence[RegionPhoto],
) -> RegionPlanes:
    """Return the planes of the regions of ``reference`` that its ``sources`` agree with best.

    ``confidence`` (h, w): of what is known; ``prior`` (h, w): depth, 0 = unknown.
    """
    labels = plain_regions(reference.colours)
    labels[prior <= 0] = 0
    count = int(labels.max())
    planes, sharpness = np.zeros((count, 3)), np.zeros(count)
    if not sources:
        return RegionPlanes(labels, planes, sharpness)
    elsewhere = find_planes(torch.from_numpy(reference.known), torch.from_numpy(confidence))
    seen = _Sources.of(reference.photo, sources)
    for number in range(1, count + 1):
        its = labels == number
        if not its.any() or (reference.known[its] > 0).mean() > _MOSTLY_KNOWN:
            continue
        region = _Region.of(its, reference, prior, seen)
        plane = region.best_plane(elsewhere)
        if plane is not None:
            planes[number - 1], sharpness[number - 1] = plane, region.sharpness(plane)
    return RegionPlanes(labels, planes, sharpness)


def shared_planes(
    reference: RegionPhoto,
    prior: NDArray[np.float32],
    sources: Sequence[RegionPhoto],
    found: RegionPlanes,
    agreed: RegionPlanes,
    candidates: Array,
) -> RegionPlanes:
    """Return ``agreed``, and for regions of ``found`` that are not that one of the ``candidates``
    (K, 3), planes that photos agree on elsewhere, if the photos speak for it nearly as much.

    A floor is one plane, and so is a row of doors, though each photo sees other parts of it well.
    """
    planes = agreed.planes.copy()
    open_ones = found.planes.any(axis=1) & ~planes.any(axis=1)
    if not len(candidates) or not open_ones.any():
        return agreed
    seen = _Sources.of(reference.photo, sources)
    for number in np.flatnonzero(open_ones):
        region = _Region.of(found.labels == number + 1, reference, prior, seen)
        plane = region.best_of(candidates, found.planes[number])
        if plane is not None:
            planes[number] = plane
    return RegionPlanes(found.labels, planes, found.sharpness)


def seen_by(planes: Array, photo: Photo2D, other: Photo2D) -> Array:
    """Return planes (K, 3) of ``photo``'s inverse depth as they are in ``other``'s."""
    (K, own), (other_K, there) = (
        (p.intrinsics.cpu().numpy(), p.cam_to_world.cpu().numpy()) for p in (photo, other)
    )
    a, b, c = planes.T
    # Points X of a plane have normal . X = 1, as inverse depth is (normal K^-1) . (x, y, 1).
    normal = np.stack([b, c, a - (b + c) / 2], axis=1) @ K
    move = np.linalg.inv(own) @ there
    normal = (normal @ move[:3, :3]) / (1 - normal @ move[:3, 3])[:, None]
    b, c, a = (normal @ np.linalg.inv(other_K)).T
    return np.stack([a + (b + c) / 2, b, c], axis=1)


@dataclass(frozen=True)
class _Sources:
    """All sources as :func:`recon.stereo.loops.region_cost.region_costs` takes them."""

    photos: NDArray[np.float32]
    known: NDArray[np.float32]
    terms: Array

    @staticmethod
    def of(reference: Photo2D, sources: Sequence[RegionPhoto]) -> _Sources:
        moves = [pixel_terms(reference, source.photo) for source in sources]
        terms = [torch.cat([A.T, b[None]]).double().cpu().numpy() for A, b in moves]
        photos, known = stacked_photos([s.colours for s in sources], [s.known for s in sources])
        return _Sources(photos, known, np.ascontiguousarray(terms))


@dataclass(frozen=True)
class _Region:
    """A plain region: ``pixels`` at which it is looked at, with the prior's inverse depth, and
    their ``colours`` (N, 3); what is known ``inside`` it, ``share`` of it; and its ``rim``.
    """

    pixels: Pixels
    colours: NDArray[np.float32]
    inside: Pixels
    share: float
    rim: Rim
    sources: _Sources

    @staticmethod
    def of(
        its: NDArray[np.bool_],
        reference: RegionPhoto,
        prior: NDArray[np.float32],
        sources: _Sources,
    ) -> _Region:
        import cv2

        mask, known = its.astype(np.uint8), reference.known > 0
        inner = cv2.erode(mask, np.ones((3, 3), np.uint8)) > 0
        near = cv2.erode(mask, np.ones((2 * _NEAR_OUTLINE + 1,) * 2, np.uint8)) == 0
        chosen = np.unique(
            np.concatenate(
                [evenly(its, _PIXELS // 2), evenly(its & near, _PIXELS // 2)]
            )
        )  # fmt: skip
        inverse = (1 / np.maximum(prior, 1e-12)).astype(np.float32)
        return _Region(
            Pixels.of(chosen, inverse),
            np.ascontiguousarray(reference.colours.reshape(-1, 3)[chosen]),
            Pixels.of(evenly(inner & known, 300), reference.known),
            float((inner & known).sum() / its.sum()),
            rim_of(its & ~inner, mask, known & ~inner, reference.known),
            sources,
        )

    def best_plane(self, elsewhere: Array) -> Array | None:
        """Return the plausible plane (3,) of least cost; some tried are ``elsewhere`` (K, 3)."""
        prior = self.pixels.fitted_robustly()
        scales = np.zeros((13, 3))
        scales[:, 0] = np.linspace(-_FAR_OFF, _FAR_OFF, 13)
        tried = [self._changed(prior, scales), *(plane[None] for plane in self.rim.planes)]
        if len(self.inside.v) > 30:
            tried.append(self.inside.fitted_robustly()[None])
        if len(elsewhere):
            off = np.median(np.abs(self.pixels.ratio(elsewhere) - 1), axis=1)
            tried.append(elsewhere[off < _CANDIDATE])
        candidates = np.concatenate([planes for planes in tried if len(planes)])
        costs = self._costs(candidates)
        # Of the scaled prior one is enough.
        order = [n for n in np.argsort(costs, kind="stable")
                 if n >= len(scales) or n == costs[: len(scales)].argmin()]  # fmt: skip
        improved = [self._improved(candidates[n], costs[n]) for n in order[:_STARTS]]
        for _, plane in sorted(improved, key=lambda pair: pair[0]):
            polished = self._polished(plane)
            if self._is_plausible(polished):
                return polished
        return None

    def best_of(self, planes: Array, own: Array) -> Array | None:
        """Return the plausible one of ``planes`` (K, 3) of least cost, None where all cost clearly
        more than the region's ``own`` plane (3,).
        """
        off = np.median(np.abs(self.pixels.ratio(planes) - 1), axis=1)
        planes = np.concatenate([own[None], planes[off < _CANDIDATE]])
        costs = self._costs(planes)
        for n in 1 + np.argsort(costs[1:], kind="stable"):
            if costs[n] > costs[0] + _SHARED_SAY:
                return None
            if self._is_plausible(planes[n]):
                return np.asarray(planes[n])
        return None

    def _improved(self, plane: Array, cost: float) -> tuple[float, Array]:
        rng = np.random.default_rng(0)
        for size in _STEPS:
            for _ in range(2):
                planes = self._changed(plane, size * rng.normal(size=(_TRIES // 2, 3)))
                costs = self._costs(planes)
                best = costs.argmin()
                if costs[best] < cost:
                    plane, cost = planes[best], costs[best]
        return cost, plane

    def _polished(self, plane: Array) -> Array:
        """Return the plane (3,) fitted to what is known of it, if the photos don't object."""
        known = self._on(plane)
        if len(known.v) < _FEWEST:
            return plane
        fitted = known.fitted()
        costs = self._costs(np.stack([plane, fitted]))
        return fitted if costs[1] < costs[0] + _NO_WORSE else plane

    def _is_plausible(self, plane: Array) -> bool:
        """Return whether the prior allows a plane (3,), and what is known of it is not curved."""
        ratio = self.pixels.ratio(plane[None])[0]
        if not (ratio > 0).all() or np.abs(np.log(np.median(ratio))) > _ALLOWED:
            return False
        inside = self.inside.ratio(plane[None])[0]
        if self.share * (inside < 1 - _OWN / 2).sum() > _IN_FRONT * len(inside):
            return False
        off = np.abs(inside - 1)
        near = off < _OWN
        if near.sum() > _FEWEST / 2:
            its = Pixels(self.inside.at[near], self.inside.v[near])
            best = np.abs(its.ratio(its.fitted_robustly()[None])[0] - 1)
            if np.median(off[near]) > _BESIDE * np.median(best) + _FLAT / 2:
                return False
        known = self._on(plane)
        if len(known.v) < _FEWEST:
            return True
        straight, bent = known.residual(quadratic=False), known.residual(quadratic=True)
        return straight < _FLAT or straight < _CURVED * bent

    def _on(self, plane: Array) -> Pixels:
        """Return what is known inside and on the rim that is near a plane (3,)."""
        at = np.concatenate([self.inside.at, self.rim.pixels.at])
        known = Pixels(at, np.concatenate([self.inside.v, self.rim.pixels.v]))
        near = np.abs(known.ratio(plane[None])[0] - 1) < 2 * ON_PLANE
        return Pixels(known.at[near], known.v[near])

    def sharpness(self, plane: Array) -> float:
        """Return by how much the cost rises at least when the plane moves, or tilts, a little; of
        colours and the rim alone.
        """
        changes = np.concatenate([np.zeros((1, 3)), _JUDGED * np.eye(3), -_JUDGED * np.eye(3)])
        planes = self._changed(plane, changes)
        costs = self._colour_costs(planes) + self._rim_costs(planes)
        return float(costs[1:].min() - costs[0])

    def _changed(self, plane: Array, changes: Array) -> Array:
        """Return planes (C, 3) that are off by ``changes`` (C, 3), relatively: in the middle, and
        more by so much one standard deviation of the pixels to the right, and below.
        """
        middle = self.pixels.at.mean(axis=0)
        size = np.maximum(self.pixels.at.std(axis=0)[1:], 2)
        slopes = changes[:, 1:] / size
        level = changes[:, 0] - slopes @ middle[1:]
        return np.asarray(plane + (plane @ middle) * np.column_stack([level, slopes]))

    def _costs(self, planes: Array) -> Array:
        off = np.minimum(np.abs(self.pixels.ratio(planes) - 1) / _FAR_OFF, 1).mean(axis=1)
        return np.asarray(self._evidence(planes) + _PRIOR_SAY * off)

    def _evidence(self, planes: Array) -> Array:
        costs = self._colour_costs(planes) + self._rim_costs(planes)
        if len(self.inside.v) > 10:
            ratio = self.inside.ratio(planes)
            nearer, farther = ((off / _JUDGED).clip(0, 1) for off in (1 - ratio, ratio - 1))
            costs += self.share * (nearer + farther / 2).mean(axis=1)
        return costs

    def _rim_costs(self, planes: Array) -> Array:
        return _RIM_SAY * self.rim.share * self.rim.costs(planes)

    def _colour_costs(self, planes: Array) -> Array:
        # Here, not above: who only needs torch need not wait for numba.
        from recon.stereo.loops.region_cost import region_costs

        seen = self.sources
        x, y = (np.ascontiguousarray(self.pixels.at[:, axis]) for axis in (1, 2))
        costs = region_costs(
            np.ascontiguousarray(planes), x, y, self.colours, seen.photos, seen.known, seen.terms
        )
        return np.asarray(costs)
