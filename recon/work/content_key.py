"""Names of results by what they depend on."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path

import numpy as np

import pointmap


def content_key(stage: str, version: int, *depends_on: object) -> str:
    """Return a name (64 hexadecimal digits) for what a stage makes of the values ``depends_on``.

    ``version``: of the stage; raised whenever the same values give another result. Results of
    another release of this program have other names, too. Values are compared by content: numbers,
    texts, arrays (with their type and shape), dataclasses field by field, mappings and sequences;
    those with a ``content_key`` by that, so that they need not be read. Raises ``TypeError`` for
    any other object, whose content nobody could tell.
    """
    digest = hashlib.sha256()
    _add(digest, (pointmap.__version__, stage, version, depends_on))
    return digest.hexdigest()


def item_key(items: Sequence[object], index: int) -> str:
    """Return a name of one of ``items``, which is not read if they know it."""
    known = getattr(items, "item_key", None)
    return content_key("item", 1, items[index]) if known is None else str(known(index))


def _add(digest: hashlib._Hash, value: object) -> None:
    """Feed ``value`` so that no two different ones feed the same bytes."""
    if isinstance(value, np.ndarray):
        array = np.ascontiguousarray(value)
        digest.update(f"array {array.dtype.str} {array.shape};".encode())
        digest.update(array.data if array.size else b"")
    elif isinstance(value, (str, bytes, Path)):
        data = value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")
        digest.update(f"{type(value).__name__} {len(data)};".encode() + data)
    elif isinstance(value, Enum):
        _add(digest, (type(value).__name__, value.name))
    elif value is None or isinstance(value, (bool, int, float, np.generic)):
        digest.update(f"{type(value).__name__} {value!r};".encode())
    # After what is common and plain: a key may take some finding out.
    elif (known := getattr(value, "content_key", None)) is not None:
        digest.update(f"key {known};".encode())
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        digest.update(f"{type(value).__name__} {names};".encode())
        for name in names:
            _add(digest, getattr(value, name))
    elif isinstance(value, Mapping):
        _add(digest, ("mapping", *value.items()))
    elif isinstance(value, (set, frozenset)):
        _add(digest, ("set", *sorted(value)))
    elif isinstance(value, Sequence):
        digest.update(f"sequence {len(value)};".encode())
        for item in value:
            _add(digest, item)
    else:
        raise TypeError(f"a {type(value).__name__} has no content to tell it from others by")
