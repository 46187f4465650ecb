"""Values of JSON as the types that a dataclass declares."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from pointmap.outside.values import number, whole

_LARGEST_INT, _LARGEST_FLOAT = 2**53, 1e300


def as_type(value: Any, kind: Any, name: str) -> Any:
    """Return ``value`` as ``kind``: a dataclass, a type of JSON, or a union or tuple of such.

    Floats are finite, ints exact in a float64, and a bool is neither. Of a dataclass, fields that
    ``value`` does not have take their default, and entries that are no fields are left out. Raises
    ``ValueError`` that says ``name`` for anything else.
    """
    origin, inner = get_origin(kind), get_args(kind)
    if kind in (Any, object):
        return value
    if origin in (Union, types.UnionType):
        return _one_of(value, inner, name)
    if origin is Literal:
        if value not in inner:
            raise ValueError(f"{name} must be one of {', '.join(map(str, inner))}")
        return value
    if kind is int:
        return whole(value, name, -_LARGEST_INT, _LARGEST_INT)
    if kind is float:
        return number(value, name, -_LARGEST_FLOAT, _LARGEST_FLOAT)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ValueError(f"{name} must be a list")
        kinds = inner[:1] * len(value) if inner[1:] == (...,) else inner
        if len(kinds) != len(value):
            raise ValueError(f"{name} must have {len(kinds)} entries")
        return tuple(as_type(item, k, name) for item, k in zip(value, kinds, strict=True))
    if origin is dict:
        if not isinstance(value, dict):
            raise ValueError(f"{name} must be an object")
        return {as_type(k, inner[0], name): as_type(v, inner[1], name) for k, v in value.items()}
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _record(value, kind, name)
    if not isinstance(value, kind):
        words = {str: "text", bool: "true or false", types.NoneType: "null"}
        raise ValueError(f"{name} must be {words.get(kind, kind.__name__)}")
    return value


def _one_of(value: Any, kinds: tuple[Any, ...], name: str) -> Any:
    if value is None and types.NoneType in kinds:
        return None
    faults = []
    for kind in (kind for kind in kinds if kind is not types.NoneType):
        try:
            return as_type(value, kind, name)
        except ValueError as error:
            faults.append(str(error))
    raise ValueError(" or ".join(faults))


def _record(value: Any, kind: type, name: str) -> Any:
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} must be an object")
    hints = get_type_hints(kind)
    given = {}
    for field in dataclasses.fields(kind):
        if field.name in value:
            given[field.name] = as_type(value[field.name], hints[field.name], field.name)
        elif field.default is field.default_factory is dataclasses.MISSING:
            raise ValueError(f"{name} has no {field.name}")
    return kind(**given)
