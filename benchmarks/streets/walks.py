"""Where photographs of generated streets are taken from: hand-held, eye-high, looking about."""

from __future__ import annotations

import numpy as np

from pointmap.camera import Array, pinhole
from pointmap.training.rendering.ray_tracing import PinholeCamera
from pointmap.training.rendering.trajectories import look_at

WIDTH, HEIGHT = 640, 480
FOCAL_PX = 0.8 * WIDTH
STEP = 0.6
"""Metres from a photo of a walk to the next."""
_EYE = 1.6
_LOOK_DEG, _LOOK_PERIOD = 40.0, 32
"""The walker's gaze swings by this to either side, once in so many photos."""
_CORNER = 2.4
"""Metres over which the walk is smoothed, at corners."""


def street(rng: np.random.Generator, *, count: int, blocks: int) -> list[PinholeCamera]:
    """Walk round ``blocks`` square blocks that meet at their corners, back to the start.

    The walk passes by one side of every block on its way out and by the other on its way home, so
    that it crosses itself wherever two blocks meet. Photos are ``STEP`` apart.
    """
    path = _smooth(_outline(blocks) * pitch_of(count, blocks))
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
    at = np.arange(count) / count * length[-1]
    place = np.stack([np.interp(at, length, path[:, k]) for k in (0, 1)], axis=1)
    ahead = np.stack([np.interp((at + 0.3) % length[-1], length, path[:, k]) for k in (0, 1)], 1)
    heading = np.arctan2(*(ahead - place).T[::-1])
    swings = max(1, round(count / _LOOK_PERIOD))
    gaze = heading + np.radians(_LOOK_DEG) * np.sin(2 * np.pi * swings * np.arange(count) / count)
    return [_hand_held(rng, *photo) for photo in zip(place, gaze, strict=True)]


def pitch_of(count: int, blocks: int) -> float:
    """Return the metres from street to street for which ``count`` photos lie ``STEP`` apart."""
    return count * STEP / (4 * blocks)


def arc(rng: np.random.Generator, *, count: int, x: float) -> list[PinholeCamera]:
    """Walk on an arc of 110 degrees around a house front whose middle is at (x, 0)."""
    cameras = []
    for turn in np.radians(np.linspace(-55, 55, count)):
        place = np.array([x + 6.3 * np.sin(turn), -6.3 * np.cos(turn)])
        aim = np.array([x - 2.2 * np.sin(turn), 0.0])
        cameras.append(_hand_held(rng, place, np.arctan2(*(aim - place)[::-1])))
    return cameras


def _hand_held(rng: np.random.Generator, place: Array, gaze: float) -> PinholeCamera:
    turn = gaze + np.radians(rng.normal(0, 3))
    eye = np.array([*(place + rng.normal(0, 0.1, 2)), _EYE + rng.normal(0, 0.06)])
    forward = np.array([np.cos(turn), np.sin(turn), np.tan(np.radians(rng.normal(2, 3)))])
    pose = look_at(eye, eye + forward, roll=np.radians(rng.normal(0, 1.5)))
    return PinholeCamera(pinhole(FOCAL_PX, WIDTH, HEIGHT), pose, HEIGHT, WIDTH)


def _outline(blocks: int) -> Array:
    """Return the corners (C, 2) of the closed walk in units of the pitch; the last is the first."""
    there = [(0, 0)]
    for k in range(blocks):
        # Every second block is passed on the other side: the walk goes straight on where they meet.
        there += [(k + 1, k) if k % 2 == 0 else (k, k + 1), (k + 1, k + 1)]
    back = [(y, x) for x, y in there[::-1]]
    return np.array(there + back[1:], np.float64)


def _smooth(corners: Array) -> Array:
    """Return the closed walk through ``corners`` in steps of 5 cm, its corners rounded."""
    edges = np.linalg.norm(np.diff(corners, axis=0), axis=1)
    length = np.concatenate([[0], np.cumsum(edges)])
    steps = round(length[-1] / 0.05)
    at = np.arange(steps) / steps * length[-1]
    window = round(_CORNER / 0.05)
    kernel = np.ones(window) / window
    path = []
    for k in (0, 1):
        line = np.interp(at, length, corners[:, k])
        padded = np.concatenate([line[-window:], line, line[:window]])
        path.append(np.convolve(padded, kernel, "same")[window:-window])
    closed = np.stack(path, axis=1)
    return np.concatenate([closed, closed[:1]])
