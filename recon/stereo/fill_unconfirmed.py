"""What takes the place of depth that no other photo confirms: the prior, corrected where that pays.

Confirmed depth next to a gap tells how far the prior is off there, or what surface goes on through
it, and tells it worse the wider the gap. How much is measured, not believed: blocks of confirmed
depth are hidden and predicted from the rest in several ways, of which one leaves the prior alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from pointmap.metrics import MAD_TO_SIGMA
from recon.stereo.between_surfaces import on_surfaces
from recon.stereo.colour_fill import ColourGrid, spread_along_colours
from recon.stereo.cross_check import Estimate
from recon.stereo.photo import box_mean
from recon.stereo.piecewise_planes import along_planes
from recon.stereo.plane_sweep import plane_fit

_BLOCKS = (0.06, 0.15, 0.4)
"""Sides of the hidden blocks, as shares of the photo's longer side."""
_ONE_BLOCK = 0.15
"""Side of the only ones where all is to be quick."""
_DISTANCES = (0.01, 0.03, 0.06, 0.12)
"""Distances to known depth between which predictions are judged apart, as shares likewise."""
_JUDGED_PX = 128
"""Predictions are judged on every second pixel, on fewer where the photo's longer side would still
have more than so many."""
_MARGIN = 0.95
"""A correction of the prior has to leave less than this share of the prior's own error."""
_FEWEST = 200
"""Hidden pixels below which nothing is judged."""
_LARGEST = 0.3
"""Log errors count up to this: a few that are far off shall not decide."""
_LIKELY = 1.5
"""Standard deviation of the weight of known depth, in typical deviations of the prior from it."""
_LEAST_LIKELY = 0.25
"""A weight below this (known depth 1.7 of those off) counts as none: another surface's."""
_PRIOR_CONFIDENCE = 0.3
"""Confidence of the surest prior: clearly below that of confirmed depth (``CONFIRMED``)."""
_MIN_FIRM = 1e-3
"""Weight from which a pixel counts as known where distances to known depth are measured."""
_BEHIND, _PLANE_WEIGHT = 0.03, 0.5
"""Depth that is relatively so much behind a region's plane is not the region's; and the weight of
what lies on its plane, beside confirmed depth's of 0.2 to 1."""
_GAP_RADII, _GAP_SHARE, _GAP_RESIDUAL, _GAP_TRUST = (2, 5), 0.4, 0.005, 0.8
"""A gap is closed in windows of these radii (pixels) where this share of the window is known, and
off its plane by less than this share of inverse depth; its confidence is so much of theirs."""


@dataclass(frozen=True)
class Observations:
    """What is known of a photo's depth: ``log_depth`` (h, w) with ``weight`` (h, w) in [0, 1], 0 =
    unknown; the prior's ``log_prior`` (h, w), and ``firm`` (h, w): the weight where both see the
    same surface; ``colours``: the photo's, if there are any.

    ``unsure`` in [0, 1]: how little the prior's own shape is worth. ``quick``: no planes, which are
    most of the work, and predictions are judged on blocks of one size.
    """

    log_depth: Tensor
    weight: Tensor
    firm: Tensor
    log_prior: Tensor
    colours: ColourGrid | None
    unsure: float
    quick: bool = False

    def every(self, step: int) -> Observations:
        """Return every ``step``-th pixel of every ``step``-th row."""
        return replace(
            self,
            log_depth=self.log_depth[::step, ::step],
            weight=self.weight[::step, ::step],
            firm=self.firm[::step, ::step],
            log_prior=self.log_prior[::step, ::step],
            colours=None if self.colours is None else self.colours.every(step),
        )


