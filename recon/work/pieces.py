"""The one way in which independent pieces of work are done: a map over them.

Here it is a plain loop, or a few threads; :mod:`recon.cluster` makes tasks of the pieces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from recon.work.threads import in_threads

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Needs:
    """What a task of a stage takes on a cluster, so that its scheduler can place it; one core each.

    ``memory_mb``: room for its process (``benchmarks.cluster`` prints what it takes);
    ``per_task``: pieces that go together, so that a task is worth sending; ``gpu``: whether it
    works on one, where the models that it needs then stay.
    """

    stage: str
    memory_mb: int
    per_task: int = 1
    gpu: bool = False


class PieceMap:
    """Does independent pieces of work, here in this process."""

    def each(
        self,
        make: Callable[[Item], Result],
        items: Sequence[Item],
        *,
        at_once: int | None = 1,
        needs: Needs | None = None,
    ) -> Iterator[Result]:
        """Yield ``make(item)`` of all items in their order.

        ``at_once``: how many are made side by side on this machine (see
        :func:`recon.work.threads.in_threads`, None for as many as it will). A single one, too, has
        one thread where several are allowed: how many there are must not change the bits.

        Elsewhere: ``needs`` is what a task takes, None for pieces that have to be made here; raises
        :class:`PiecesFailed`, when all others are done, for pieces that failed again and again.
        """
        return map(make, items) if at_once == 1 else in_threads(make, items, most=at_once)

    def stream(
        self,
        make: Callable[[Sequence[Item]], Iterator[Result]],
        items: Sequence[Item],
        *,
        needs: Needs | None = None,
    ) -> Iterator[Result]:
        """Yield what ``make(some)`` yields of some items in a row after the other, here of all: one
        result for each. Otherwise as :meth:`each`.
        """
        return make(items)


class PiecesFailed(Exception):
    """Pieces, by their places among the items, that could not be made, each with the reason."""

    def __init__(self, reasons: Mapping[int, str]) -> None:
        super().__init__(f"{len(reasons)} pieces: {next(iter(reasons.values()), '')}")
        self.reasons = dict(reasons)


class PhotosFailed(Exception):
    """Pieces that could not be made, as the names of the photos that each is of, and the reason."""

    def __init__(self, pieces: Sequence[tuple[tuple[str, ...], str]]) -> None:
        super().__init__(f"{len(pieces)} pieces of photos: {pieces[0][1]}")
        self.pieces = tuple(pieces)

    def photos(self) -> dict[str, str]:
        """Return few photos without which no piece would have failed, and the reason of each.

        In turn the one that most of the pieces left are of; of equals, the last.
        """
        left, chosen = list(self.pieces), dict[str, str]()
        while left:
            names = [name for photos, _ in left for name in photos]
            worst = max(reversed(names), key=names.count)
            chosen[worst] = next(reason for photos, reason in left if worst in photos)
            left = [piece for piece in left if worst not in piece[0]]
        return chosen
