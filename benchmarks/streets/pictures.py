"""What the surfaces of the streets look like: pictures full of detail that occurs only once.

Every painter takes a random generator and a size in pixels and returns (h, w, 3) uint8 RGB. Their
patterns never tile: matching must not find the same spot twice because a texture repeats.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from pointmap.training.scenes.textures import to_bytes

Picture = NDArray[np.uint8]
Painter = Callable[[np.random.Generator, int, int], Picture]

_LETTERS = list("ABCDEFGHIKLMNOPRSTUVWXYZ0123456789")


def plaster(rng: np.random.Generator, height: int, width: int) -> Picture:
    """Rendered wall with stains, flaked spots and cracks."""
    image = _base(rng, height, width) * (1 + 0.5 * _noise(rng, height, width, 0.25))
    flaked = _noise(rng, height, width, 1.1)[..., 0] > 0.32
    image[flaked] = _colour(rng) * (1 + 0.3 * _noise(rng, height, width, 0.2)[flaked])
    canvas = to_bytes(image)
    for _ in range(1 + height * width // 60000):
        steps = rng.normal([0, 6], 7, (int(rng.integers(5, 30)), 2)).cumsum(axis=0)
        path = (steps + rng.uniform(0, [width, height])).astype(np.int32)
        cv2.polylines(canvas, [path], False, _ink(rng, 0.35), 1, cv2.LINE_AA)
    return canvas


def plain(rng: np.random.Generator, height: int, width: int) -> Picture:
    """A wall that matching finds next to nothing on."""
    return to_bytes(_base(rng, height, width) * (1 + 0.02 * _noise(rng, height, width, 1.5)))


def bricks(rng: np.random.Generator, height: int, width: int) -> Picture:
    """Courses of bricks, each with its own length and shade."""
    return _courses(rng, height, width, course=(9, 15), length=(1.6, 3.4), spread=0.22)


def ashlar(rng: np.random.Generator, height: int, width: int) -> Picture:
    """Large squared stones."""
    return _courses(rng, height, width, course=(26, 52), length=(0.8, 2.6), spread=0.14)


def boards(rng: np.random.Generator, height: int, width: int) -> Picture:
    """Upright boards of different widths with grain."""
    grain = cv2.resize(rng.standard_normal((max(2, height // 24), width)), (width, height))
    image = np.empty((height, width, 3))
    wood = _colour(rng) * 0.5 + np.array([0.30, 0.21, 0.13])
    left = 0
    while left < width:
        right = left + int(rng.integers(10, 26))
        image[:, left:right] = wood * rng.uniform(0.6, 1.35)
        image[:, left : left + 1] *= 0.35
        left = right
    image *= 1 + 0.16 * grain[..., None] + 0.4 * _noise(rng, height, width, 0.3)
    return to_bytes(image)


def paving(rng: np.random.Generator, height: int, width: int) -> Picture:
    """Worn ground with pebbles, patches and stains."""
    image = _base(rng, height, width) * (0.75 + 0.6 * _noise(rng, height, width, 0.2))
    canvas = to_bytes(image)
    for _ in range(height * width // 400):
        centre = tuple(int(c) for c in rng.uniform(0, [width, height]))
        axes = tuple(int(a) for a in rng.integers(1, 6, 2))
        turn = float(rng.uniform(0, 180))
        cv2.ellipse(canvas, centre, axes, turn, 0, 360, _ink(rng, 0.9), -1, cv2.LINE_AA)
    for _ in range(1 + height * width // 30000):
        at = rng.uniform(0, [width, height])
        corners = (at + rng.normal(0, 22, (5, 2))).astype(np.int32)
        cv2.fillConvexPoly(canvas, cv2.convexHull(corners), _ink(rng, 0.6), cv2.LINE_AA)
    return canvas


def clutter(rng: np.random.Generator, height: int, width: int) -> Picture:
    """Overlapping patches with sizes of a power law, the statistics of natural clutter."""
    canvas = to_bytes(_base(rng, height, width))
    for _ in range(height * width // 90):
        size = 2.0 / np.sqrt(rng.uniform(0.004, 1.0, 2))
        at, ink = rng.uniform(0, [width, height]), _ink(rng, 1.0)
        if rng.random() < 0.5:
            low, high = (tuple(int(v) for v in at + s * size) for s in (-1, 1))
            cv2.rectangle(canvas, low, high, ink, -1)
        else:
            centre, axes = (tuple(int(v) for v in pair) for pair in (at, size))
            cv2.ellipse(canvas, centre, axes, rng.uniform(0, 180), 0, 360, ink, -1, cv2.LINE_AA)
    return canvas


def poster(rng: np.random.Generator, height: int, width: int) -> Picture:
    """Print: lines of letters in several sizes, shapes, a frame."""
    paper = _base(rng, height, width) * 0.4 + 0.55
    canvas = to_bytes(paper * (1 + 0.06 * _noise(rng, height, width, 1.0)))
    for _ in range(int(rng.integers(2, 6))):
        at, size = rng.uniform(0, [width, height]), rng.uniform(0.05, 0.25) * min(height, width)
        cv2.circle(
            canvas, tuple(int(v) for v in at), int(size) + 1, _ink(rng, 1.0), -1, cv2.LINE_AA
        )
    line = 2
    while line < height:
        scale = float(rng.choice([0.3, 0.4, 0.55, 0.9, 1.5]))
        line += int(26 * scale)
        text = "".join(
            rng.choice(_LETTERS, int(rng.integers(4, 4 + int(width / (14 * scale)) + 1)))
        )
        ink, weight = _ink(rng, 0.5), 1 + int(scale)
        place = (int(rng.integers(0, 8)), line)
        cv2.putText(canvas, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, ink, weight, cv2.LINE_AA)
        line += int(rng.integers(2, 10))
    cv2.rectangle(canvas, (0, 0), (width - 1, height - 1), _ink(rng, 0.4), 3)
    return canvas


def window(rng: np.random.Generator, height: int, width: int) -> Picture:
    """Panes with curtains and things behind them in a frame."""
    canvas = (clutter(rng, height, width) * rng.uniform(0.25, 0.6)).astype(np.uint8)
    left, right = sorted(rng.uniform(0, width, 2).astype(int))
    canvas[: int(height * rng.uniform(0.3, 1)), left:right] = _ink(rng, 1.0)
    frame, thick = _ink(rng, 1.0), max(2, width // 18)
    for column in np.linspace(0, width - 1, int(rng.integers(2, 5))):
        cv2.line(canvas, (int(column), 0), (int(column), height), frame, thick)
    for row in np.unique(np.concatenate([[0.0, 1.0], rng.uniform(0.2, 0.8, 1)])) * (height - 1):
        cv2.line(canvas, (0, int(row)), (width, int(row)), frame, thick)
    return canvas


def _courses(
    rng: np.random.Generator,
    height: int,
    width: int,
    *,
    course: tuple[int, int],
    length: tuple[float, float],
    spread: float,
) -> Picture:
    image = np.empty((height, width, 3))
    brick, joint = _colour(rng), _colour(rng)
    top = 0
    while top < height:
        bottom = top + int(rng.integers(*course))
        left = -int(rng.integers(0, course[1]))
        while left < width:
            right = left + int((bottom - top) * rng.uniform(*length)) + 2
            image[top:bottom, max(left, 0) : right] = brick * np.exp(rng.normal(0, spread))
            image[top:bottom, max(left, 0) : max(left, 0) + 1] = joint
            left = right
        image[top : top + 1] = joint
        top = bottom
    return to_bytes(image * (1 + 0.45 * _noise(rng, height, width, 0.25)))


def _noise(rng: np.random.Generator, height: int, width: int, slope: float) -> NDArray[np.float64]:
    """Return noise (h, w, 1) of deviation 0.3; its octaves fall as 2^-slope to finer ones."""
    total, weight = np.zeros((height, width)), 0.0
    for octave in range(8):
        step = 2**octave
        rows, columns = height // step + 2, width // step + 2
        if min(rows, columns) < 3:
            break
        gain = 2.0 ** (slope * octave)
        coarse = rng.standard_normal((rows, columns))
        total += gain * cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        weight += gain * gain
    return (0.3 * total / np.sqrt(weight))[..., None]


def _colour(rng: np.random.Generator) -> NDArray[np.float64]:
    """Return a colour (3,) in [0, 1], mostly of low saturation."""
    tint = rng.uniform(0, 1, 3)
    return rng.uniform(0.4, 0.8) * (1 + rng.beta(1.5, 3) * (tint - tint.mean()))


def _base(rng: np.random.Generator, height: int, width: int) -> NDArray[np.float64]:
    return np.broadcast_to(_colour(rng), (height, width, 3)).copy()


def _ink(rng: np.random.Generator, bright: float) -> tuple[float, ...]:
    return tuple(float(v) for v in np.clip(_colour(rng) * 255 * bright, 0, 255))
