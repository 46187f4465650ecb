"""Some pixels with inverse depth, and the planes they are on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array


@dataclass(frozen=True)
class Pixels:
    """Some pixels: ``at`` (N, 3) of 1, column and row, and inverse depth ``v`` (N,) there."""

    at: Array
    v: Array

    @staticmethod
    def of(numbers: NDArray[np.int64], inverse: NDArray[np.float32]) -> Pixels:
        """Return pixels by their ``numbers`` (N,) in a map of ``inverse`` depth (h, w)."""
        rows, columns = np.divmod(numbers, inverse.shape[1])
        at = np.stack([np.ones(len(numbers)), columns, rows], axis=1)
        return Pixels(at, inverse.ravel()[numbers].astype(float))

    def some(self, most: int) -> Pixels:
        """Return up to ``most`` of them, evenly chosen."""
        chosen = np.linspace(0, len(self.v) - 1, min(most, len(self.v))).astype(int)
        return Pixels(self.at[chosen], self.v[chosen])

    def ratio(self, planes: Array) -> Array:
        """Return the inverse depth of planes (C, 3) over that of the pixels: (C, N)."""
        return (planes @ self.at.T) / self.v

    def off(self, planes: Array) -> Array:
        """Return by how much planes (C, 3) are relatively off most pixels, infinite for those that
        don't lie before all of them: (C,).
        """
        ratio = self.ratio(planes)
        return np.where((ratio > 0).all(axis=1), np.median(np.abs(ratio - 1), axis=1), np.inf)

    def fitted(self, weight: Array | None = None) -> Array:
        """Return the plane (3,) of least relative error."""
        weighted = self.at * ((1 if weight is None else weight) / self.v**2)[:, None]
        return np.asarray(np.linalg.lstsq(weighted.T @ self.at, weighted.T @ self.v, rcond=None)[0])

    def residual(self, *, quadratic: bool) -> float:
        """Return the relative error, root of the mean square, of the best plane or quadric."""
        _, x, y = self.at.T / np.maximum(self.at.std(axis=0), 1)[:, None]
        terms = [np.ones(len(x)), x, y, *([x * x, x * y, y * y] if quadratic else [])]
        A = np.stack(terms, axis=1) / self.v[:, None]
        found = np.linalg.lstsq(A, np.ones(len(A)), rcond=None)[0]
        return float(np.sqrt(np.mean((A @ found - 1) ** 2)))

    def fitted_robustly(self) -> Array:
        """Return the plane (3,) of most pixels, from that of all (reweighted, Cauchy)."""
        plane = self.fitted()
        for _ in range(3):
            off = np.abs(self.ratio(plane[None])[0] - 1)
            plane = self.fitted(1 / (1 + (off / max(1.5 * float(np.median(off)), 1e-3)) ** 2))
        return plane


def evenly(where: NDArray[np.bool_], most: int) -> NDArray[np.int64]:
    """Return the numbers of up to ``most`` pixels that are true, evenly chosen."""
    numbers = np.flatnonzero(where)
    count = min(most, len(numbers))
    return numbers[np.linspace(0, len(numbers) - 1, count).astype(int)] if count else numbers
