"""How a process deals with the memory that it frees: glibc's ways, changed for what is at hand."""

from __future__ import annotations

import ctypes
import math
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

# <malloc.h>
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_MEBIBYTE = 1 << 20
# By how much a process may grow until what is free of that is given back.
_GROWN = 192 * _MEBIBYTE


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


class Growth:
    """Gives freed memory back when this process has grown by much, in a loop over many pieces.

    What is kept of a piece lies between what was freed of it, so that the heap grows with their
    number: by 0.7 GB in one pass over 300 photos. After each one it would be too often: asking for
    the same memory again took a tenth of all CPU seconds.
    """

    def __init__(self) -> None:
        self._least = math.inf

    def look(self) -> None:
        """Give memory back, if there is reason to; cheap where there is none."""
        resident = _resident_bytes()
        if resident > self._least + _GROWN:
            return_freed_memory()
            self._least = _resident_bytes()
        self._least = min(self._least, resident)


return_if_grown = Growth().look
"""To be called after each piece: see :class:`Growth`."""


def _resident_bytes() -> int:
    """Return what this process has in memory; 0 where the system does not say it as Linux does."""
    with suppress(OSError, ValueError, IndexError):
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    return 0


def _function(name: str) -> Any:
    """Return a function of the C library, None where it has none of that name."""
    try:
        return getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError):
        return None
