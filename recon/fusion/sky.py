"""Which pixels show sky: what has no depth, and what looks like it and hangs together with it.

Matching gives the sky next to a roof the roof's depth (a window that straddles the outline matches
by the roof), so that a rim of sky would be fused into the roof.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array

# Neighbouring pixels (of 256 levels, after a light blur) further apart belong to different things.
_SMOOTH = 4.0
# A sky is this share of the photo at least, has no confirmed depth on this share of itself, and
# lies in the photo's upper half with this one.
_LEAST_SHARE = 0.01
# Between gables and towers it comes in smaller pieces, which are told by being the brightest, and
# by this share of the photos that look that way and see sky, too.
_LEAST_PIECE, _PIECE_VOTED = 0.001, 0.4
_MOSTLY = 0.7
_ABOVE = 0.9
# Where up is known, a sky lies above the horizon, but for this much of an error, and can reach far
# down. It is then no darker than the photo's middle level, and no redder than blue, but for so many
# levels: plain walls are often warm. At sunset it is at least brighter than nearly all the rest, at
# night below so many levels.
_HORIZON_SLACK_DEG, _LEVELS, _NIGHT = 1.5, 4.0, 16.0
# Gradients of haze match at some depth here and there, by chance or by what JPEG makes of them. So
# much more of a region above the horizon may be confirmed if it is blue (by so many levels), if it
# is brighter than nearly all the rest, and if all other photos see sky in its directions.
_BLUE, _BLUE_LEVELS, _BRIGHT, _VOTED = 0.1, 10.0, 0.1, 0.25
_BRIGHTER_THAN = 0.9
# A sky behind branches or leaves that fill the picture's border does not reach it. It is known by
# being blue, by this share of the photos that look that way, and by what is above it: nearly
# nothing is smooth there. Between the branches it shows where a pixel is as bright as it is, but
# for so many levels.
_BEHIND_VOTED, _ROUGH, _BETWEEN_LEVELS = 0.25, 0.9, 15
# Where so many of the photos are sure of a sky, others show scraps of it: behind branches, beside a
# gutter. They are told by being burnt out (blue, the first to go, is at this level), and by what is
# above them, of which no more than this share is confirmed: of what is over a white wall, more is.
_OUTDOORS, _BURNT, _UNDER = 0.2, 247, 0.4
# Directions are told apart by cells of so many degrees.
_CELL_DEG = 3
# Around a sky, pixels mix its colour with the outline's.
_RIM_PX = 2


def sky_mask(
    pixels: NDArray[np.uint8],
    confirmed: NDArray[np.bool_],
    usable: NDArray[np.bool_] | None = None,
    risen: NDArray[np.bool_] | None = None,
    votes: NDArray[np.float32] | None = None,
    *,
    firmly: NDArray[np.bool_] | None = None,
    outdoors: bool = False,
) -> NDArray[np.bool_]:
    """Return the pixels (h, w) that show sky.

    A smooth region that reaches the picture's upper border, lies in its upper half (where up is
    known: above the horizon, with the colours of a sky), and on most of which photos confirmed no
    depth is one. A plain white ceiling looks the same; it has little measured depth to lose. So is
    a blue one that branches part from the border, if other photos see sky there, and what shows
    between the branches; and what is burnt out, where there is a sky elsewhere.

    Args:
        pixels: the photo (h, w, 3) RGB, upright.
        confirmed: (h, w) where depth is confirmed by other photos.
        usable: (h, w) what is neither masked nor transparent; None: everything.
        risen: (h, w) what is seen above the horizon; None where nobody knows up.
        votes: (h, w) share of the photos that see sky in a pixel's direction (:class:`SkyVotes`).
        firmly: (h, w) where depth is confirmed beyond doubt; None: wherever it is. What has all
            the colours of a sky needs that.
        outdoors: whether photos are sure of a sky somewhere (:attr:`SkyVotes.outdoors`).
    """
    import cv2

    blurred = cv2.GaussianBlur(pixels, (3, 3), 0)
    smooth = np.ones(confirmed.shape, bool)
    smooth[:, 1:] = _alike(blurred[:, 1:], blurred[:, :-1])
    smooth[1:] &= _alike(blurred[1:], blurred[:-1])
    if usable is not None:
        smooth &= usable
    count, labels = cv2.connectedComponents(smooth.astype(np.uint8), connectivity=4)
    area = np.bincount(labels.ravel(), minlength=count)
    unconfirmed = area - np.bincount(labels[confirmed], minlength=count)
    above = np.bincount(labels[: len(labels) // 2].ravel(), minlength=count)
    is_sky = (above >= _ABOVE * area) & (unconfirmed >= _MOSTLY * area)
    least = np.full(count, _LEAST_SHARE)
    behind = np.zeros(count, bool)
    if risen is not None:
        high = np.bincount(labels[risen], minlength=count) >= _ABOVE * area
        like, blue, bright, black = _like_sky(blurred.astype(np.float32), labels, count)
        is_sky &= high & (like | bright | black)
        allowed = _BLUE * blue + _BRIGHT * bright
        piece = high & like & bright
        if firmly is not None:
            unsure = area - np.bincount(labels[firmly], minlength=count)
            is_sky |= high & like & (allowed >= _BLUE + _BRIGHT) & (unsure >= _MOSTLY * area)
        if votes is not None:
            voted = np.bincount(labels.ravel(), votes.ravel(), count) / np.maximum(area, 1)
            allowed = allowed + _VOTED * voted
            piece &= voted >= _PIECE_VOTED
            behind = high & like & blue & (voted >= _BEHIND_VOTED)
        least[piece] = _LEAST_PIECE
        is_sky |= high & like & (unconfirmed >= (_MOSTLY - allowed) * area)
    is_sky &= area >= least * labels.size
    reaches_top = np.zeros(count, bool)
    reaches_top[labels[0]] = True
    # Number 0 is what is not smooth.
    reaches_top[0] = False
    sky = (is_sky & reaches_top)[labels]
    behind &= is_sky & ~reaches_top & (area >= _LEAST_SHARE * labels.size)
    rough = (area < _LEAST_PIECE * labels.size)[labels] | (labels == 0)
    if behind.any():
        sky |= _behind_branches(behind[labels], rough, pixels)
    if outdoors and risen is not None:
        sky |= _scraps(blurred, risen if usable is None else risen & usable, confirmed)
    kernel = np.ones((2 * _RIM_PX + 1, 2 * _RIM_PX + 1), np.uint8)
    return cv2.dilate(sky.astype(np.uint8), kernel).astype(bool)


def _behind_branches(
    region: NDArray[np.bool_], rough: NDArray[np.bool_], pixels: NDArray[np.uint8]
) -> NDArray[np.bool_]:
    """Return the pixels (h, w) of a sky and of what shows of it between the branches above; none
    where more is above it than what is ``rough`` (h, w).
    """
    columns = np.flatnonzero(region.any(axis=0))
    top = np.interp(np.arange(region.shape[1]), columns, region.argmax(axis=0)[columns])
    above = np.arange(len(region))[:, None] < top
    if rough[above].mean() < _ROUGH:
        return np.zeros_like(region)
    bright = (pixels >= np.median(pixels[region], axis=0) - _BETWEEN_LEVELS).all(axis=-1)
    return np.asarray(region | (above & bright))


def _scraps(
    pixels: NDArray[Any], risen: NDArray[np.bool_], confirmed: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Return the pixels (h, w) of what is burnt out, above the horizon, mostly unconfirmed, and
    below mostly unconfirmed pixels.
    """
    import cv2

    burnt = risen & (pixels[..., 2] >= _BURNT) & (pixels[..., 2] + _LEVELS >= pixels[..., 0])
    count, labels = cv2.connectedComponents(burnt.astype(np.uint8), connectivity=4)
    area = np.bincount(labels.ravel(), minlength=count)
    unconfirmed = area - np.bincount(labels[confirmed], minlength=count)
    over = np.cumsum(confirmed, axis=0) / np.arange(1, len(confirmed) + 1)[:, None]
    under = np.bincount(labels.ravel(), over.ravel(), count)
    scrap = (unconfirmed >= _MOSTLY * area) & (under <= _UNDER * area)
    return np.asarray(burnt & scrap[labels])


