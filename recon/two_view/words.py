"""Words: what key points' descriptors are mostly like, learned from the very photos."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]


def k_means(points: Float32, count: int, rounds: int) -> Float32:
    """Return the centres (W, C) of ``points`` (P, C), W <= ``count``, P of fewer."""
    words = points[spread(len(points), count)]
    for _ in range(rounds if len(words) else 0):
        sums, counts = sums_by_word(points, nearest_word(points, words), len(words))
        words = np.where(counts > 0, sums / np.maximum(counts, 1), words)
    return words


def nearest_word(points: Float32, words: Float32) -> NDArray[np.int64]:
    """Return the number (P,) of the word (W, C) that each of ``points`` (P, C) is nearest to."""
    return (points @ words.T - (words**2).sum(axis=1) / 2).argmax(axis=1)


def sums_by_word(points: Float32, number: NDArray[np.int64], count: int) -> tuple[Float32, Float32]:
    """Return for each of ``count`` words the sum (W, C) of its ``points`` (P, C), and their number
    (W, 1); ``number`` (P,) says which word a point belongs to.
    """
    belongs = np.zeros((count, len(points)), np.float32)
    belongs[number, np.arange(len(points))] = 1
    return belongs @ points, belongs.sum(axis=1, keepdims=True)


def spread(count: int, most: int) -> NDArray[np.int64]:
    """Return at most ``most`` of ``count`` numbers, evenly spread."""
    return np.linspace(0, count - 1, min(count, most)).astype(np.int64)
