"""Regular files only: a pipe, a socket or a device would be waited for, or never end."""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

MAX_FILE_BYTES = 2**30
"""Larger files of numbers (JSON, depth maps, models) are refused before they are read."""

_PART_BYTES = 2**20


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file for reading bytes; the caller closes it.

    Looked at once it is open: what a name stands for may change between a look and the opening.
    Raises ``OSError`` for all that cannot be opened, and for what is no regular file.
    """
    # Without O_NONBLOCK, opening a pipe waits until somebody writes to it.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    try:
        handle = os.open(path, flags | getattr(os, "O_BINARY", 0))
    except ValueError as error:  # a zero byte in a name
        raise OSError(errno.EINVAL, "no name of a file", str(path)) from error
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
    except BaseException:
        os.close(handle)
        raise
    return os.fdopen(handle, "rb")


def check_regular(path: Path) -> None:
    """Raise ``OSError`` where :func:`open_regular` does, for readers that open files themselves."""
    open_regular(path).close()


def home_expanded(given: str | Path) -> Path:
    """Return a path with the home folder in the place of ``~``; as it is where nobody has one."""
    try:
        return Path(given).expanduser()
    except RuntimeError:  # ~nosuchuser
        return Path(given)


def read_regular(path: Path, *, most_bytes: int = MAX_FILE_BYTES) -> bytes:
    """Return what a regular file holds; ``OSError`` as above, and when it is larger than allowed.

    A file that grows meanwhile is none the worse. Python asks the system for as much memory as is
    to be read, so that is never the bound: it may be more than there is.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        parts = [file.read(size)] if size <= most_bytes else []
        while size <= most_bytes and (part := file.read(_PART_BYTES)):
            parts.append(part)
            size += len(part)
    if size > most_bytes:
        raise OSError(errno.EFBIG, f"larger than {most_bytes / 2**20:.0f} MB", str(path))
    return b"".join(parts)
