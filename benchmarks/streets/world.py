"""Surfaces of a generated world: flat rectangles, each with a picture of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.streets.pictures import Painter, Picture
from pointmap.camera import Array


@dataclass(frozen=True)
class World:
    """F rectangles: ``corner`` (F, 3), where the top-left corner of the picture lies, with the edge
    vectors ``across`` and ``down`` (F, 3) over the whole picture; metres, z up. ``pictures``: the
    number of each rectangle's picture; equal places share theirs.
    """

    corner: Array
    across: Array
    down: Array
    picture: Sequence[int]
    pictures: Sequence[Picture]


class WorldBuilder:
    """Collects rectangles; ``rng`` draws everything that is painted."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self._corner: list[Array] = []
        self._across: list[Array] = []
        self._down: list[Array] = []
        self._picture: list[int] = []
        self._pictures: list[Picture] = []

    def __len__(self) -> int:
        return len(self._corner)

    def rectangle(
        self, corner: Array, across: Array, down: Array, paint: Painter, density: float
    ) -> None:
        """Add a rectangle with a new picture of ``density`` pixels per metre."""
        height, width = (max(4, int(np.linalg.norm(edge) * density)) for edge in (down, across))
        self._append(corner, across, down, len(self._pictures))
        self._pictures.append(paint(self.rng, height, width))

    def box(
        self,
        centre: Sequence[float],
        size: Sequence[float],
        paint: Painter,
        *,
        turn: float = 0.0,
        density: float = 110.0,
        unseen: Sequence[int] = (),
    ) -> None:
        """Add an upright box of ``size`` (x, y, z), turned about z by ``turn`` radians.

        Sides are numbered by where they face in the box's own frame: 0 -y, 1 +x, 2 +y, 3 -x, 4 +z;
        the bottom is left out. Those in ``unseen`` get a coarse picture.
        """
        c, s = np.cos(turn), np.sin(turn)
        axes = np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]]) * (np.asarray(size) / 2)[:, None]
        x, y, z = axes
        sides = ((-y, x), (x, y), (y, -x), (-x, -y))
        for number, (out, right) in enumerate(sides):
            sharp = 8.0 if number in unseen else density
            self.rectangle(centre + out - right + z, 2 * right, -2 * z, paint, sharp)
        sharp = 8.0 if 4 in unseen else density
        self.rectangle(centre + z - x + y, 2 * x, -2 * y, paint, sharp)

    def repeat(self, first: int, shift: Sequence[float]) -> None:
        """Add all rectangles from number ``first`` on once more, moved by ``shift``, with the very
        same pictures.
        """
        for n in range(first, len(self)):
            corner = self._corner[n] + np.asarray(shift)
            self._append(corner, self._across[n], self._down[n], self._picture[n])

    def world(self) -> World:
        """Return what was collected."""
        edges = (np.stack(rows) for rows in (self._corner, self._across, self._down))
        return World(*edges, tuple(self._picture), tuple(self._pictures))

    def _append(self, corner: Array, across: Array, down: Array, picture: int) -> None:
        self._corner.append(np.asarray(corner, np.float64))
        self._across.append(np.asarray(across, np.float64))
        self._down.append(np.asarray(down, np.float64))
        self._picture.append(picture)
