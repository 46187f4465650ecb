"""The steps of a stage, each of which is kept, so that a stopped run loses no more than one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from recon.work.content_key import content_key
from recon.work.folder import Work

T = TypeVar("T")


class Steps:
    """Results of steps, kept in ``work`` for the ``stage`` that has this content key; without a
    ``work`` they are not.
    """

    def __init__(self, work: Work | None = None, stage: str = "") -> None:
        self._work, self._stage = work, stage
        self._passing: list[str] = []

    def once(self, step: str, make: Callable[[], T], *, passing: bool = False) -> T:
        """Return the result of a step, as :meth:`recon.work.folder.Work.once` does.

        What is only ``passing`` goes with the next :meth:`forget_passing`.
        """
        if self._work is None:
            return make()
        key = content_key(step, 1, self._stage)
        if passing:
            self._passing.append(key)
        return self._work.once(key, make)

    def forget_passing(self) -> None:
        """Delete what later steps have no use for."""
        if self._work is not None:
            self._work.forget(self._passing)
        self._passing = []
