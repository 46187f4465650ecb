"""Results as one file of arrays each, and back: nothing in such a file can run code.

A file is one of safetensors with the arrays ``0``, ``1``, ... and ``tree``, JSON that says what
they are parts of; the file's last four bytes are the checksum of the others. An archive of NumPy,
which would do as well, takes thirty times as long to be read: a run that goes on reads hundreds.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from pointmap.camera import Array

# Only the project's own dataclasses are made from a file.
_PACKAGES = ("recon.", "pointmap.")
# Truth values, integers, floats.
_KINDS = "biuf"
_CHECKSUM_BYTES = 4


class Damaged(Exception):
    """A file that is not what was written."""


def pack(value: object) -> bytes:
    """Return the file of a result: dataclasses, tuples, lists, dictionaries with text keys, frozen
    sets, arrays of numbers, texts, numbers and None, in each other.

    Raises ``TypeError`` for anything else.
    """
    arrays: list[NDArray[Any]] = []
    tree = json.dumps(_tree(value, arrays))
    named = {str(number): _in_rows(array) for number, array in enumerate(arrays)}
    data = save({"tree": np.frombuffer(tree.encode(), np.uint8), **named})
    return data + _checksum(data)


def unpack(data: bytes) -> Any:
    """Return the result whose file this is; raises ``Damaged``."""
    content = data[:-_CHECKSUM_BYTES]
    if _checksum(content) != data[-_CHECKSUM_BYTES:]:
        raise Damaged("its checksum is another")
    try:
        named = load(content)
        tree = json.loads(named.pop("tree").tobytes())
        return _value(tree, [named[str(number)] for number in range(len(named))])
    except (
        SafetensorError,
        ValueError,
        KeyError,
        TypeError,
        IndexError,
        AttributeError,
        ImportError,
        RecursionError,
    ) as error:
        raise Damaged(str(error)) from error


def _checksum(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(_CHECKSUM_BYTES, "little")


def _in_rows(array: NDArray[Any]) -> NDArray[Any]:
    """Return the array as one whose bytes in memory are its numbers row by row, as the file has
    them.
    """
    return array if array.flags.c_contiguous else array.copy("C")


def size_of(value: object) -> int:
    """Return the bytes of all arrays in a result."""
    arrays: list[NDArray[Any]] = []
    _tree(value, arrays)
    return sum(array.nbytes for array in arrays)


def _tree(value: object, arrays: list[NDArray[Any]]) -> Any:
    """Return ``value`` as JSON has it, with the numbers of its arrays, which are appended."""
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in _KINDS:
            raise TypeError(f"an array of {value.dtype} cannot be kept in a file")
        # Sums depend on the order in memory.
        by_columns = value.flags.f_contiguous and not value.flags.c_contiguous
        arrays.append(value.T if by_columns else value)
        return {"columns" if by_columns else "array": len(arrays) - 1}
    if isinstance(value, np.generic):
        return _tree(value.item(), arrays)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kind = type(value)
        fields = {f.name: _tree(getattr(value, f.name), arrays) for f in dataclasses.fields(value)}
        return {"kind": [kind.__module__, kind.__qualname__], "fields": fields}
    if isinstance(value, dict):
        return {"dictionary": [[_text(k), _tree(v, arrays)] for k, v in value.items()]}
    if isinstance(value, (tuple, list, frozenset)):
        items = sorted(value) if isinstance(value, frozenset) else value
        return {type(value).__name__: [_tree(item, arrays) for item in items]}
    raise TypeError(f"a {type(value).__name__} cannot be kept in a file")


def _text(key: object) -> str:
    if not isinstance(key, str):
        raise TypeError(f"a key {key!r} cannot be kept in a file")
    return key


def _value(tree: Any, arrays: list[Array]) -> Any:
    if not isinstance(tree, dict):
        return tree
    if "array" in tree:
        return arrays[tree["array"]]
    if "columns" in tree:
        return arrays[tree["columns"]].T
    if "kind" in tree:
        module, name = tree["kind"]
        if not module.startswith(_PACKAGES):
            raise ValueError(f"{module} is none of the project's modules")
        kind = getattr(importlib.import_module(module), name)
        if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
            raise ValueError(f"{name} is no dataclass")
        return kind(**{key: _value(item, arrays) for key, item in tree["fields"].items()})
    if "dictionary" in tree:
        return {key: _value(item, arrays) for key, item in tree["dictionary"]}
    for make in (tuple, list, frozenset):
        if make.__name__ in tree:
            return make(_value(item, arrays) for item in tree[make.__name__])
    raise ValueError(f"{sorted(tree)} is no kind of value")
