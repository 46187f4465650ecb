"""Which way is up: what cameras, upright lines and level surfaces say of it together.

- Photographers keep the photo's x axis level: up is square to all x axes. Where all photos look the
  same way, that leaves open how far they look down.
- Upright edges of walls, doors and trunks meet in one vanishing point, which is up.
- Floors, tables, ceilings and the ground are level; roads and lawns not quite.

Each has a say according to the error it usually has. The sum is minimised by iteratively reweighted
least squares with Geman and McClure's weights, so that what agrees with nothing else loses its say.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array
from recon.world.surfaces import Surfaces
from recon.world.vertical_lines import Lines

# Usual errors in degrees: a camera's roll; an upright line; a pixel's normal; a whole floor, which
# may slope; a floor as a network sees it, confirmed by no other photo; the mean of the cameras' own
# up axes, which leans with their mean pitch.
_ROLL_DEG = 3.0
_LINE_DEG = 1.0
_NORMAL_DEG = 6.0
_FLOOR_DEG = 1.5
_UNCONFIRMED_DEG = 12.0
_MEAN_UP_DEG = 20.0
# What errs together has a say of so many at most: cameras by the hand that held them, lines by the
# lens and the poses.
_MOST_CAMERAS = 10.0
_MOST_LINES = 25.0
# The share of a scene's surface that is a whole floor.
_FLOOR_SHARE = 0.15
# How far from the cameras' own up to search: where their x axes span a plane, and where not.
_NEAR_DEG, _FAR_DEG = 12.0, 35.0
_MARGIN_DEG = 5.0
_TRIALS = 1000
_ROUNDS = 20
_SAMPLE = 50_000


@dataclass(frozen=True)
class Up:
    """``direction`` (3,), unit, in the cameras' world; ``sigma_deg``: how far off it may be (one
    standard deviation, in the worse direction).
    """

    direction: Array
    sigma_deg: float


def estimate_up(cam_to_world: Array, lines: Lines, surfaces: Surfaces) -> Up:
    """Return which way is up by cameras (N, 4, 4), N > 0, ``lines`` in their photos, and an even
    choice of the scene's ``surfaces``.
    """
    rights = cam_to_world[:, :3, 0]
    start = cameras_up(cam_to_world)
    cone_deg = _NEAR_DEG if _span_a_plane(rights) else _FAR_DEG
    near = np.abs(lines.normals @ start) < np.sin(np.radians(cone_deg))
    lines = Lines(lines.normals[near], lines.lengths[near])
    votes = _Votes(start, rights, lines, surfaces, cone_deg)
    candidates = [start, level_up(start, surfaces.normals), votes.vanishing_point]
    found = [votes.refined(candidate) for candidate in candidates]
    least = np.cos(np.radians(cone_deg + _MARGIN_DEG))
    inside = [up for up in found if up.direction @ start > least]
    return min(inside, key=lambda up: votes.cost(up.direction), default=Up(start, _MEAN_UP_DEG))


def cameras_up(cam_to_world: Array) -> Array:
    """Return the unit up direction (3,) of cameras (N, 4, 4).

    The mean of the cameras' own up leans with their mean pitch. Photographers keep the photo's x
    axis level, so the direction that is square to all x axes is better where these span a plane.
    """
    ups, rights = -cam_to_world[:, :3, 1], cam_to_world[:, :3, 0]
    mean = ups.mean(axis=0)
    mean = ups[0] if np.linalg.norm(mean) < 0.1 else mean / np.linalg.norm(mean)
    if not _span_a_plane(rights):
        return mean
    normal = np.linalg.svd(rights)[2][2]
    normal = normal * np.sign(normal @ mean or 1.0)
    return normal if normal @ mean > np.cos(np.radians(60)) else mean


def level_up(up: Array, normals: NDArray[np.floating]) -> Array:
    """Return ``up`` (3,) moved to the normal of the floor, a table, the ground, where there is one.

    ``normals`` (N, 3) are the scene's. The cone of those that count narrows from 30 to 8 degrees;
    unless 8 % of them end inside, the scene has no level surface and ``up`` stays.
    """
    sample = np.asarray(normals[:: max(1, len(normals) // _SAMPLE)], np.float64)
    level = up
    for cone_deg in (30.0, 20.0, 12.0, 8.0):
        near = sample @ level > np.cos(np.radians(cone_deg))
        if not near.any() or near.mean() < 0.08:
            return up
        level = sample[near].mean(axis=0)
        level /= np.linalg.norm(level)
    return level


def _span_a_plane(rights: Array) -> bool:
    """Return whether x axes (N, 3) have two directions well apart, and none beside them."""
    if len(rights) < 3:
        return False
    first, second, third = np.linalg.svd(rights, compute_uv=False)
    return bool(second > 0.2 * first and third < 0.4 * second)


def _vanishing_point(lines: Lines, start: Array, cone_deg: float) -> Array:
    """Return the direction within the cone around ``start`` that most lines agree with."""
    if len(lines.lengths) < 2:
        return start
    rng = np.random.default_rng(0)
    share = lines.lengths / lines.lengths.sum()
    pairs = rng.choice(len(share), (_TRIALS, 2), p=share)
    trials = np.cross(lines.normals[pairs[:, 0]], lines.normals[pairs[:, 1]])
    sizes = np.linalg.norm(trials, axis=1)
    # Lines of nearly one plane meet anywhere.
    trials = trials[sizes > 0.05] / sizes[sizes > 0.05, None]
    trials *= np.sign(trials @ start)[:, None]
    trials = np.vstack([start, trials[trials @ start > np.cos(np.radians(cone_deg))]])
    errors = (trials @ lines.normals.T) / np.radians(_LINE_DEG)
    return trials[np.argmax(np.exp(-0.5 * errors**2) @ lines.lengths)]


def _line_votes(lines: Lines, vanishing_point: Array) -> Array:
    """Return how many votes each line has (L,).

    All together as many as more lines agree with the vanishing point than would by chance: more
    than, in a band of the same width, nearly do.
    """
    off = np.degrees(np.arcsin(np.abs(lines.normals @ vanishing_point).clip(0, 1))) / _LINE_DEG
    agree = off < 2
    excess = agree.sum() - ((off >= 2) & (off < 6)).sum() / 2
    votes = np.clip(excess, 0.0, _MOST_LINES)
    return votes * lines.lengths / max(float(lines.lengths[agree].sum()), 1e-12)


def _bounded(squares: Array) -> Array:
    """Return Geman and McClure's cost of squared errors."""
    return squares / (1 + squares)


