"""Lays streets of houses: blocks along a walk, and single places with a house that may repeat."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from benchmarks.streets.pictures import (
    Painter,
    ashlar,
    boards,
    bricks,
    clutter,
    paving,
    plain,
    plaster,
    poster,
    window,
)
from benchmarks.streets.world import World, WorldBuilder
from pointmap.camera import Array

STREET_WIDTH = 4.5
"""Between the fronts of a street's two sides, in metres."""
_WALLS: tuple[Painter, ...] = (plaster, bricks, ashlar, boards, plaster, plain)
_FURNITURE: tuple[Painter, ...] = (boards, clutter, poster, plaster, boards)
_GROUND_DENSITY = 80.0
PLACE_APART = 200.0
"""Metres between the two places of a folder: neither is seen from the other."""


def street_world(rng: np.random.Generator, *, blocks: int, pitch: float) -> World:
    """Return square blocks of houses around the walk of :func:`benchmarks.streets.walks.street`.

    Streets lie along x = i * ``pitch`` and y = j * ``pitch``; the walk goes round the blocks on the
    diagonal, and those beside them close the view.
    """
    builder = WorldBuilder(rng)
    diagonal = np.arange(blocks)
    cells = {(int(k + i), int(k + j)) for k in diagonal for i in (-1, 0, 1) for j in (-1, 0, 1)}
    for i, j in sorted(cells):
        _block(builder, np.array([i, j]) * pitch + STREET_WIDTH / 2, pitch - STREET_WIDTH)
    for x, y in sorted({(i + a, j + b) for i, j in cells for a in (0, 1) for b in (0, 1)}):
        _slab(builder, (x * pitch, y * pitch), (STREET_WIDTH, STREET_WIDTH))
    middle, gap = pitch / 2, pitch - STREET_WIDTH
    for x, y in sorted({(i, j + b) for i, j in cells for b in (0, 1)}):
        _slab(builder, (x * pitch + middle, y * pitch), (gap, STREET_WIDTH))
    for x, y in sorted({(i + a, j) for i, j in cells for a in (0, 1)}):
        _slab(builder, (x * pitch, y * pitch + middle), (STREET_WIDTH, gap))
    low, high = -2.0 * pitch - 20, (blocks + 2.0) * pitch + 20
    _surroundings(builder, (low, low), (high, high))
    return builder.world()


def two_places_world(rng: np.random.Generator, *, equal: bool) -> World:
    """Return two places far apart, each a house front between neighbours.

    ``equal``: the house fronts with all before them are the same in shape and picture, and only
    their neighbours differ.
    """
    builder = WorldBuilder(rng)
    first = len(builder)
    _front(builder, 0.0)
    if equal:
        builder.repeat(first, (PLACE_APART, 0.0, 0.0))
    else:
        _front(builder, PLACE_APART)
    for x in (0.0, PLACE_APART):
        _neighbours(builder, x)
    _surroundings(builder, (-60.0, -80.0), (PLACE_APART + 60.0, 60.0))
    return builder.world()


def _block(builder: WorldBuilder, low: Array, side: float) -> None:
    """Add the houses on the four sides of a block, counter-clockwise from its corner ``low``."""
    depth = min(2.5, side / 2)
    corners = low + side * np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
    for number, corner in enumerate(corners):
        turn = number * np.pi / 2
        # Sides along y stand between the two others.
        inset = depth if number % 2 else 0.0
        along = np.array([np.cos(turn), np.sin(turn)])
        if side - 2 * inset > 0.8:
            _row(builder, corner + inset * along, turn, side - 2 * inset, depth)


def _row(builder: WorldBuilder, start: Array, turn: float, length: float, depth: float) -> None:
    """Add houses side by side from ``start`` along ``turn``; their fronts face to its right."""
    rng = builder.rng
    count = max(1, round(length / 4.5))
    cuts = np.concatenate([[0], np.cumsum(rng.dirichlet(np.full(count, 12.0)))]) * length
    for left, right in pairwise(cuts):
        tall, set_back = rng.uniform(3.4, 6.0), rng.uniform(0, min(0.35, 0.15 * depth))
        place = _Place(start, turn)
        place.box(
            builder, (left + right) / 2, -set_back - (depth - set_back) / 2, tall / 2,
            (right - left, depth - set_back, tall), _pick(rng, _WALLS),
            density=90.0, unseen=(2, 4),
        )  # fmt: skip
        _openings(builder, place, left, right, -set_back, tall)
    _furniture(builder, _Place(start, turn), length)


class _Place:
    """A frame on the ground: x along ``turn`` from ``start``, ``out`` away from the house."""

    def __init__(self, start: Array, turn: float) -> None:
        self.start, self.turn = start, turn
        self._along = np.array([np.cos(turn), np.sin(turn)])
        self._out = np.array([np.sin(turn), -np.cos(turn)])

    def box(
        self,
        builder: WorldBuilder,
        x: float,
        out: float,
        z: float,
        size: Sequence[float],
        paint: Painter,
        *,
        turn: float = 0.0,
        density: float = 140.0,
        unseen: Sequence[int] = (),
    ) -> None:
        """Add a box with its centre at (x, out, z)."""
        centre = [*(self.start + x * self._along + out * self._out), z]
        builder.box(centre, size, paint, turn=self.turn + turn, density=density, unseen=unseen)


