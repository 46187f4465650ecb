"""Planes of sure depth that go on where depth is unsure and nothing supports it.

On a plane inverse depth is affine in pixels. Pixels that look like those of a plane around them
belong to it (Gallup, Frahm and Pollefeys 2010). Beside an outline windows match by the nearer thing
(Hirschmueller 2008, section 2.6), though all photos but few see it hide what lies behind: there a
plane goes on behind it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from recon.stereo.colour_fill import ColourGrid, spread_along_colours
from recon.stereo.piecewise_planes import find_planes

# A plane holds a sure pixel that is relatively as near to it, and a pixel belongs to the plane that
# holds more than so much of the sure pixels of like colour nearby. These are looked at on every
# second pixel.
_ON_PLANE, _MOSTLY, _EVERY = 0.015, 0.5, 2
# How far from an outline, as a share of the photo's longer side, a strip reaches, and how far away
# a plane has to be seen to go on in it.
_REACH = 0.02
# Depth is behind another from this relative distance on; what differs by less than the second from
# an outline is as near as it; no plane is taken whose inverse depth is below so much of what is
# expected.
_BEHIND, _AS_NEAR, _LEAST_INVERSE = 0.03, 0.05, 0.6


def continued(
    depth: NDArray[np.float32],
    confidence: NDArray[np.float32],
    pixels: NDArray[np.uint8],
    unsure: NDArray[np.bool_],
    supported: NDArray[np.bool_],
    contradicted: Callable[[NDArray[np.bool_], NDArray[np.float32]], NDArray[np.bool_]],
) -> NDArray[np.float32]:
    """Return depth (h, w) of the planes that go on at ``unsure`` pixels, 0 where none does.

    Those that other photos ``supported`` (h, w) stay, unless they are as near as an outline beside
    them: photos are wrong there alike. ``depth`` (0 = unknown), ``confidence`` (h, w) and
    ``pixels`` (h, w, 3) are the photo's; a lens bends planes too little within their reach to
    count. ``contradicted(where, depth)`` tells which of the pixels ``where`` (h, w) other photos
    look past at ``depth`` (P,).
    """
    own = np.where(depth > 0, 1 / np.maximum(depth, 1e-12), 0).astype(np.float32)
    sure = (depth > 0) & ~unsure
    inverse = np.where(sure, own, 0)
    weight = np.where(sure, confidence, 0).astype(np.float32) ** 2
    found = np.zeros_like(own)
    planes = find_planes(torch.from_numpy(inverse), torch.from_numpy(weight))
    if not len(planes):
        return found
    height, width = depth.shape
    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    surfaces = np.stack([a + b * x + c * y for a, b, c in planes.astype(np.float32)])
    belongs = (np.abs(surfaces - inverse) < _ON_PLANE * inverse).astype(np.float32)

    def take(surface: NDArray[np.float32], fits: NDArray[np.bool_]) -> NDArray[np.bool_]:
        fits &= surface > _LEAST_INVERSE * own
        if fits.any():
            fits[fits] = ~contradicted(fits, np.reciprocal(surface[fits]))
            found[fits] = surface[fits]
        return fits

    most = np.full_like(own, _MOSTLY)
    for surface, share in zip(surfaces, _like_shares(belongs, sure, pixels), strict=True):
        taken = take(surface, unsure & ~supported & (share > most))
        most[taken] = share[taken]
    limit = np.where(found == 0, _behind_outlines(own, inverse, unsure, supported), 0)
    for surface, seen in zip(surfaces, _seen_around(belongs, inverse), strict=True):
        # The nearest of those behind.
        take(surface, seen & (surface < limit) & (surface > found))
    return np.where(found > 0, 1 / np.maximum(found, 1e-12), 0)


def _like_shares(
    belongs: NDArray[np.float32], sure: NDArray[np.bool_], pixels: NDArray[np.uint8]
) -> NDArray[np.float32]:
    """Return which share (K, h, w) of the ``sure`` pixels of like colour nearby each plane holds,
    of those that ``belongs`` (K, h, w) says.
    """
    few = np.s_[..., ::_EVERY, ::_EVERY]
    held, known = (torch.from_numpy(v[few].astype(np.float32)) for v in (belongs, sure))
    colours = torch.from_numpy(pixels[::_EVERY, ::_EVERY].astype(np.float32) / 255)
    grid = ColourGrid.of(colours)
    shares = spread_along_colours(held, known, grid, torch.zeros_like(held)).numpy()
    height, width = sure.shape
    return shares.repeat(_EVERY, axis=1).repeat(_EVERY, axis=2)[:, :height, :width]


def _behind_outlines(
    own: NDArray[np.float32],
    inverse: NDArray[np.float32],
    unsure: NDArray[np.bool_],
    supported: NDArray[np.bool_],
) -> NDArray[np.float32]:
    """Return the inverse depth (h, w) below which a surface lies behind what is sure nearby, and
    behind the pixel's own depth; 0 where nothing is asked for.
    """
    import cv2

    front = cv2.dilate(inverse, np.ones(_window(own.shape), np.uint8))
    asked = unsure & (~supported | (np.abs(front - own) < _AS_NEAR * own))
    return np.where(asked, np.minimum(front, own) * np.float32(1 - _BEHIND), 0)


def _seen_around(
    belongs: NDArray[np.float32], inverse: NDArray[np.float32]
) -> list[NDArray[np.bool_]]:
    """Return where (h, w) each plane is seen nearby, behind what is in front there: it holds half
    of what is sure there and lies behind (``inverse`` depth (h, w), 0 where not sure).
    """
    import cv2

    window = _window(inverse.shape)
    front = cv2.dilate(inverse, np.ones(window, np.uint8), iterations=2)
    behind = ((inverse > 0) & (inverse < (1 - _BEHIND) * front)).astype(np.float32)
    least = np.maximum(_MOSTLY * cv2.boxFilter(behind, -1, window), 1e-6)
    return [cv2.boxFilter(held * behind, -1, window) > least for held in belongs]


def _window(shape: tuple[int, ...]) -> tuple[int, int]:
    side = 2 * max(1, round(_REACH * max(shape))) + 1
    return side, side
