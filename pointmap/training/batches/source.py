"""What the training loop takes batches from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from pointmap.training.batches.pairs import PairBatch


class BatchSource(Protocol):
    """An endless, resumable stream of batches, on the training device."""

    def __iter__(self) -> Iterator[PairBatch]:
        """Yield batches for ever."""

    def state(self) -> dict[str, Any]:
        """Return what :meth:`load_state` needs to go on from here."""

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from ``state``."""
