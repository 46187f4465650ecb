"""Compiling a loop, or loading what an earlier run made of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit


def compiled(
    signature: str | None = None, *, without_nan: bool = False
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile a function for the ``signature`` that Python calls it with, or load what an earlier
    run made of it. Without one it is compiled as part of those that call it.

    ``without_nan`` promises that none occurs, so that a minimum may be taken in any order.
    """
    # Floats divided by zero are infinite or NaN: a check for an error would forbid vectors.
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    if without_nan:
        options["fastmath"] = {"nnan", "nsz"}

    def loop(function: Callable[..., Any]) -> Callable[..., Any]:
        if signature is None:
            return njit(**options)(function)
        try:
            return njit(signature, cache=True, **options)(function)
        except Exception:
            # Neither the folder of this file nor the user's cache folder can be written, the disk
            # is full, or what is kept there is damaged: compiled for this run alone.
            return njit(signature, **options)(function)

    return loop
