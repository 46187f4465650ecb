"""Depth of one photo from its sources: hypotheses of inverse depth, and the one that matches best.

A hypothesis is a surface, one inverse depth per pixel. A window on slanted ground only matches
under a surface of the same slope. So depth is searched among planes that face the camera, which
need to know nothing, and among surfaces shaped like a guess (the network's depth, or what is known
after a first search) made nearer and farther as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from recon.stereo.cross_check import Estimate
from recon.stereo.fill_unconfirmed import spread
from recon.stereo.photo import Votes, box_mean, epipolar_terms
from recon.stereo.plane_sweep import Scorer, median_filter, plane_fit

# Hypotheses of a search at least: photos of short baselines ask for few, and energies need some.
_LEAST_HYPOTHESES = 24
# Every so many-th pixel, across and down, tells how far points move.
_EVERY = 4
# Penalties of semi-global matching for a neighbour one step and more steps away (matching costs are
# 0 to 1). Narrow searches have steps of a fraction of a pixel: there they only break ties.
_SMOOTHNESS, _NARROW_SMOOTHNESS = (0.1, 0.8), (0.02, 0.1)
# How many steps a narrow search looks to either side.
_NARROW_STEPS = 4
# Weight, before squaring, of the worst matched pixel where planes are fitted: some, so that every
# window has a plane.
_LEAST_WEIGHT = 0.05
# Windows of those planes, pixels to either side: close to the pixel, and wide enough to be smooth.
_PLANE_RADII = (2, 6)
# How many pixels away the surfaces are that may go on to a pixel, by which factor they may change
# on the way, and by how much more (of scores from -1 to 1) they have to match than what was found.
_BESIDE, _MOST_CHANGE, _BETTER = 6, 1.3, 0.1


@dataclass(frozen=True)
class Found:
    """Per pixel (h, w) the inverse depth, the energy of that choice, and the step between the
    hypotheses it was found among.
    """

    inverse: Tensor
    energy: Tensor
    step: Tensor

    def or_better(self, other: Found) -> Found:
        """Return per pixel the choice of less energy in its surroundings."""
        better = box_mean(other.energy, 2) < box_mean(self.energy, 2)
        return Found(
            torch.where(better, other.inverse, self.inverse),
            torch.where(better, other.energy, self.energy),
            torch.where(better, other.step, self.step),
        )


def surface_of(guess: Estimate) -> Tensor | None:
    """Return inverse depth (h, w) of a guess, its gaps filled; None if nothing is known."""
    known = guess.depth > 0
    if not bool(known.any()):
        return None
    return spread(torch.where(known, 1 / guess.depth.clamp_min(1e-12), 0.0), known.float())


def search(
    scorer: Scorer, low: Tensor, high: Tensor, guess: Estimate, most: int, weight: float
) -> Found:
    """Search between two surfaces (h, w) of inverse depth, in steps of about one pixel of motion
    but at most ``most``; ``weight``: the guess's say against the photos, whose scores span 0 to 1.
    """
    count = min(max(_motion(scorer, low, high), _LEAST_HYPOTHESES), most)
    step = (high - low) / (count - 1)
    label, energy = scorer.lowest(low, step, count, _SMOOTHNESS, _votes(guess, weight))
    return Found(low + step * label, energy, step)


def _motion(scorer: Scorer, low: Tensor, high: Tensor) -> int:
    """Return by how many pixels points move between two surfaces in the farthest source."""
    motion = 0.0
    some = (slice(None, None, _EVERY),) * 2
    for source in scorer.sources:
        A, b = epipolar_terms(scorer.reference, source)
        ends = [A[some] + inverse[some][..., None] * b for inverse in (low, high)]
        pixels = [end[..., :2] / end[..., 2:].clamp_min(1e-6) for end in ends]
        front = (ends[0][..., 2] > 0) & (ends[1][..., 2] > 0)
        if front.any():
            distance = (pixels[1] - pixels[0]).norm(dim=-1)[front]
            motion = max(motion, float(distance.median()))
    return int(motion)


def _votes(guess: Estimate, weight: float) -> Votes:
    known = guess.depth > 0
    inverse = torch.where(known, 1 / guess.depth.clamp_min(1e-12), 0.0)
    return Votes(inverse, weight * guess.confidence * known)


def sharpen(scorer: Scorer, inverse: Tensor, step: Tensor, *, from_beside: bool = False) -> Tensor:
    """Return inverse depth (h, w) after narrow searches around itself, smoothed, in half and then a
    quarter of ``step``.

    ``from_beside``: also around surfaces that go on from beside a pixel and match clearly better.
    Windows at half the size see the thing in front in narrow gaps and beside outlines.
    """
    for part in (2, 4):
        inverse = _narrow(scorer, _straighten(scorer, inverse, from_beside), step / part)
    return inverse


def enlarge(inverse: Tensor, height: int, width: int) -> Tensor:
    """Return values (h, w) interpolated to another size."""
    return F.interpolate(inverse[None, None], (height, width), mode="bilinear")[0, 0]


def _straighten(scorer: Scorer, inverse: Tensor, from_beside: bool) -> Tensor:
    """Return inverse depth (h, w) without outliers and stairs: per pixel the best of three smooths,
    or a surface beside it that matches clearly better.

    The median keeps edges; planes through the well-matched neighbours give windows on slanted
    ground the slope that planes facing the camera cannot know.
    """
    median = median_filter(inverse)
    weight = scorer(median[None])[0].clamp(_LEAST_WEIGHT, 1).square()
    surfaces = [median, *(plane_fit(median, weight, radius)[0] for radius in _PLANE_RADII)]
    beside = _beside(surfaces[1]) if from_beside else []
    # A plane may cross zero where its window holds two surfaces.
    stacked = torch.stack([*surfaces, *beside]).clamp_min(float(inverse.min()) / 2)
    score = box_mean(scorer(stacked), 1)
    score[len(surfaces) :] -= _BETTER
    return stacked.gather(0, score.argmax(0)[None])[0]


def _beside(inverse: Tensor) -> list[Tensor]:
    """Return the inverse depth (h, w) of what lies to the left, to the right, above and below, each
    gone on straight to the pixel.

    Neighbours some way off tell more than the nearest, which err alike (Galliani et al. 2015; Xu
    and Tao 2019); along a slanted surface depth goes on as a plane.
    """
    height, width = inverse.shape
    reach = 2 * _BESIDE
    padded = F.pad(inverse[None, None], (reach, reach, reach, reach), mode="replicate")[0, 0]

    def moved(down: int, right: int) -> Tensor:
        return padded[reach + down :, reach + right :][:height, :width]

    gone_on = []
    for down, right in ((0, -_BESIDE), (0, _BESIDE), (-_BESIDE, 0), (_BESIDE, 0)):
        there = moved(down, right)
        straight = 2 * there - moved(2 * down, 2 * right)
        gone_on.append(straight.clamp(min=there / _MOST_CHANGE, max=there * _MOST_CHANGE))
    return gone_on


def _narrow(scorer: Scorer, inverse: Tensor, spacing: Tensor) -> Tensor:
    """Return inverse depth (h, w) moved by a few steps to where the photos agree best."""
    first = inverse - _NARROW_STEPS * spacing
    label, _ = scorer.lowest(first, spacing, 2 * _NARROW_STEPS + 1, _NARROW_SMOOTHNESS)
    return inverse + (label - _NARROW_STEPS) * spacing
