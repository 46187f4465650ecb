"""A run: what its stages cost, how far they are, and what it warned of."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Protocol

from pointmap.freed_memory import return_freed_memory
from recon.scene import StageRecord

PACKAGES = ("pointmap", "recon", "viz")
"""Loggers of the project."""

Advance = Callable[[int, int], None]
"""Called with (done, total) units of the running stage."""


def unheard(done: int, total: int) -> None:
    """Tell nobody how far a stage is."""


class StageListener(Protocol):
    """Someone who is told about the stages, such as the command's progress bars."""

    def started(self, name: str) -> None:
        """A stage begins."""

    def advanced(self, done: int, total: int) -> None:
        """The running stage has done ``done`` of ``total`` units."""

    def finished(self, record: StageRecord) -> None:
        """The running stage ended without an error."""


class Run:
    """Times stages, reports how far they are, and keeps the warnings that are logged meanwhile.

    To be entered (``with``) around the stages. ``records``: of the stages that have ended;
    ``warnings``: the text of each warning of the project's packages, once.
    """

    def __init__(self, listener: StageListener | None = None) -> None:
        self._listener = listener
        self._collector = _Collector()
        self.records: list[StageRecord] = []

    @property
    def warnings(self) -> list[str]:
        """The warnings so far, each once."""
        return self._collector.messages

    def __enter__(self) -> Run:
        for name in PACKAGES:
            logging.getLogger(name).addHandler(self._collector)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for name in PACKAGES:
            logging.getLogger(name).removeHandler(self._collector)

    @contextmanager
    def stage(self, name: str) -> Iterator[Advance]:
        """Time the block as stage ``name``; yields the function that reports progress in it."""
        if self._listener:
            self._listener.started(name)
        start, start_cpu = time.perf_counter(), cpu_seconds()
        yield self._listener.advanced if self._listener else unheard
        return_freed_memory()
        seconds, computed = time.perf_counter() - start, cpu_seconds() - start_cpu
        record = StageRecord(name, seconds, peak_memory_mb(), computed)
        self.records.append(record)
        if self._listener:
            self._listener.finished(record)


def duration(seconds: float) -> str:
    """Return how long something took, for a person to read."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"


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


def cpu_seconds() -> float:
    """Return what this process and its finished children have computed so far, in seconds."""
    return sum(os.times()[:4])


class _Collector(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if text not in self.messages:
            self.messages.append(text)
