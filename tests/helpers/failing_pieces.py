"""Pieces of which one cannot be made, as on a cluster that failed on it again and again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from recon.work.pieces import Needs, PieceMap, PiecesFailed


class FailingOnce(PieceMap):
    """Fails on piece ``place`` of ``stage`` the first time, when all others are made."""

    def __init__(self, stage: str, place: int = 1) -> None:
        self.stage, self.place, self.failed = stage, place, False

    def each(
        self,
        make: Callable[[Any], Any],
        items: Sequence[Any],
        *,
        at_once: int | None = 1,
        needs: Needs | None = None,
    ) -> Iterator[Any]:
        if self._is_to_fail(needs):
            return self._failing(map(make, self._others(items)))
        return super().each(make, items, at_once=at_once, needs=needs)

    def stream(
        self,
        make: Callable[[Sequence[Any]], Iterator[Any]],
        items: Sequence[Any],
        *,
        needs: Needs | None = None,
    ) -> Iterator[Any]:
        if self._is_to_fail(needs):
            return self._failing(make(self._others(items)))
        return super().stream(make, items, needs=needs)

    def _is_to_fail(self, needs: Needs | None) -> bool:
        return not self.failed and needs is not None and needs.stage == self.stage

    def _others(self, items: Sequence[Any]) -> list[Any]:
        return [item for place, item in enumerate(items) if place != self.place]

    def _failing(self, made: Iterator[Any]) -> Iterator[Any]:
        self.failed = True
        # No more is yielded than what comes before the piece.
        yield from [*made][: self.place]
        raise PiecesFailed({self.place: "MemoryError: too much"})
