"""What any matcher of two photos looks like to the pipeline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array


@dataclass(frozen=True)
class FoundMatches:
    """Matches of two pictures: ``xy_i``, ``xy_j`` (M, 2) pixels of them, centres at +0.5, and the
    numbers ``index_i``, ``index_j`` (M,) of their key points: the same in whichever pair a picture
    stands. None of a matcher that has none; such matches join no more than two photos.
    """

    xy_i: Array
    xy_j: Array
    index_i: NDArray[np.int64] | None = None
    index_j: NDArray[np.int64] | None = None


class Matcher(Protocol):
    """A matcher of two photos; attributes as they are, no more is asked of it."""

    @property
    def name(self) -> str:
        """What people call it, for run.json and messages."""

    @property
    def licence(self) -> str:
        """Of its weights."""

    @property
    def content_key(self) -> str:
        """Equal for matchers that find the same in the same photos."""

    @property
    def long_side(self) -> int:
        """Long side, in pixels, of the pictures it is best given; both are multiples of 32."""

    @property
    def sigma_px(self) -> float | None:
        """How accurate right matches are, in pixels of those pictures, where that was measured (see
        benchmarks.matchers); None: it is estimated from the matches of the photos at hand.
        """

    def match(self, pixels_i: NDArray[np.uint8], pixels_j: NDArray[np.uint8]) -> FoundMatches:
        """Return the matches of two pictures (h, w, 3), RGB, upright."""