def _alike(first: NDArray[Any], second: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which pixels (h, w) of two pictures (h, w, 3) could be neighbours in one thing."""
    import cv2

    apart = cv2.absdiff(first, second) < _SMOOTH
    return np.asarray(apart[..., 0] & apart[..., 1] & apart[..., 2])


def above_horizon(up: Sequence[float], directions: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return which unit ``directions`` (3, ...) of the world rise, or nearly; ``up`` (3,) is up."""
    rise = np.tensordot(np.asarray(up, np.float32), directions, 1)
    return np.asarray(rise > -np.sin(np.radians(_HORIZON_SLACK_DEG)))


def ray_directions(cam_to_world: Array, rays: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return ``rays`` (3, h, w) of a camera's frame as unit directions of the world."""
    turned = np.tensordot(cam_to_world[:3, :3].astype(np.float32), rays, 1)
    return np.asarray(turned / np.linalg.norm(turned, axis=0), np.float32)


class SkyVotes:
    """In which directions photos see sky: what is infinitely far lies in one direction for all."""

    def __init__(self) -> None:
        self._shape = 180 // _CELL_DEG, 360 // _CELL_DEG
        self._seen, self._sky = np.zeros((2, self._shape[0] * self._shape[1]), np.float32)
        self._photos = self._with_sky = 0

    def add(self, directions: NDArray[np.float32], sky: NDArray[np.bool_]) -> None:
        """Take in what a photo sees in unit ``directions`` (3, ...) of the world, and where that is
        ``sky`` (...).
        """
        self._photos += 1
        self._with_sky += bool(sky.any())
        cells = self._cells(directions)
        every = np.bincount(cells.ravel(), minlength=len(self._seen))
        self._seen += every > 0
        self._sky += np.bincount(cells[sky], minlength=len(self._sky)) > 0.5 * np.maximum(every, 1)

    @property
    def outdoors(self) -> bool:
        """Whether enough of the photos see sky for the others to show scraps of it."""
        return self._with_sky >= _OUTDOORS * max(self._photos, 1)

    def share(self, directions: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the share of the photos that see sky in ``directions`` (3, ...), of those that see
        anything there.
        """
        cells = self._cells(directions)
        return np.asarray(self._sky[cells] / np.maximum(self._seen[cells], 1), np.float32)

    def _cells(self, directions: NDArray[np.float32]) -> NDArray[np.int64]:
        x, y, z = directions
        row = np.degrees(np.arccos(np.clip(z, -1, 1))) // _CELL_DEG
        column = (np.degrees(np.arctan2(y, x)) % 360) // _CELL_DEG
        rows, columns = self._shape
        cells = np.minimum(row, rows - 1) * columns + np.minimum(column, columns - 1)
        return np.asarray(cells.astype(np.int64))


def _like_sky(
    pixels: NDArray[np.float32], labels: NDArray[Any], count: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which of the regions ``labels`` (h, w) of pixels (h, w, 3) may be a sky of the day by
    their colours, which are blue, which brighter than nearly all the rest, and which black.
    """
    size = np.maximum(np.bincount(labels.ravel(), minlength=count), 1)
    red, green, blue = (
        np.bincount(labels.ravel(), pixels[..., k].ravel(), count) / size for k in range(3)
    )
    level, every = (red + green + blue) / 3, pixels.mean(-1)
    like = (level >= float(np.median(every)) - _LEVELS) & (red <= blue + _LEVELS)
    # The largest of these may be as bright as the one that is asked about, and so is that itself.
    of_regions = np.where(like, size, 0)
    of_regions[0] = 0
    counted = labels != np.argmax(of_regions) if of_regions.any() else np.ones(labels.shape, bool)
    others = np.sort(every[counted])
    brighter = len(others) - np.searchsorted(others, level, side="right")
    own = counted & (every > level[labels])
    brighter = brighter - np.bincount(labels[own], minlength=count)
    rest = len(others) - np.bincount(labels[counted], minlength=count)
    bright = brighter <= (1 - _BRIGHTER_THAN) * rest
    return like, blue - red >= _BLUE_LEVELS, bright, level < _NIGHT
