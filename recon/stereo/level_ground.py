"""The level ground below a camera, as a surface to search around.

Ground seen at a grazing angle matches under surfaces of its own slope alone: not under planes that
face the camera, and not under those shaped like a prior that has it rise like a wall. All level
planes below a camera are multiples of one surface of inverse depth; the photos tell which of them
it is long before any one pixel does (planes swept along a direction of the scene: Gallup et al.,
CVPR 2007). And nothing that a photo shows lies under it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from pointmap.camera import Array
from recon.stereo.cross_check import Estimate
from recon.stereo.known_pixels import Pixels
from recon.stereo.photo import Photo2D, box_mean
from recon.stereo.plane_sweep import Scorer
from recon.stereo.search import Found, search

# Ground votes from where it lies so far below the horizon (three degrees); next to it rows of
# pixels are far apart on the ground. And it has to fill this share of the photo.
_BELOW, _LEAST_SHARE = 0.05, 0.05
# From one height of the camera to the next; and the factor of depth to either side within which
# the ground, which slopes, is searched.
_RATIO, _REACH = 1.1, 1.2
# How well a pixel has to match (scores are -1 to 1) for a say, and its surroundings to be ground.
_LEAST_SCORE, _LEAST_MATCH = 0.3, 0.1
# How much nearer than everything else that is known the ground at the lower edge may be.
_NEARER = 4.0
# It is there if so much of the photo below the horizon is known to be on it, and of what is known
# no more than this share of that lies under it. Seen from above (35 degrees below the horizon), it
# matches as other surfaces do, and between what stands on it, it lies deeper than what is known.
_LEAST_ON, _MOST_UNDER, _FROM_ABOVE = 0.1, 0.1, 0.7
# It ends at the farthest of what is known of it, but for this share.
_FARTHEST = 0.02


def level_plane(photo: Photo2D, up: Array) -> Tensor:
    """Return inverse depth (h, w) of the level plane one unit below the camera, 0 where it isn't.

    ``up`` (3,): unit, in the world. A plane n.x = d in the camera's axes has inverse depth n.r / d
    along the ray r = K^-1 (x, y, 1).
    """
    down = -photo.cam_to_world[:3, :3].T @ torch.from_numpy(up).to(photo.cam_to_world)
    per_column, per_row, first = torch.linalg.inv_ex(photo.intrinsics)[0].T @ down
    x, y = photo.pixel_centres()
    return (per_column * x + per_row * y[:, None] + first).clamp_min(0).float()


def ground_height(scorer: Scorer, plane: Tensor, low: float, high: float) -> float | None:
    """Return how high above the ground the camera is, in the cameras' units, to about a tenth; None
    if the photo shows too little of it.

    ``plane`` (h, w): of :func:`level_plane`; ``low``, ``high``: inverse depth of the farthest and
    nearest of what is known. It is where most of the photo below the horizon matches, ground or
    not.
    """
    below = plane > _BELOW
    if float(below.float().mean()) < _LEAST_SHARE:
        return None
    highest = float(plane[below].median()) / low
    lowest = float(plane.max()) / (_NEARER * high)
    if highest <= lowest:
        return None
    heights = lowest * _RATIO ** torch.arange(1 + math.log(highest / lowest) // math.log(_RATIO))
    scores = scorer(plane / heights.to(plane)[:, None, None])
    says = ((scores - _LEAST_SCORE).clamp_min(0) * below).sum((1, 2))
    return float(heights[int(says.argmax())])


def search_ground(
    scorer: Scorer,
    plane: Tensor,
    height: float,
    low: float,
    guess: Estimate,
    most: int,
    weight: float,
) -> Found:
    """Return what a search (:func:`recon.stereo.search.search`) finds around the ground, ``height``
    below the camera; at infinite energy where nothing there matches.
    """
    surface = (plane / height).clamp_min(low)
    found = search(scorer, surface / _REACH, surface * _REACH, guess, most, weight)
    # Plain surfaces match at any depth, and say nothing for the ground.
    plain = box_mean(scorer(found.inverse[None])[0], 2) < _LEAST_MATCH
    return replace(found, energy=found.energy.masked_fill(plain, torch.inf))


def ground_surface(
    photo: Photo2D, up: Array, height: float, known: Sequence[Estimate]
) -> Tensor | None:
    """Return inverse depth (h, w) of the ground at a grazing angle, 0 elsewhere: ``height`` below
    the camera, or rather the plane through what is ``known`` there, the surest first. None if that
    has too little on the ground, or too much under it (a table, whose floor is seen as well).
    """
    plane = level_plane(photo, up)
    below, level = plane > _BELOW, plane / height
    inverse, under = torch.zeros_like(plane), torch.zeros_like(below)
    for depth in known:
        told, its = below & (depth.confidence > 0), depth.depth * level
        on = told & (its < _REACH) & (its > 1 / _REACH) & (inverse == 0)
        under |= told & (its >= _REACH)
        inverse = torch.where(on, 1 / depth.depth.clamp_min(1e-12), inverse)
    on_ground = int((inverse > 0).sum())
    if on_ground < _LEAST_ON * int(below.sum()) or int(under.sum()) > _MOST_UNDER * on_ground:
        return None
    seen = inverse.cpu().numpy()
    a, b, c = Pixels.of(np.flatnonzero(seen), seen).fitted_robustly()
    rows, columns = (torch.arange(size, device=plane.device) for size in plane.shape)
    fitted = (a + b * columns + c * rows[:, None]).float()
    # Where it is not known any more, farther out, the plane may be far off.
    farthest = float(np.quantile(seen[seen > 0], _FARTHEST))
    return torch.where((fitted > farthest) & (plane < _FROM_ABOVE), fitted, 0.0)


def nearest(plane: Tensor, height: float | None, high: float) -> Tensor:
    """Return the largest inverse depth (h, w) to search: ``high``, or beyond it the ground's, which
    is ``height`` below the camera; None: there is none.
    """
    reach = 0.0 if height is None else _REACH / height
    return (reach * plane).clamp_min(high)