def _openings(
    builder: WorldBuilder, place: _Place, left: float, right: float, front: float, tall: float
) -> None:
    """Add windows, a door, posters and an awning to a house front."""
    rng, hidden = builder.rng, (2,)
    columns = max(1, int((right - left) / 1.5))
    door = int(rng.integers(0, columns))
    for column in range(columns):
        x = left + (right - left) * (column + 0.5 + rng.uniform(-0.12, 0.12)) / columns
        room = (right - left) / columns
        if column == door:
            size = (min(0.95, 0.8 * room), 0.16, 2.05)
            place.box(builder, x, front, 1.02, size, boards, density=130.0, unseen=hidden)
            size = (min(1.4, room), 0.2, 0.4)
            place.box(builder, x, front + 0.05, 2.45, size, poster, density=170.0, unseen=hidden)
        elif rng.random() < 0.75:
            size = (0.75 * min(room, rng.uniform(0.9, 1.7)), 0.14, rng.uniform(0.8, 1.3))
            place.box(builder, x, front, 1.55, size, window, unseen=hidden)
        else:
            size = (0.75 * min(room, 1.2), 0.05, rng.uniform(0.6, 1.1))
            place.box(builder, x, front, 1.5, size, poster, density=170.0, unseen=hidden)
        if tall > 4.3 and rng.random() < 0.8:
            size = (0.75 * min(room, rng.uniform(0.9, 1.4)), 0.14, 1.1)
            place.box(builder, x, front, 3.6, size, window, density=90.0, unseen=hidden)
    if rng.random() < 0.35:
        size = (0.7 * (right - left), 0.8, 0.14)
        place.box(builder, (left + right) / 2, front + 0.4, 2.75, size, boards, density=90.0)


def _furniture(builder: WorldBuilder, place: _Place, length: float) -> None:
    """Add boxes of all sizes on the pavement before a row of houses."""
    rng = builder.rng
    for x in np.arange(0.8, length - 0.3, 1.7) + rng.uniform(-0.4, 0.4):
        size = rng.uniform([0.25, 0.2, 0.25], [0.8, 0.5, 1.1])
        out, turn = 0.12 + size.max() / 2, rng.uniform(-0.5, 0.5)
        paint = _pick(rng, _FURNITURE)
        place.box(builder, x, out, size[2] / 2, size, paint, turn=turn)
        if rng.random() < 0.4:
            lid = size * rng.uniform(0.5, 0.8)
            height = size[2] + lid[2] / 2
            place.box(builder, x, out, height, lid, _pick(rng, _FURNITURE), turn=turn + 0.4)


def _slab(builder: WorldBuilder, centre: tuple[float, float], size: tuple[float, float]) -> None:
    corner = np.array([centre[0] - size[0] / 2, centre[1] + size[1] / 2, 0.0])
    across, down = np.array([size[0], 0, 0]), np.array([0, -size[1], 0])
    builder.rectangle(corner, across, down, paving, _GROUND_DENSITY)


def _surroundings(
    builder: WorldBuilder, low: tuple[float, float], high: tuple[float, float]
) -> None:
    """Add far ground just below the streets, and hills around it."""
    (x0, y0), (x1, y1) = low, high
    east, north, deep = np.array([x1 - x0, 0, 0]), np.array([0, y1 - y0, 0]), np.array([0, 0, -9.0])
    builder.rectangle(np.array([x0, y1, -0.02]), east, -north, paving, 8.0)
    for corner, across in (
        ((x0, y1), east), ((x1, y1), -north), ((x1, y0), -east), ((x0, y0), north),
    ):  # fmt: skip
        builder.rectangle(np.array([*corner, 8.0]), across, deep, paving, 10.0)


def _front(builder: WorldBuilder, x: float) -> None:
    """Add the house front of a place, with what stands before it, centred at (x, 0)."""
    _row(builder, np.array([x - 3.5, 0.0]), 0.0, 7.0, 2.5)
    place = _Place(np.array([x - 3.5, 0.0]), 0.0)
    for _ in range(4):
        size = builder.rng.uniform([0.3, 0.3, 0.3], [0.9, 0.7, 1.2])
        at, out = builder.rng.uniform(0.8, 6.2), builder.rng.uniform(1.4, 2.6)
        turn = builder.rng.uniform(0, 3)
        place.box(builder, at, out, size[2] / 2, size, _pick(builder.rng, _FURNITURE), turn=turn)
    _slab(builder, (x, -4.0), (7.0, 8.0))


def _neighbours(builder: WorldBuilder, x: float) -> None:
    """Add what stands to both sides of a place: houses, and a wall at right angles beyond."""
    for side in (-1, 1):
        _row(builder, np.array([x + side * 7.0 - 3.5, 0.4]), 0.0, 7.0, 2.5)
        _slab(builder, (x + side * 7.0, -4.0), (7.0, 8.0))
    _row(builder, np.array([x - 10.5, -8.0]), np.pi / 2, 8.0, 1.0)
    _row(builder, np.array([x + 10.5, 0.0]), -np.pi / 2, 8.0, 1.0)


def _pick(rng: np.random.Generator, painters: Sequence[Painter]) -> Painter:
    return painters[int(rng.integers(len(painters)))]
