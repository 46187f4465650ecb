"""NumPy's files (.npy, .npz): numbers alone, and no more than the file holds.

NumPy itself allocates what a header claims, unpacks what an archive claims, and would read pickled
objects. The format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

from __future__ import annotations

import ast
import math
import os
import re
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from pointmap.outside.regular_file import MAX_FILE_BYTES, open_regular

# Truth values, integers, floats.
_KIND = re.compile(r"[<>|=]?(\?|b1|[iu][1248]|f[248])")
_MOST_AXES = 32
# What zip archives of arrays use; others want a password or a library.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_READ_BYTES = 2**24
# The record at an archive's end, with the longest comment and what may stand before it.
_MOST_TAIL_BYTES = 20 + 22 + 2**16
_MOST_DIRECTORY_BYTES = 2**24
MAX_MAP_PIXELS = 100_000_000
"""Depth maps and the like are larger in no camera."""


def read_npy(path: Path) -> NDArray[Any]:
    """Return the array of a ``.npy``: real numbers or truth values.

    Raises ``OSError`` when the file cannot be opened, ``ValueError`` when it is not what it should
    be, claims more than it holds, or holds more than ``MAX_FILE_BYTES``.
    """
    with open_regular(path) as file:
        return _array(file, _checked_size(file))


def read_npz(path: Path, names: Iterable[str] | None = None) -> dict[str, NDArray[Any]]:
    """Return the arrays of a ``.npz`` by name, of ``names`` those that it has, or all.

    All of them together are bounded as one alone is. Raises as :func:`read_npy` does.
    """
    wanted = None if names is None else frozenset(names)
    with open_regular(path) as file:
        _checked_size(file)
        _check_directory(file)
        try:
            with zipfile.ZipFile(file) as archive:
                members = {i.filename.removesuffix(".npy"): i for i in archive.infolist()}
                chosen = {k: i for k, i in members.items() if wanted is None or k in wanted}
                if sum(info.file_size for info in chosen.values()) > MAX_FILE_BYTES:
                    raise ValueError(f"unpacks to more than {MAX_FILE_BYTES / 2**20:.0f} MB")
                return {name: _member(archive, info) for name, info in chosen.items()}
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as bad:
            # Among them what zipfile says of passwords and of other ways to compress.
            raise ValueError(f"damaged, or no archive of arrays: {bad}") from bad


def as_map(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return the values of a map as float64; ``ValueError`` for more than ``MAX_MAP_PIXELS``.

    Eight bytes each: a file that unpacks to a gigabyte of bytes would take eight.
    """
    if values.size > MAX_MAP_PIXELS:
        raise ValueError(f"larger than {MAX_MAP_PIXELS / 1e6:.0f} megapixels")
    return values.astype(np.float64)


def _checked_size(file: IO[bytes]) -> int:
    size = os.fstat(file.fileno()).st_size
    if size > MAX_FILE_BYTES:
        raise ValueError(f"larger than {MAX_FILE_BYTES / 2**20:.0f} MB")
    return size


def _check_directory(file: IO[bytes]) -> None:
    """Raise ``ValueError`` for more members than arrays are ever kept in one archive.

    zipfile makes an object ten times the size of each. The record at the end of a zip archive says
    how long its list of members is (APPNOTE.TXT 4.3.16); a longer form, announced just before it,
    is of archives with more than 65,535 of them, or of 4 GB.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _MOST_TAIL_BYTES))
    tail = file.read(_MOST_TAIL_BYTES)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < 22:
        raise ValueError("damaged, or no archive of arrays")
    long_form = tail[max(0, at - 20) :][:4] == b"PK\x06\x07"
    if long_form or int.from_bytes(tail[at + 12 : at + 16], "little") > _MOST_DIRECTORY_BYTES:
        raise ValueError("holds more members than an archive of arrays has")


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> NDArray[Any]:
    if info.compress_type not in _METHODS:
        raise ValueError("packed in a way that NumPy does not use")
    with archive.open(info) as file:
        # The size stands in the archive's directory; what unpacks to more is cut there.
        return _array(file, info.file_size)


def _array(file: IO[bytes], size: int) -> NDArray[Any]:
    """Return the array of a ``.npy`` of ``size`` bytes, checked before anything is allocated."""
    shape, fortran, dtype, length = _header(file, size)
    count = math.prod(shape)
    if count * dtype.itemsize > size - length:
        raise ValueError(f"breaks off: {shape} of {dtype} need more than it holds")
    flat = np.empty(count, dtype)
    raw, at = flat.view(np.uint8), 0
    while at < raw.size:
        # In pieces, so that no second copy of it all is in memory.
        part = file.read(min(_READ_BYTES, raw.size - at))
        if not part:
            raise ValueError("breaks off")
        raw[at : at + len(part)] = np.frombuffer(part, np.uint8)
        at += len(part)
    return flat.reshape(shape[::-1]).T if fortran else flat.reshape(shape)


def _header(file: IO[bytes], size: int) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Return shape, whether it is stored column by column, type, and the header's own length."""
    start = file.read(12)
    if start[:6] != b"\x93NUMPY" or len(start) < 12:
        raise ValueError("not an array of NumPy")
    version = start[6], start[7]
    length = 10 + int.from_bytes(start[8:10], "little")
    if version != (1, 0):
        length = 12 + int.from_bytes(start[8:12], "little")
    # NumPy's own bound.
    if length > min(size, 10_000):
        raise ValueError("its header is too long")
    text = start[10 if version == (1, 0) else 12 :] + file.read(length - 12)
    try:
        values = ast.literal_eval(text.decode("latin-1").strip())
        shape, fortran, kind = (values[k] for k in ("shape", "fortran_order", "descr"))
    except (ValueError, SyntaxError, TypeError, KeyError, RecursionError, MemoryError) as error:
        raise ValueError("its header is damaged") from error
    if not isinstance(kind, str) or not _KIND.fullmatch(kind):
        raise ValueError(f"holds {str(kind)[:40]}, and numbers are needed")
    whole = isinstance(shape, tuple) and all(type(side) is int and side >= 0 for side in shape)
    if not whole or len(shape) > _MOST_AXES or type(fortran) is not bool:
        raise ValueError("its header is damaged")
    return shape, fortran, np.dtype(kind), length
