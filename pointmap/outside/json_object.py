"""JSON of others: one object, of bounded depth and finite numbers."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn


def parse_object(text: str | bytes, *, infinite: bool = False) -> dict[str, Any]:
    """Return the object that ``text`` (UTF-8) holds; ``infinite``: infinity is a number there.

    Raises ``ValueError`` for anything else: damaged text, another value, objects nested so deep
    that nothing of ours writes them, and NaN, infinity and what is beyond a float64, which JSON
    itself does not know either.
    """
    try:
        value = json.loads(text, parse_constant=float if infinite else _refuse, parse_float=_finite)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number of JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{digits[:20]} is too large")
    return value
