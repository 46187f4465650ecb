"""How a process deals with the memory that it frees: glibc's ways, changed for what is at hand."""

from __future__ import annotations

import ctypes
from typing import Any

# <malloc.h>
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_MEBIBYTE = 1 << 20


def keep_freed_memory() -> None:
    """Have glibc keep freed memory for the next step; elsewhere this does nothing.

    As it is, glibc asks the system for every large tensor and gives it back at once. Zeroing those
    pages anew took 40 % of a step on two cores. Not for programs that go on with other things: what
    the largest step needed stays with the process.
    """
    mallopt = _function("mallopt")
    if mallopt is not None:
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, -1)
        mallopt(_TOP_PAD, 256 * _MEBIBYTE)


def return_freed_memory() -> None:
    """Have glibc give back to the system what is free by now; elsewhere this does nothing.

    It keeps freed arrays of up to 32 MB in a heap for each thread, between others that are still in
    use: after ten photos' stereo 0.3 GB of 1.0 were free, and the next stage asked for more.
    """
    trim = _function("malloc_trim")
    if trim is not None:
        trim(0)


def _function(name: str) -> Any:
    """Return a function of the C library, None where it has none of that name."""
    try:
        return getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError):
        return None
