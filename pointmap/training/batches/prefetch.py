"""Prepares the next batches in a thread while the device works on the current one."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Any

from pointmap.training.batches.pairs import PairBatch
from pointmap.training.batches.source import BatchSource

_AHEAD = 3  # batches


class Prefetched:
    """The batches of another source, a few ahead. Its state is that of the batch handed out last.

    An error in the other source is raised where its batch would have come.
    """

    def __init__(self, source: BatchSource) -> None:
        self._source, self._state = source, source.state()

    def state(self) -> dict[str, Any]:
        """Return what :meth:`load_state` needs to go on with the very next batch."""
        return self._state

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue where :meth:`state` was taken."""
        self._source.load_state(state)
        self._state = state

    def __iter__(self) -> Iterator[PairBatch]:
        ready: queue.Queue[tuple[PairBatch, dict[str, Any]] | BaseException] = queue.Queue(_AHEAD)
        stop = threading.Event()

        def put(item: tuple[PairBatch, dict[str, Any]] | BaseException) -> None:
            while not stop.is_set():
                try:
                    ready.put(item, timeout=0.2)
                    return
                except queue.Full:
                    continue

        def fill() -> None:
            try:
                for batch in self._source:
                    put((batch, self._source.state()))
                    if stop.is_set():
                        return
            except BaseException as error:
                put(error)

        thread = threading.Thread(target=fill, daemon=True)
        thread.start()
        try:
            while True:
                item = ready.get()
                if isinstance(item, BaseException):
                    raise item
                batch, self._state = item
                yield batch
        finally:
            stop.set()
            thread.join()
            # What was prepared but not handed out is made again by whoever iterates next.
            self._source.load_state(self._state)
