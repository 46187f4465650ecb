"""How a training process deals with the memory that it frees."""

from __future__ import annotations

import ctypes

# <malloc.h>
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_MEBIBYTE = 1 << 20


def keep_freed_memory() -> None:
    """Have glibc keep freed memory for the next step; elsewhere this does nothing.

    As it is, glibc asks the system for every large tensor and gives it back at once. Zeroing those
    pages anew took 40 % of a step on two cores. Not for programs that go on with other things: what
    the largest step needed stays with the process.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(_MMAP_MAX, 0)
    mallopt(_TRIM_THRESHOLD, -1)
    mallopt(_TOP_PAD, 256 * _MEBIBYTE)
