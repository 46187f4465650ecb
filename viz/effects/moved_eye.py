"""One photo as seen from a little beside its camera: films with parallax, and stereo pairs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from viz.effects.photo_depth import JUMP, Hidden, PhotoDepth, hidden_behind

PARALLAX = 0.02
"""Of the picture's long side: how far the nearest and the farthest move against each other."""

_SECONDS, FRAMES_PER_SECOND = 4.0, 24


class MovedEye:
    """Draws a photo from places beside its camera.

    ``parallax``: how far near and far move at most, in shares of the long side. What stays still is
    at the median depth. Gaps behind edges show what :func:`hidden_behind` finds.
    """

    def __init__(self, photo: PhotoDepth, *, parallax: float = PARALLAX) -> None:
        inverse = 1 / photo.depth
        still = float(np.median(inverse))
        low, high = np.percentile(inverse, [1, 99])
        self._long = max(inverse.shape)
        # Pixels per step of inverse depth, for an eye one unit aside.
        self._gain = parallax * self._long / max(high - low, 1e-9 * still)
        self._still = still
        # The nearest moves no farther than a hundredth's outliers allow.
        self._most = 1.5 * parallax * self._long
        self.photo = photo
        self._layers: list[PhotoDepth | Hidden] = [
            hidden_behind(photo, int(np.ceil(2 * self._most)) + 2),
            photo,
        ]

    def draw(self, right: float, down: float, *, zoom: float = 1.0) -> NDArray[np.uint8]:
        """Return the picture (h, w, 3) for an eye at (``right``, ``down``), each within [-1, 1],
        enlarged by ``zoom`` about its middle.
        """
        import cv2

        from viz.effects.loops import warp

        h, w = self.photo.depth.shape
        out: NDArray[Any] = np.zeros((h, w, 3), np.uint8)
        nearest = np.zeros((h, w), np.float32)
        y, x = np.mgrid[:h, :w].astype(np.float32)
        middle_x, middle_y = (w - 1) / 2, (h - 1) / 2
        for layer in self._layers:
            inverse = (1 / layer.depth).astype(np.float32)
            shift = np.clip(self._gain * (inverse - self._still), -self._most, self._most)
            to_x = middle_x + zoom * (x - right * shift - middle_x)
            to_y = middle_y + zoom * (y - down * shift - middle_y)
            warp(
                layer.pixels,
                inverse,
                to_x.astype(np.float32),
                to_y.astype(np.float32),
                np.float32(JUMP),
                out,
                nearest,
            )
        gaps = (nearest == 0).astype(np.uint8)
        if gaps.any():
            out = cv2.inpaint(out, gaps, 3, cv2.INPAINT_TELEA)
        return np.asarray(out, np.uint8)


def parallax_film(photo: PhotoDepth, *, parallax: float = PARALLAX) -> Iterator[NDArray[np.uint8]]:
    """Yield the frames (h, w, 3) of a film that circles a little about the photo's camera, and can
    be looped. It comes slightly closer, so that nothing beyond the photo's edges shows.
    """
    eye = MovedEye(photo, parallax=parallax)
    count = round(_SECONDS * FRAMES_PER_SECOND)
    zoom = 1 + 2.2 * parallax
    for turn in 2 * np.pi * np.arange(count) / count:
        yield eye.draw(float(np.sin(turn)), 0.5 * float(np.cos(turn)), zoom=zoom)


def stereo_pair(
    photo: PhotoDepth, *, parallax: float = PARALLAX
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return what the left and the right eye see, (h, w, 3) each."""
    eye = MovedEye(photo, parallax=parallax)
    zoom = 1 + parallax
    return eye.draw(-0.5, 0, zoom=zoom), eye.draw(0.5, 0, zoom=zoom)


def side_by_side(photo: PhotoDepth, *, parallax: float = PARALLAX) -> NDArray[np.uint8]:
    """Return the stereo pair (h, 2 w, 3), the left eye's picture on the left."""
    return np.concatenate(stereo_pair(photo, parallax=parallax), axis=1)


# Dubois, "A projection method to generate anaglyph stereo images", ICASSP 2001: least squares for
# red and cyan filters.
_LEFT = np.array([[0.437, 0.449, 0.164], [-0.062, -0.062, -0.024], [-0.048, -0.050, -0.017]])
_RIGHT = np.array([[-0.011, -0.032, -0.007], [0.377, 0.761, 0.009], [-0.026, -0.093, 1.234]])


def anaglyph(photo: PhotoDepth, *, parallax: float = PARALLAX) -> NDArray[np.uint8]:
    """Return the picture (h, w, 3) for glasses with red before the left eye, cyan before the
    right one.
    """
    left, right = (eye / 255.0 for eye in stereo_pair(photo, parallax=parallax))
    mixed = left @ _LEFT.T + right @ _RIGHT.T
    return np.rint(255 * np.clip(mixed, 0, 1)).astype(np.uint8)
