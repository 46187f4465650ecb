"""Photos of several sizes in one array, as compiled loops take them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def stacked_photos(
    colours: Sequence[NDArray[np.float32]], known: Sequence[NDArray[np.float32]]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return photos (S, h, w, 3) and the inverse depth (S, h, w) that is known of them, each of a
    size of its own (photos taken upright and across, or several lenses), as large as the largest.

    Below and to the right of a photo its last pixels go on, and something infinitely near hides
    whatever is looked for there.
    """
    height, width = np.max([k.shape for k in known], axis=0)

    def missing(picture: NDArray[np.float32]) -> list[tuple[int, int]]:
        return [(0, height - picture.shape[0]), (0, width - picture.shape[1])]

    return (
        np.stack([np.pad(c, [*missing(c), (0, 0)], mode="edge") for c in colours]),
        np.stack([np.pad(k, missing(k), constant_values=np.inf) for k in known]),
    )