class _Votes:
    """All that says which way is up.

    Directions ``square`` (S, 3) to up have an ``error`` (S,) in radians and a ``weight`` (S,), a
    number of votes; normals (M, 3) lie along it, up or down.
    """

    def __init__(
        self, start: Array, rights: Array, lines: Lines, surfaces: Surfaces, cone_deg: float
    ) -> None:
        self._start = start
        self._square = np.concatenate([rights, lines.normals])
        self._error = np.radians(
            np.repeat([_ROLL_DEG, _LINE_DEG], [len(rights), len(lines.normals)])
        )
        self.vanishing_point = _vanishing_point(lines, start, cone_deg)
        self._weight = np.concatenate(
            [
                np.full(len(rights), min(1, _MOST_CAMERAS / len(rights))),
                _line_votes(lines, self.vanishing_point),
            ]
        )
        # As many votes of this error as a floor of that share of the surface is worth.
        normals = surfaces.normals[:: max(1, len(surfaces.normals) // _SAMPLE)]
        floor_votes = (_NORMAL_DEG / (_FLOOR_DEG if surfaces.confirmed else _UNCONFIRMED_DEG)) ** 2
        self._normal_votes = floor_votes / max(_FLOOR_SHARE * len(normals), 1)
        # Walls are not level, whatever else.
        steep = np.cos(np.radians(cone_deg + 2 * _MARGIN_DEG))
        self._normals = normals[np.abs(normals @ start) > steep]

    def _residuals(self, up: Array) -> tuple[Array, Array]:
        """Return the squared errors of both kinds, in squares of their usual errors."""
        square = (self._square @ up / self._error) ** 2
        along = (1 - (self._normals @ up) ** 2).clip(0) / np.radians(_NORMAL_DEG) ** 2
        return square, along

    def cost(self, up: Array) -> float:
        """Return how little ``up`` (3,) agrees with all that is known."""
        square, along = self._residuals(up)
        lean = np.arccos(np.clip(self._start @ up, -1, 1)) / np.radians(_MEAN_UP_DEG)
        told = self._weight @ _bounded(square) + self._normal_votes * _bounded(along).sum()
        return float(told + lean**2)

    def refined(self, up: Array) -> Up:
        """Return the best direction near ``up`` (3,)."""
        for _ in range(_ROUNDS):
            square, along = self._residuals(up)
            weight = self._weight / (1 + square) ** 2 / self._error**2
            rows = self._square * np.sqrt(weight)[:, None]
            level = self._normal_votes / (1 + along) ** 2 / np.radians(_NORMAL_DEG) ** 2
            lean = 1 / np.radians(_MEAN_UP_DEG) ** 2
            known = rows.T @ rows + (level.sum() + lean) * np.eye(3)
            known -= (self._normals * level[:, None]).T @ self._normals
            known -= lean * np.outer(self._start, self._start)
            values, axes = np.linalg.eigh(known)
            up = axes[:, 0] * np.sign(axes[:, 0] @ self._start or 1.0)
        return Up(up, float(np.degrees(1 / np.sqrt(max(values[1] - values[0], 1e-6)))))
