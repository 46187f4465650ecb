"""What the stages cost and how far they are: a record per stage, told to a listener."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from recon.scene import StageRecord

Advance = Callable[[int, int], None]
"""Called with (done, total) units of the running stage."""


class StageListener(Protocol):
    """Someone who is told about the stages, such as the command's progress bars."""

    def started(self, name: str) -> None:
        """A stage begins."""

    def advanced(self, done: int, total: int) -> None:
        """The running stage has done ``done`` of ``total`` units."""

    def finished(self, record: StageRecord) -> None:
        """The running stage ended without an error."""


class Stages:
    """Runs stages one after the other and keeps their records."""

    def __init__(self, listener: StageListener | None = None) -> None:
        self._listener = listener
        self.records: list[StageRecord] = []

    @contextmanager
    def stage(self, name: str) -> Iterator[Advance]:
        """Time the block as stage ``name``; yields the function that reports progress in it."""
        if self._listener:
            self._listener.started(name)
        start = time.perf_counter()
        yield self._listener.advanced if self._listener else lambda done, total: None
        record = StageRecord(name, time.perf_counter() - start, peak_memory_mb())
        self.records.append(record)
        if self._listener:
            self._listener.finished(record)


def peak_memory_mb() -> float:
    """Return the largest resident size this process has had, in MiB."""
    try:
        import resource
        import sys
    except ImportError:  # Windows
        import psutil

        return float(psutil.Process().memory_info().peak_wset) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts in KiB, macOS in bytes.
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


@contextmanager
def collected_warnings() -> Iterator[list[str]]:
    """Collect the text of every warning that the project's packages log inside the block."""
    messages: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            text = record.getMessage()
            if text not in messages:
                messages.append(text)

    collector = Collector(level=logging.WARNING)
    loggers = [logging.getLogger(name) for name in ("pointmap", "recon", "viz")]
    for logger in loggers:
        logger.addHandler(collector)
    try:
        yield messages
    finally:
        for logger in loggers:
            logger.removeHandler(collector)
