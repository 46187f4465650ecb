"""The graph whose nodes are photos and whose edges are pairs: its parts, and its differences."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from pointmap.camera import Index

if TYPE_CHECKING:
    from scipy.sparse import csr_array


def component_labels(count: int, pairs: Index | Iterable[tuple[int, int]]) -> Index:
    """Return the number (N,) of each photo's group, from 0 in the order of their first photos.

    ``pairs`` (E, 2). Photos without a pair are groups of one.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    ends = pairs if isinstance(pairs, np.ndarray) else np.array(list(pairs), np.int64)
    first, second = ends.reshape(-1, 2).T
    graph = csr_array((np.ones(len(first), bool), (first, second)), shape=(count, count))
    return np.asarray(connected_components(graph, directed=False)[1], np.int64)


def connected_groups(count: int, pairs: Iterable[tuple[int, int]]) -> list[list[int]]:
    """Return the groups of photos, largest first, then by lowest index, sorted within."""
    labels = component_labels(count, pairs)
    groups = [np.flatnonzero(labels == k).tolist() for k in range(int(labels.max(initial=-1)) + 1)]
    return sorted(groups, key=lambda photos: (-len(photos), photos[0]))


def incidence_matrix(count: int, pairs: Index) -> csr_array:
    """Return the matrix (E, N) that takes values of photos to the second less the first of each of
    the ``pairs`` (E, 2).
    """
    from scipy.sparse import csr_array

    rows = np.repeat(np.arange(len(pairs)), 2)
    values = np.tile([-1.0, 1.0], len(pairs))
    return csr_array((values, (rows, pairs.ravel())), shape=(len(pairs), count))