def fill_unconfirmed(
    checked: Estimate,
    prior: Estimate,
    reprojected: Estimate | None = None,
    pixels: Tensor | None = None,
    planes: Tensor | None = None,
    beside: Tensor | None = None,
    ground: Tensor | None = None,
    *,
    quick: bool = False,
) -> Estimate:
    """Return confirmed depth, small gaps closed, and elsewhere the prior, corrected to fit it.

    A prior that is unsure of itself, in a photo that is mostly confirmed, gives way to depth spread
    along like colours and the planes that it lies on. Where it sees no outlines, nothing is filled
    in between surfaces (:mod:`recon.stereo.between_surfaces`).

    Confidence is 0 in ``checked`` where depth is not confirmed. ``reprojected``: confirmed depth of
    other photos seen from this one, less firm; ``pixels`` (h, w, 3) in [0, 1]. ``planes`` (h, w):
    inverse depth of plain regions that photos agree on, 0 = none; depth behind it that photos
    confirm is what they mirror. ``beside`` (h, w): the same of pixels that are a region's by their
    colour, 0 = none; depth before it that photos confirm is that of an outline nearby. ``ground``
    (h, w): inverse depth that nothing is behind, 0 = none. ``quick``: see :class:`Observations`.
    """
    checked = close_gaps(checked)
    if planes is not None and beside is not None:
        front = (beside > 0) & (checked.confidence > 0) & (checked.depth * beside < 1 - _BEHIND)
        checked = Estimate(checked.depth, torch.where(front, 0.0, checked.confidence))
        planes = torch.where(front, beside, planes)
    if planes is not None:
        checked = without_mirrored(checked, planes)
        reprojected = _on_planes(planes, reprojected)
    known = checked.confidence > 0
    usable = prior.depth > 0
    filled = torch.where(usable, prior.depth, 0.0)
    sure = known & usable
    if bool(sure.any()):
        colours = None if pixels is None else ColourGrid.of(pixels)
        observed = _observations(checked, prior, reprojected, colours, quick)
        log_filled = correct_prior(observed, sure)
        # All of it where the prior is unsure of itself and half the photo, or more, is confirmed.
        give_way = observed.unsure * (2 * known.float().mean()).clamp_max(1)
        if colours is not None and give_way > 0:
            level = spread(observed.log_depth, observed.weight)
            level = spread_along_colours(observed.log_depth, observed.weight, colours, level)
            if not quick:
                level = along_planes(observed.log_depth, observed.weight, colours, level)
            log_filled = log_filled + give_way * (level - log_filled)
        filled = torch.where(usable, log_filled.exp(), 0.0)
    stays = known
    if planes is not None:
        on = usable & (planes > 0)
        filled, stays = torch.where(on, 1 / planes.clamp_min(1e-12), filled), stays | on
    filled = torch.where(known, checked.depth, filled)
    if ground is not None:
        under = ~known & (filled * ground > 1)
        filled, stays = torch.where(under, 1 / ground.clamp_min(1e-12), filled), stays | under
    if pixels is not None:
        filled = on_surfaces(filled, stays, prior.depth, pixels)
    unconfirmed = _PRIOR_CONFIDENCE * prior.confidence.clamp(0, 1) * usable
    return Estimate(filled, torch.where(known, checked.confidence, unconfirmed))


def without_mirrored(checked: Estimate, planes: Tensor) -> Estimate:
    """Return confirmed depth but for what lies behind the ``planes`` (h, w) of plain regions,
    inverse depth, 0 = none: that is what they mirror.
    """
    behind = (planes > 0) & (checked.depth * planes > 1 + _BEHIND)
    return Estimate(checked.depth, torch.where(behind, 0.0, checked.confidence))


def _on_planes(planes: Tensor, reprojected: Estimate | None) -> Estimate:
    """Return what is less firm than confirmed depth, on regions' ``planes`` theirs."""
    none = torch.zeros_like(planes)
    rest = reprojected or Estimate(none, none)
    on = planes > 0
    return Estimate(
        torch.where(on, 1 / planes.clamp_min(1e-12), rest.depth),
        torch.where(on, _PLANE_WEIGHT, rest.confidence),
    )


def _observations(
    checked: Estimate,
    prior: Estimate,
    reprojected: Estimate | None,
    colours: ColourGrid | None,
    quick: bool,
) -> Observations:
    known, usable = checked.confidence > 0, prior.depth > 0
    weight, depth = checked.confidence.square(), checked.depth
    if reprojected is not None:
        weight = torch.where(known, weight, reprojected.confidence)
        depth = torch.where(known, depth, reprojected.depth)
    log_depth = depth.clamp_min(1e-12).log()
    log_prior = torch.where(usable, prior.depth, 1.0).log()
    difference = log_depth - log_prior
    own = difference[known & usable]
    middle = own.median()
    # A prior is never better than a thousandth.
    deviation = MAD_TO_SIGMA * (own - middle).abs().median() + 1e-3
    # What is far from the rest belongs to another surface than the prior's: a neighbour's at a
    # blurred edge, or one that this photo doesn't see.
    likely = torch.exp(-0.5 * ((difference - middle) / (_LIKELY * deviation)).square())
    likely *= likely > _LEAST_LIKELY
    unsure = float(1 - (2 * prior.confidence[usable].mean()).clamp(0, 1))
    firm = weight * likely * usable
    return Observations(log_depth, weight, firm, log_prior, colours, unsure, quick)


