"""A plain region and how much speaks for a plane of it: the photos' colours, its rim and the prior.

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
from recon.stereo.region_rim import ON_PLANE, Rim, rim_of
from recon.stereo.stacked_photos import stacked_photos

_PIXELS, _NEAR_OUTLINE = 900, 3
"""Pixels at which a region's colours are compared: half spread over it, half so near its outline,
in pixels."""
_PRIOR_SAY, _RIM_SAY = 0.1, 0.7
"""Weight of the prior and of the rim beside the photos' colours."""
_FAR_OFF = 0.2
"""From this relative distance on a plane pays all that the prior has to say."""
_CANDIDATE = 0.3
"""A plane found elsewhere in the photo is tried where it is within this share of the prior."""
_STARTS, _STEPS, _TRIES = 2, (0.08, 0.04, 0.02, 0.01, 0.005, 0.0025), 24
"""The best candidates are improved by random changes of these relative sizes, so many of each."""
_FEWEST, _NO_WORSE = 60, 0.01
"""From so many known pixels on a plane on they tell it best, if its cost hardly rises."""
_ALLOWED = 0.35
"""Natural logarithm of the factor by which a plane's depth may differ from the prior's."""
_IN_FRONT = 0.15
"""Share of a region in which known depth may lie before its plane."""
_OWN, _BESIDE, _TELLS = 0.05, 1.3, 0.05
"""Depth known inside a region, relatively so near to its plane, is its own and not a mirror's; the
plane is beside it if it is off by so many times more than the best plane through it. In less than
so much of a region photos agree by chance."""
_FLAT, _CURVED = 0.003, 1.5
"""A region is curved, and no plane's, if known depth is farther off its plane than the first,
relatively, and so many times farther than off a quadric."""
_JUDGED = 0.02
"""Relative distance at which a known pixel speaks against a plane with all it has."""
_DISTANCES, _BEST_ALONG, _FINER = 28, 2, (0.006, 0.002)
"""Distances of planes of a known direction that are tried; the best of them that are kept, improved
by steps of these relative sizes."""
_BIN, _MOST_FREQUENT = 0.01, 4
"""Width of the bins, in logarithms, in which known pixels vote for distances, and how many of the
most frequent are tried, too."""


@dataclass(frozen=True)
class RegionPhoto:
    """A photo as regions are seen in it: ``colours`` (h, w, 3) in grey levels, blurred; ``known``
    (h, w): confirmed inverse depth, 0 = unknown.
    """

    photo: Photo2D
    colours: NDArray[np.float32]
    known: NDArray[np.float32]


@dataclass(frozen=True)
class Sources:
    """All sources as :func:`recon.stereo.loops.region_cost.region_costs` takes them."""

    photos: NDArray[np.float32]
    known: NDArray[np.float32]
    terms: Array

    @staticmethod
    def of(reference: Photo2D, sources: Sequence[RegionPhoto]) -> Sources:
        """Return the ``sources`` of a photo."""
        moves = [pixel_terms(reference, source.photo) for source in sources]
        terms = [torch.cat([A.T, b[None]]).double().cpu().numpy() for A, b in moves]
        photos, known = stacked_photos([s.colours for s in sources], [s.known for s in sources])
        return Sources(photos, known, np.ascontiguousarray(terms))


