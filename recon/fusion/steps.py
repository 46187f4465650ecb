"""The steps of fusion, each of which is kept, so that a stopped run loses no more than one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from recon.work.content_key import content_key
from recon.work.folder import Work

T = TypeVar("T")

# Of all steps, for results that were kept.
_VERSION = 10


class Steps:
    """Results of steps, kept in ``work`` by what they ``depend_on``; None: not kept."""

    def __init__(self, work: Work | None, *depend_on: object) -> None:
        self._work = work
        self._name = content_key("fusion", _VERSION, *depend_on)
        self._passing: list[str] = []

    def once(self, step: str, make: Callable[[], T], *, passing: bool = False) -> T:
        """Return the result of a step, as :meth:`recon.work.folder.Work.once` does.

        What is only ``passing`` goes with the next :meth:`forget_passing`.
        """
        if self._work is None:
            return make()
        key = content_key(step, _VERSION, self._name)
        if passing:
            self._passing.append(key)
        return self._work.once(key, make)

    def forget_passing(self) -> None:
        """Delete what later steps have no use for."""
        if self._work is not None:
            self._work.forget(self._passing)
        self._passing = []
