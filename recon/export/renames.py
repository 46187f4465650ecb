"""Renames that replace nothing, and two names exchanged in one step."""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

# Of Linux's renameat2(2).
_AT_FDCWD, _NOREPLACE, _EXCHANGE = -100, 1, 2
# How a system, or a file system mounted on it, says that it knows no such flags.
_UNSUPPORTED = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)


def rename_no_replace(source: Path, target: Path) -> None:
    """Rename a file or folder to ``target``, where nothing may be yet.

    Raises ``FileExistsError`` when there is something, even an empty folder or a dangling link, and
    ``OSError`` when it fails otherwise. Where the system cannot do this in one step, an empty
    folder that appears at the very moment is replaced by a folder; nothing else can be.
    """
    if _renameat2(source, target, _NOREPLACE):
        return
    occupied = FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    if os.path.lexists(target):
        raise occupied
    try:
        if source.is_dir():
            # No system renames a folder onto a file, or onto a folder that holds something.
            source.rename(target)
        else:
            os.link(source, target, follow_symlinks=False)
            source.unlink()
    except OSError as error:
        raise occupied if os.path.lexists(target) else error from None


def rename_to_free(source: Path, target: Path) -> Path:
    """Rename a file or folder to ``target``, or to NAME-2, NAME-3 ... if that is taken; return it.

    Raises ``OSError`` as :func:`rename_no_replace` does for other reasons.
    """
    suffix = "" if source.is_dir() else target.suffix
    place = target
    for number in itertools.count(2):
        with suppress(FileExistsError):
            rename_no_replace(source, place)
            break
        place = target.with_name(f"{target.name.removesuffix(suffix)}-{number}{suffix}")
    return place


def exchange(one: Path, other: Path) -> bool:
    """Exchange two names in one step; False, with nothing done, where the system cannot do that.

    Raises ``OSError`` (``FileNotFoundError`` when either is missing).
    """
    return _renameat2(one, other, _EXCHANGE)


def _renameat2(source: Path, target: Path, flags: int) -> bool:
    """Call Linux's renameat2; False where the system or the file system does not offer it."""
    call = _system_call()
    if call is None:
        return False
    if call(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), flags) == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNSUPPORTED:
        return False
    raise OSError(number, os.strerror(number), str(source), None, str(target))


@lru_cache(maxsize=1)
def _system_call() -> Callable[..., int] | None:
    if sys.platform != "linux":
        return None
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is not None:
        name = ctypes.c_char_p
        call.argtypes = (ctypes.c_int, name, ctypes.c_int, name, ctypes.c_uint)
    return call