def correct_prior(observed: Observations, sure: Tensor) -> Tensor:
    """Return log depth (h, w): the prior's, corrected by what predicts hidden parts of ``sure``.

    At each distance from known depth the predictor counts that is best at that distance; none is
    used that doesn't beat the prior.
    """
    step = max(2, max(sure.shape) // _JUDGED_PX)
    choice = _best_predictors(observed.every(step), sure[::step, ::step])
    predictions = _predictions(observed)
    distance = _distance(observed.firm > _MIN_FIRM)
    chosen = predictions[0].clone()
    # A pixel between two distances takes a mean of the two predictions, so that no seam shows.
    place = torch.zeros_like(distance)
    edges = [0.0, *_DISTANCES]
    for nearer, farther in pairwise(edges):
        place += ((distance - nearer) / (farther - nearer)).clamp(0, 1)
    for n, best in enumerate(choice):
        share = (1 - (place - n).abs()).clamp_min(0)
        chosen += share * (predictions[best] - predictions[0])
    return chosen


def _predictions(observed: Observations) -> Tensor:
    """Return log depths (K, h, w) by several predictors: the prior as it is; corrected smoothly; by
    like colours and planes, too; and the mean of the first and the last.
    """
    log_prior, firm = observed.log_prior, observed.firm
    difference = torch.where(firm > 0, observed.log_depth - log_prior, 0.0)
    smooth = spread(difference, firm)
    expected = guided = log_prior + smooth
    if observed.colours is not None:
        if observed.quick:
            along = spread_along_colours(difference, firm, observed.colours, smooth)
            guided = log_prior + along
        else:
            known = observed.log_depth, observed.weight
            guided = along_planes(*known, observed.colours, expected)
    return torch.stack([log_prior, expected, guided, (guided + log_prior) / 2])


def _best_predictors(observed: Observations, sure: Tensor) -> list[int]:
    """Return the best predictor at each of ``_DISTANCES`` and beyond, from near to far."""
    height, width = sure.shape
    rows = torch.arange(height, device=sure.device)[:, None]
    columns = torch.arange(width, device=sure.device)[None]
    errors, distances = [], []
    for share in (_ONE_BLOCK,) if observed.quick else _BLOCKS:
        side = max(4, round(share * max(height, width)))
        odd = (rows // side + columns // side) % 2 == 1
        for hidden in (odd, ~odd):
            rest = replace(
                observed,
                weight=torch.where(hidden, 0.0, observed.weight),
                firm=torch.where(hidden, 0.0, observed.firm),
            )
            asked = hidden & sure
            if not bool((rest.firm > _MIN_FIRM).any()) or not bool(asked.any()):
                continue
            error = (_predictions(rest) - observed.log_depth).abs().clamp_max(_LARGEST)
            errors.append(error[:, asked])
            distances.append(_distance(rest.firm > _MIN_FIRM)[asked])
    if not errors:
        return [0] * (len(_DISTANCES) + 1)
    error, distance = torch.cat(errors, 1), torch.cat(distances)
    edges = [0.0, *_DISTANCES, torch.inf]
    # Farther than anything that could be judged the prior stays; nearer, what is best farther out.
    choice = [0]
    for n in reversed(range(len(edges) - 1)):
        here = (distance >= edges[max(n - 1, 0)]) & (distance < edges[n + 1])
        if int(here.sum()) < _FEWEST:
            choice.append(choice[-1])
            continue
        left = error[:, here].mean(1)
        left[1:] /= _MARGIN
        choice.append(int(left.argmin()))
    return choice[:0:-1]


def _distance(known: Tensor) -> Tensor:
    """Return how far (h, w) the nearest known pixel is, as a share of the photo's longer side."""
    import cv2

    unknown = (~known).to(torch.uint8).cpu().numpy()
    distance = torch.from_numpy(cv2.distanceTransform(unknown, cv2.DIST_L2, 3))
    return (distance / max(known.shape)).to(known.device)


def close_gaps(checked: Estimate) -> Estimate:
    """Fill pixels whose confirmed neighbours lie on one plane, small windows first."""
    depth, confidence = checked.depth, checked.confidence
    for radius in _GAP_RADII:
        known = confidence > 0
        inverse = torch.where(known, 1 / depth.clamp_min(1e-12), 0.0)
        fitted, residual, share = plane_fit(inverse, known.float(), radius)
        fill = ~known & (share > _GAP_SHARE) & (fitted > 0) & (residual < _GAP_RESIDUAL * fitted)
        depth = torch.where(fill, 1 / fitted.clamp_min(1e-12), depth)
        near = box_mean(confidence, radius) / share.clamp_min(1e-6)
        confidence = torch.where(fill, _GAP_TRUST * near, confidence)
    return Estimate(depth, confidence)


def spread(values: Tensor, weights: Tensor) -> Tensor:
    """Return values (h, w) spread from where weights > 0 to everywhere (push-pull pyramid).

    Each level averages the known values of the finer one and hands its own down to where the finer
    one knows nothing, so that a gap is filled at about the scale of its size. Nothing known at all
    gives 0.
    """
    h, w = values.shape
    if min(h, w) <= 2:
        total = weights.sum()
        mean = (values * weights).sum() / total.clamp_min(1e-12)
        return torch.where(weights > 0, values, mean)
    size = ((h + 1) // 2, (w + 1) // 2)
    stacked = torch.stack([values * weights, weights])[None]
    sums = F.interpolate(stacked, size, mode="area")[0]
    coarse = spread(sums[0] / sums[1].clamp_min(1e-12), (4 * sums[1]).clamp_max(1.0))
    filled = F.interpolate(coarse[None, None], (h, w), mode="bilinear")[0, 0]
    return weights * values + (1 - weights) * filled
