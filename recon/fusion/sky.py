"""Which pixels show sky: what has no depth, and what looks like it and hangs together with it.

Matching gives the sky next to a roof the roof's depth (a window that straddles the outline matches
by the roof), so that a rim of sky would be fused into the roof.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array

# Neighbouring pixels (of 256 levels, after a light blur) further apart belong to different things.
_SMOOTH = 4.0
# A sky is this share of the photo at least, has no confirmed depth on this share of itself, and
# lies in the photo's upper half with this one.
_LEAST_SHARE = 0.01
_MOSTLY = 0.7
_ABOVE = 0.9
# Where up is known, a sky lies above the horizon, but for this much of an error, and can reach far
# down. It is then no darker than the photo's middle level, and no redder than blue, but for so many
# levels: plain walls are often warm.
_HORIZON_SLACK_DEG, _LEVELS = 1.5, 4.0
# Around a sky, pixels mix its colour with the outline's.
_RIM_PX = 2


def sky_mask(
    pixels: NDArray[np.uint8],
    confirmed: NDArray[np.bool_],
    usable: NDArray[np.bool_] | None = None,
    above_horizon: NDArray[np.bool_] | None = None,
) -> NDArray[np.bool_]:
    """Return the pixels (h, w) that show sky.

    A smooth region that reaches the picture's upper border, lies in its upper half (or is bright,
    not red, and above the horizon), and on most of which photos confirmed no depth is one. A plain
    ceiling looks the same; it has little measured depth to lose.

    Args:
        pixels: the photo (h, w, 3) RGB, upright.
        confirmed: (h, w) where depth is confirmed by other photos.
        usable: (h, w) what is neither masked nor transparent; None: everything.
        above_horizon: (h, w) what is seen above the horizon; None where nobody knows up.
    """
    import cv2

    blurred = cv2.GaussianBlur(pixels, (3, 3), 0).astype(np.float32)
    step = np.zeros(confirmed.shape, np.float32)
    across = np.abs(np.diff(blurred, axis=1)).max(-1)
    down = np.abs(np.diff(blurred, axis=0)).max(-1)
    step[:, 1:] = across
    step[1:] = np.maximum(step[1:], down)
    if usable is not None:
        step[~usable] = np.inf
    count, labels = cv2.connectedComponents((step < _SMOOTH).astype(np.uint8), connectivity=4)
    area = np.bincount(labels.ravel(), minlength=count)
    unconfirmed = area - np.bincount(labels[confirmed], minlength=count)
    above = np.bincount(labels[: len(labels) // 2].ravel(), minlength=count)
    is_sky = (area >= _LEAST_SHARE * labels.size) & (unconfirmed >= _MOSTLY * area)
    high = above >= _ABOVE * area
    if above_horizon is not None:
        high |= (np.bincount(labels[above_horizon], minlength=count) >= _ABOVE * area) & _like_sky(
            blurred, labels, count
        )
    is_sky &= high
    reaches_top = np.zeros(count, bool)
    reaches_top[labels[0]] = True
    # Number 0 is what is not smooth.
    reaches_top[0] = False
    sky = (is_sky & reaches_top)[labels]
    kernel = np.ones((2 * _RIM_PX + 1, 2 * _RIM_PX + 1), np.uint8)
    return cv2.dilate(sky.astype(np.uint8), kernel).astype(bool)


def rays_above_horizon(
    up: Sequence[float], cam_to_world: Array, rays: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """Return which pixels' ``rays`` (3, h, w), in their camera's frame, rise, or nearly, where
    ``up`` (3,) is in the world.
    """
    direction = (cam_to_world[:3, :3].T @ np.asarray(up)).astype(np.float32)
    rise = np.tensordot(direction, rays, 1) / np.linalg.norm(rays, axis=0)
    return np.asarray(rise > -np.sin(np.radians(_HORIZON_SLACK_DEG)))


def _like_sky(
    pixels: NDArray[np.float32], labels: NDArray[np.int32], count: int
) -> NDArray[np.bool_]:
    """Return which of the regions ``labels`` (h, w) of pixels (h, w, 3) have a sky's colours."""
    size = np.maximum(np.bincount(labels.ravel(), minlength=count), 1)
    red, green, blue = (
        np.bincount(labels.ravel(), pixels[..., k].ravel(), count) / size for k in range(3)
    )
    middle = float(np.median(pixels.mean(-1)))
    return ((red + green + blue) / 3 >= middle - _LEVELS) & (red <= blue + _LEVELS)
