"""PLY files as other programs save them: ASCII or binary, with properties of any names.

Not read by Open3D (0.20), whose reader a long line of the header overflows. Format: Greg Turk, "The
PLY Polygon File Format", 1994.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array
from pointmap.outside.values import MAX_LENGTH

_TYPES = {
    name: kind
    for kind, names in {
        "i1": "char int8",
        "u1": "uchar uint8",
        "i2": "short int16",
        "u2": "ushort uint16",
        "i4": "int int32",
        "u4": "uint uint32",
        "f4": "float float32",
        "f8": "double float64",
    }.items()
    for name in names.split()
}
_ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
_HEADER_END = re.compile(rb"\nend_header[ \t]*\r?\n")
_MOST_HEADER_BYTES, _MOST_ASCII_BYTES = 1 << 16, 1 << 28
# Faces of different numbers of corners are read one by one.
_MOST_MIXED_FACES = 100_000


@dataclass(frozen=True)
class Property:
    """``kind``: NumPy's; ``length``: that of the number before a list, None for a single value."""

    name: str
    kind: str
    length: str | None = None


@dataclass(frozen=True)
class _Element:
    name: str
    count: int
    properties: list[Property]


@dataclass(frozen=True)
class ForeignPly:
    """``columns`` of the vertices by name, (V,) each, and the ``faces`` (F, 3) as triangles."""

    columns: Mapping[str, NDArray[Any]]
    faces: NDArray[np.int32]

    def stacked(self, *names: str) -> NDArray[Any] | None:
        """Return columns side by side, (V, len(names)); None where the file has not all of them."""
        if not all(name in self.columns for name in names):
            return None
        return np.stack([self.columns[name] for name in names], axis=-1)


def parse_ply(data: bytes) -> ForeignPly:
    """Return what a PLY file says of vertices and faces; polygons become fans of triangles.

    Raises ``ValueError`` when it is damaged: counts are compared with what the file holds before
    anything is read.
    """
    end = _HEADER_END.search(data, 0, _MOST_HEADER_BYTES)
    if not data.startswith(b"ply") or end is None:
        raise ValueError("no header of a PLY file")
    order, elements = _header(data[: end.start()].decode("latin-1").splitlines())
    body = _Ascii(data[end.end() :]) if order == "ascii" else _Binary(data, end.end(), order)
    columns: Mapping[str, NDArray[Any]] = {}
    faces = np.zeros((0, 3), np.int32)
    for element in elements:
        if any(p.length for p in element.properties):
            lists = _lists(body, element)
            if element.name == "face":
                faces = _triangles(lists)
        else:
            table = body.rows(element.count, element.properties)
            if element.name == "vertex":
                columns = table
    count = len(next(iter(columns.values()), ()))
    if len(faces) and not 0 <= faces.min() <= faces.max() < count:
        raise ValueError("corners that are no vertices")
    for name, column in columns.items():
        if not np.abs(column.astype(np.float64)).max(initial=0) <= MAX_LENGTH:
            raise ValueError(f"{name} is not finite or too large")
    return ForeignPly(columns, faces)


def _header(lines: list[str]) -> tuple[str, list[_Element]]:
    order, elements = "", list[_Element]()
    for line in lines[1:]:
        match line.split():
            case ["format", name, _] if name in _ORDERS:
                order = name
            case ["element", name, count] if count.isdecimal():
                elements.append(_Element(name, int(count), []))
            case ["property", "list", length, kind, name] if elements:
                elements[-1].properties.append(Property(name, _kind(kind), _kind(length)))
            case ["property", kind, name] if elements:
                elements[-1].properties.append(Property(name, _kind(kind)))
            case ["comment" | "obj_info", *_] | []:
                pass
            case _:
                raise ValueError(f"a header with {line[:40]!r}")
    if not order:
        raise ValueError("a header without a format")
    for element in elements:
        if len({p.name for p in element.properties}) < max(len(element.properties), 1):
            raise ValueError(
                f"an element {element.name[:40]} without properties, or with two alike"
            )
    return order, elements


def _kind(name: str) -> str:
    if name not in _TYPES:
        raise ValueError(f"a property of type {name[:40]!r}")
    return _TYPES[name]


