"""Names that a package offers and that are imported when they are first asked for.

``import pointmap`` then needs neither torch nor Pillow, and the networks need torch alone.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def lazy_names(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Return the package's ``__getattr__`` (PEP 562): ``homes`` is {name: module it stands in}."""

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(homes[name]), name)

    return get
