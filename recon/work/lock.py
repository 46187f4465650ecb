"""A file that one process at a time can hold; whoever dies lets go of it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class Busy(Exception):
    """Another process holds the file, or may hold it."""


@contextmanager
def exclusive_file(path: Path) -> Iterator[None]:
    """Hold ``path``, made anew where it is missing, and delete it at the end.

    Raises ``Busy`` at once when another process holds it, and ``OSError`` when the file cannot be
    made. On file systems without locks a file that is there already counts as held.
    """
    handle = _hold(path)
    try:
        yield
    finally:
        # Deleted while it is held: nobody else's file can lie under this name yet.
        with suppress(OSError):
            path.unlink()
        os.close(handle)


if sys.platform == "win32":

    def _hold(path: Path) -> int:
        try:
            # Windows deletes such a file when its process ends, however it ends.
            return os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_TEMPORARY)
        except FileExistsError:
            raise Busy from None

else:
    import fcntl

    def _hold(path: Path) -> int:
        while True:
            new = not os.path.lexists(path)
            handle = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                if _locked(handle, new=new) and _is_at(handle, path):
                    return handle
            except BaseException:
                os.close(handle)
                raise
            # Its last holder deleted the file between our opening and our locking it.
            os.close(handle)

    def _locked(handle: int, *, new: bool) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy from None
        except OSError:
            if not new:
                raise Busy from None
        return True

    def _is_at(handle: int, path: Path) -> bool:
        try:
            return os.path.samestat(os.fstat(handle), path.lstat())
        except FileNotFoundError:
            return False