class _Binary:
    def __init__(self, data: bytes, at: int, order: str) -> None:
        self._data, self._at, self._order = data, at, _ORDERS[order]

    def rows(self, count: int, properties: list[Property]) -> dict[str, NDArray[Any]]:
        """Return the next ``count`` rows of single values, by the properties' names."""
        layout = np.dtype([(f"p{k}", self._order + p.kind) for k, p in enumerate(properties)])
        if count * layout.itemsize > len(self._data) - self._at:
            raise ValueError("it breaks off")
        table = np.frombuffer(self._data, layout, count, self._at)
        self._at += table.nbytes
        return {p.name: table[f"p{k}"] for k, p in enumerate(properties)}

    @property
    def place(self) -> int:
        return self._at

    def back_to(self, place: int) -> None:
        self._at = place


class _Ascii:
    def __init__(self, body: bytes) -> None:
        if len(body) > _MOST_ASCII_BYTES:
            raise ValueError("as text it is too large: save it as binary")
        with warnings.catch_warnings():
            # What is no number ends the values; then they are too few.
            warnings.simplefilter("ignore", DeprecationWarning)
            self._values: Array = np.fromstring(body, np.float64, sep=" ")
        self._at = 0

    def rows(self, count: int, properties: list[Property]) -> dict[str, NDArray[Any]]:
        """Return the next ``count`` rows of single values, by the properties' names."""
        size = count * len(properties)
        if size > len(self._values) - self._at:
            raise ValueError("it breaks off")
        table = self._values[self._at : self._at + size].reshape(count, len(properties))
        self._at += size
        return {p.name: _cast(table[:, k], p.kind) for k, p in enumerate(properties)}

    @property
    def place(self) -> int:
        return self._at

    def back_to(self, place: int) -> None:
        self._at = place


def _cast(values: Array, kind: str) -> NDArray[Any]:
    if kind[0] != "f":
        low, high = np.iinfo(kind).min, np.iinfo(kind).max
        if not ((values >= low) & (values <= high)).all():
            raise ValueError("a value that its type cannot hold")
    with np.errstate(over="ignore"):
        return values.astype(kind)


def _lists(body: _Binary | _Ascii, element: _Element) -> list[NDArray[Any]]:
    """Return the first list of every row, those of one length together as (rows, length)."""
    if not element.count:
        return []
    start = body.place
    # Most often all rows are alike: then they are read at once, as the first one is.
    first = [length for length, _ in _row(body, element)]
    body.back_to(start)
    layout, lists = list[Property](), dict[str, int]()
    for k, (p, length) in enumerate(zip(element.properties, first, strict=True)):
        if p.length:
            lists[f"n{k}"] = length
            layout.append(Property(f"n{k}", p.length))
        layout += [Property(f"{k} {corner}", p.kind) for corner in range(length)]
    which = next(k for k, p in enumerate(element.properties) if p.length)
    table: dict[str, NDArray[Any]] = {}
    with suppress(ValueError):  # rows that are shorter than the first one
        table = body.rows(element.count, layout)
    if table and all((table[name] == length).all() for name, length in lists.items()):
        corners = [table[f"{which} {corner}"] for corner in range(first[which])]
        return [np.stack(corners, axis=-1)] if corners else []
    body.back_to(start)
    if element.count > _MOST_MIXED_FACES:
        raise ValueError("too many faces of different numbers of corners: save it as triangles")
    return [_row(body, element)[which][1][None] for _ in range(element.count)]


def _row(body: _Binary | _Ascii, element: _Element) -> list[tuple[int, NDArray[Any]]]:
    """Return length and values of each property of the next row; a single value has length 1."""
    row = []
    for p in element.properties:
        length = 1
        if p.length:
            length = int(body.rows(1, [Property("n", p.length)])["n"][0])
            if not 0 <= length <= 1000:
                raise ValueError("a list of more than 1000 values")
        values = body.rows(length, [Property("v", p.kind)])["v"] if length else np.zeros(0)
        row.append((length, values))
    return row


def _triangles(polygons: list[NDArray[Any]]) -> NDArray[np.int32]:
    fans = [np.zeros((0, 3), np.int32)]
    for corners in polygons:
        if corners.dtype.kind == "f":
            raise ValueError("corners that are no whole numbers")
        if np.abs(corners.astype(np.int64)).max(initial=0) > np.iinfo(np.int32).max:
            raise ValueError("corners that are no vertices")
        for k in range(1, corners.shape[1] - 1):
            fans.append(corners[:, [0, k, k + 1]].astype(np.int32))
    return np.concatenate(fans)