@dataclass(frozen=True)
class Region:
    """A plain region: ``pixels`` at which it is looked at, with the prior's inverse depth, and
    their ``colours`` (N, 3); what is known ``inside`` it, ``share`` of it; and its ``rim``.
    """

    pixels: Pixels
    colours: NDArray[np.float32]
    inside: Pixels
    share: float
    rim: Rim
    sources: Sources

    @staticmethod
    def of(
        its: NDArray[np.bool_],
        reference: RegionPhoto,
        prior: NDArray[np.float32],
        sources: Sources,
    ) -> Region:
        """Return the region of the pixels ``its`` (h, w); ``prior`` (h, w): depth, 0 = unknown."""
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
        return Region(
            Pixels.of(chosen, inverse),
            np.ascontiguousarray(reference.colours.reshape(-1, 3)[chosen]),
            Pixels.of(evenly(inner & known, 300), reference.known),
            float((inner & known).sum() / its.sum()),
            rim_of(its & ~inner, mask, known & ~inner, reference.known),
            sources,
        )

    def candidates(self, elsewhere: Array, directions: Array) -> Array:
        """Return planes (C, 3) worth a comparison: the plausible one of least cost of all, some
        tried being ``elsewhere`` (K, 3), and the best of each of the ``directions`` (D, 3), planes
        through the middle of the picture at any distance.
        """
        along = [self._best_along(direction) for direction in directions]
        return np.concatenate([*along, self._best_plane(elsewhere, improve=True)])

    def planes_at_hand(self, elsewhere: Array) -> Array:
        """Return the plausible plane (1, 3) of least cost of ``elsewhere`` (K, 3), the rim, what is
        known inside and the prior, (0, 3) without one.
        """
        return self._best_plane(elsewhere, improve=False)

    def _best_along(self, direction: Array) -> Array:
        """Return up to three planes (C, 3), multiples of ``direction`` (3,), of least cost."""
        along = self.pixels.at @ direction
        if along.sum() < 0:
            direction, along = -direction, -along
        if not (along > 0).all():
            return np.zeros((0, 3))
        middle = float(np.median(self.pixels.v / along))
        scales = [middle * np.exp(np.linspace(-_ALLOWED, _ALLOWED, _DISTANCES))]
        known = self._known()
        own = known.at @ direction
        scales.append(_frequent(known.v[own > 0] / own[own > 0], middle))
        planes = np.concatenate(scales)[:, None] * direction
        costs = self.costs(planes)
        found = []
        for n in np.argsort(costs, kind="stable")[:_BEST_ALONG]:
            plane, cost = planes[n], costs[n]
            for step in _FINER:
                nearby = plane * (1 + step * np.arange(-2, 3))[:, None]
                nearby_costs = self.costs(nearby)
                if nearby_costs.min() < cost:
                    plane, cost = nearby[nearby_costs.argmin()], nearby_costs.min()
            found.append(plane)
        return np.stack(found)

    def _best_plane(self, elsewhere: Array, *, improve: bool) -> Array:
        """Return the plausible plane (1, 3) of least cost, or none (0, 3); some tried are
        ``elsewhere`` (K, 3).
        """
        prior = self.pixels.fitted_robustly()
        scales = np.zeros((13, 3))
        scales[:, 0] = np.linspace(-_FAR_OFF, _FAR_OFF, 13)
        tried = [self.changed(prior, scales), *(plane[None] for plane in self.rim.planes)]
        if len(self.inside.v) > 30:
            tried.append(self.inside.fitted_robustly()[None])
        if len(elsewhere):
            tried.append(elsewhere[self.pixels.off(elsewhere) < _CANDIDATE])
        candidates = np.concatenate([planes for planes in tried if len(planes)])
        costs = self.costs(candidates)
        # Of the scaled prior one is enough.
        order = [n for n in np.argsort(costs, kind="stable")
                 if n >= len(scales) or n == costs[: len(scales)].argmin()]  # fmt: skip
        best = [(costs[n], candidates[n]) for n in order[:_STARTS]]
        if improve:
            best = [self._improved(plane, cost) for cost, plane in best]
        for _, plane in sorted(best, key=lambda pair: pair[0]):
            polished = self._polished(plane)
            if self.is_plausible(polished):
                return polished[None]
        return np.zeros((0, 3))

    def _improved(self, plane: Array, cost: float) -> tuple[float, Array]:
        rng = np.random.default_rng(0)
        for size in _STEPS:
            for _ in range(2):
                planes = self.changed(plane, size * rng.normal(size=(_TRIES // 2, 3)))
                costs = self.costs(planes)
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
        costs = self.costs(np.stack([plane, fitted]))
        return fitted if costs[1] < costs[0] + _NO_WORSE else plane

    def allows(self, planes: Array) -> NDArray[np.bool_]:
        """Return which planes (C, 3) lie before all pixels and not far from the prior: (C,)."""
        ratio = self.pixels.ratio(planes)
        middle = np.median(ratio, axis=1).clip(1e-12)
        return (ratio > 0).all(axis=1) & (np.abs(np.log(middle)) <= _ALLOWED)

    def is_plausible(self, plane: Array) -> bool:
        """Return whether the prior allows a plane (3,), and what is known of it is not curved."""
        if not self.allows(plane[None])[0]:
            return False
        inside = self.inside.ratio(plane[None])[0]
        if self.share * (inside < 1 - _OWN / 2).sum() > _IN_FRONT * len(inside):
            return False
        off = np.abs(inside - 1)
        near = off < _OWN
        # An image begins on the plane, where a door meets the floor that it mirrors.
        is_own = near.sum() >= (inside > 1 + _OWN).sum()
        if is_own and near.sum() > _FEWEST / 2 and self.share * near.mean() > _TELLS:
            its = Pixels(self.inside.at[near], self.inside.v[near])
            best = np.abs(its.ratio(its.fitted_robustly()[None])[0] - 1)
            if np.median(off[near]) > _BESIDE * np.median(best) + _FLAT / 2:
                return False
        known = self._on(plane)
        if len(known.v) < _FEWEST:
            return True
        straight, bent = known.residual(quadratic=False), known.residual(quadratic=True)
        return straight < _FLAT or straight < _CURVED * bent

    def _known(self) -> Pixels:
        return Pixels(
            np.concatenate([self.inside.at, self.rim.pixels.at]),
            np.concatenate([self.inside.v, self.rim.pixels.v]),
        )

    def _on(self, plane: Array) -> Pixels:
        """Return what is known inside and on the rim that is near a plane (3,)."""
        known = self._known()
        near = np.abs(known.ratio(plane[None])[0] - 1) < 2 * ON_PLANE
        return Pixels(known.at[near], known.v[near])

    def changed(self, plane: Array, changes: Array) -> Array:
        """Return planes (C, 3) that are off by ``changes`` (C, 3), relatively: in the middle, and
        more by so much one standard deviation of the pixels to the right, and below.
        """
        middle = self.pixels.at.mean(axis=0)
        size = np.maximum(self.pixels.at.std(axis=0)[1:], 2)
        slopes = changes[:, 1:] / size
        level = changes[:, 0] - slopes @ middle[1:]
        return np.asarray(plane + (plane @ middle) * np.column_stack([level, slopes]))

    def costs(self, planes: Array) -> Array:
        """Return costs (C,) of planes (C, 3): what photos, rim and prior say against them."""
        off = np.minimum(np.abs(self.pixels.ratio(planes) - 1) / _FAR_OFF, 1).mean(axis=1)
        return np.asarray(self.evidence(planes) + _PRIOR_SAY * off)

    def evidence(self, planes: Array) -> Array:
        """Return what speaks against planes (C, 3) but for the prior: (C,)."""
        costs = self._colour_costs(planes) + self.rim_costs(planes)
        if len(self.inside.v) > 10:
            ratio = self.inside.ratio(planes)
            nearer, farther = ((off / _JUDGED).clip(0, 1) for off in (1 - ratio, ratio - 1))
            costs += self.share * (nearer + farther / 2).mean(axis=1)
        return costs

    def rim_costs(self, planes: Array) -> Array:
        """Return what the rim says against planes (C, 3): (C,)."""
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


def _frequent(scales: Array, middle: float) -> Array:
    """Return the most frequent ``scales`` (N,) not too far from the ``middle`` one."""
    logs = np.log(scales / middle)
    logs = logs[np.abs(logs) < _ALLOWED]
    edges = np.arange(-_ALLOWED, _ALLOWED + _BIN, _BIN)
    votes = np.convolve(np.histogram(logs, edges)[0], [1, 2, 1])
    peaks = np.flatnonzero((votes[1:-1] >= votes[:-2]) & (votes[1:-1] > votes[2:]))
    peaks = peaks[np.argsort(-votes[1:-1][peaks], kind="stable")[:_MOST_FREQUENT]]
    near = (logs[np.abs(logs - edges[peak] - _BIN / 2) < 1.2 * _BIN] for peak in peaks)
    return middle * np.exp([np.median(its) for its in near if len(its)])
