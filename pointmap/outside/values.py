"""Numbers of others: finite, and within bounds that nothing real leaves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pointmap.camera import Array
from pointmap.lens import MODELS, Lens

MAX_SIDE_PX = 1_000_000
"""No photo is larger; also of numbers that are to be sides of one."""

MAX_LENGTH = 1e9
"""Coordinates beyond are no place: a millionth of it is less than float32 tells apart."""

MAX_K1 = 1000.0
"""Radial distortion; a long lens, whose rays all lie near the axis, may have a hundred."""

FOCAL_RANGE_PX = (0.01, 1e8)
"""Focal lengths of any size of photo."""


def number(value: Any, name: str, low: float, high: float) -> float:
    """Return ``value`` as a float in [low, high]; ``ValueError`` that says ``name`` otherwise."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise ValueError(f"{name} must be a number")
    # Compared before it is converted: an integer of JSON may have any number of digits.
    if not low <= value <= high:
        raise ValueError(f"{name} must be between {low:g} and {high:g}")
    return float(value)


def whole(value: Any, name: str, low: int, high: int) -> int:
    """Return ``value`` as an int in [low, high]; a float counts where it is a whole number."""
    checked = number(value, name, low, high)
    if not checked.is_integer():
        raise ValueError(f"{name} must be a whole number")
    return int(checked)


def checked_lens(model: str, coefficients: Sequence[Any]) -> Lens:
    """Return the lens of one of COLMAP's models; ``ValueError`` when its numbers are those of none.

    Models that are radial polynomials of one or two coefficients come back as the simplest of them.
    """
    names = MODELS.get(model)
    if names is None:
        raise ValueError(f"a lens called {model[:40]}")
    if len(coefficients) != len(names):
        raise ValueError(f"{len(coefficients)} coefficients of a lens {model}: it has {len(names)}")
    lens = Lens(
        model,
        tuple(number(k, n, -MAX_K1, MAX_K1) for n, k in zip(names, coefficients, strict=True)),
    )
    return Lens.radial(*lens.k1_k2) if lens.is_radial else lens


def matrix(value: Any, name: str, rows: int, columns: int, most: float) -> Array:
    """Return a list of lists as (rows, columns) float64, no entry beyond ``most`` in size.

    A flat list of as many numbers counts, row by row. Raises ``ValueError`` otherwise.
    """
    if isinstance(value, list) and len(value) == rows * columns and rows > 1:
        value = [value[k : k + columns] for k in range(0, rows * columns, columns)]
    if not (isinstance(value, list) and len(value) == rows) or not all(
        isinstance(row, list) and len(row) == columns for row in value
    ):
        raise ValueError(f"{name} must be {rows}x{columns}")
    return np.array(
        [[number(entry, f"every entry of {name}", -most, most) for entry in row] for row in value],
        np.float64,
    )
