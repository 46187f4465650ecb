"""Output to streams that may have gone: nothing that is said is worth losing a scene for."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO


class LossyStream:
    """A text stream that drops what cannot be written, and escapes what has no encoding."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write what can be written; return the length of ``text`` in any case."""
        try:
            self._stream.write(text)
        except UnicodeEncodeError:
            encoding = self._stream.encoding or "ascii"
            plain = text.encode(encoding, "backslashreplace").decode(encoding)
            with suppress(OSError):
                self._stream.write(plain)
        except OSError:  # a pipe without a reader, a full disk
            pass
        return len(text)

    def flush(self) -> None:
        """Flush the stream if it takes anything."""
        with suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def lossy_streams() -> Iterator[None]:
    """Have ``sys.stdout`` and ``sys.stderr`` be such streams meanwhile."""
    _fill_closed()
    real = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = map(LossyStream, real)  # type: ignore[assignment]
    try:
        yield
    finally:
        sys.stdout, sys.stderr = real
        for stream in real:
            _drain(stream)


def _fill_closed() -> None:
    """Lead standard streams that the process was started without to nowhere.

    Else the next files that are opened get their numbers, and what libraries in C say is written
    into them.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w"))


def _drain(stream: TextIO) -> None:
    """Flush a stream; where that fails, lead it to nowhere, or Python would try and complain."""
    try:
        stream.flush()
    except OSError:
        with suppress(OSError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
