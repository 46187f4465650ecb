"""Which pairs of photos to look at.

Every pair costs a pass of the network and a matching, so that beyond a few photos only those pairs
are taken that are likely to show the same things.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pointmap.camera import Array
from pointmap.errors import InputError

Pair = tuple[int, int]


@dataclass(frozen=True)
class ViewGraph:
    """Pairs of photo indices, ``i < j``, sorted, each once."""

    pairs: tuple[Pair, ...]


@dataclass(frozen=True)
class ViewGraphOptions:
    """How pairs are chosen."""

    strategy: Literal["auto", "complete", "window", "star"] = "auto"
    """auto: all pairs of few photos, similar ones of many. complete: all pairs. window: photos
    close to each other in order (video). star: every photo with the centre photo."""
    neighbours: int = 10
    """auto: most similar photos that each photo is paired with. window: reach to either side."""
    complete_up_to: int = 20
    """auto: number of photos up to which all pairs are taken."""
    centre: int = 0
    """star: index of the centre photo."""


def build_view_graph(
    count: int,
    *,
    descriptors: ArrayLike | None = None,
    pairs: Iterable[Pair] | None = None,
    options: ViewGraphOptions | None = None,
) -> ViewGraph:
    """Return the pairs to look at among ``count`` photos.

    ``descriptors`` (count, C): one global descriptor per photo, for "auto"; without them photos are
    taken to be in the order of shooting. ``pairs`` are taken as they are, whatever the options say.
    The same input gives the same pairs. Raises ``InputError`` for pairs of photos that do not exist
    and for senseless options.
    """
    options = options or ViewGraphOptions()
    if pairs is not None:
        return _graph(_checked(pairs, count))
    if options.neighbours < 1:
        raise InputError(f"neighbours is {options.neighbours}; at least 1 is needed")
    if options.strategy == "complete" or (
        options.strategy == "auto" and count <= options.complete_up_to
    ):
        return _graph((i, j) for j in range(count) for i in range(j))
    if options.strategy == "window":
        return _graph(_window(count, options.neighbours))
    if options.strategy == "star":
        if not 0 <= options.centre < max(count, 1):
            raise InputError(
                f"there is no photo {options.centre}; {count} photos are numbered from 0"
            )
        return _graph((options.centre, j) for j in range(count) if j != options.centre)
    if descriptors is None:
        return _graph(_window(count, (options.neighbours + 1) // 2))
    return _graph(_similar(_similarity(descriptors, count), options.neighbours))


def connected_components(count: int, pairs: Iterable[Pair]) -> list[list[int]]:
    """Return the groups of photos that ``pairs`` connect, largest first, then by lowest index.

    Photos without a pair are groups of one; indices within a group are sorted.
    """
    group = list(range(count))

    def root(i: int) -> int:
        while group[i] != i:
            group[i] = group[group[i]]
            i = group[i]
        return i

    for i, j in pairs:
        group[root(i)] = root(j)
    members: dict[int, list[int]] = {}
    for i in range(count):
        members.setdefault(root(i), []).append(i)
    return sorted(members.values(), key=lambda photos: (-len(photos), photos[0]))


def _graph(pairs: Iterable[Pair]) -> ViewGraph:
    return ViewGraph(tuple(sorted({(int(min(pair)), int(max(pair))) for pair in pairs})))


def _checked(pairs: Iterable[Pair], count: int) -> list[Pair]:
    pairs = list(pairs)
    for i, j in pairs:
        if i == j or not (0 <= i < count and 0 <= j < count):
            raise InputError(f"pair ({i}, {j}) is none of {count} photos numbered from 0")
    return pairs


def _window(count: int, reach: int) -> list[Pair]:
    return [(i, j) for i in range(count) for j in range(i + 1, min(i + reach + 1, count))]


def _similarity(descriptors: ArrayLike, count: int) -> Array:
    """Return the cosine similarity (N, N) of descriptors less their mean.

    What all photos have in common tells none apart; without it the rest decides. Photos whose
    descriptor is not finite, or equal to the mean, are similar to none.
    """
    vectors = np.asarray(descriptors, np.float64).reshape(count, -1)
    usable: NDArray[np.bool_] = np.asarray(np.isfinite(vectors).all(axis=1))
    vectors = np.where(usable[:, None], vectors, 0.0)
    vectors = vectors - vectors.sum(axis=0) / max(usable.sum(), 1)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors = np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 1e-12)
    vectors[~usable] = 0.0
    return vectors @ vectors.T


def _similar(similarity: Array, neighbours: int) -> set[Pair]:
    """Return each photo's nearest ones, its neighbours in order, and a maximum spanning tree.

    Neighbours in order were mostly shot next to each other, and descriptors may miss that; the
    tree holds clusters together that are nearest neighbours only among themselves.
    """
    count = len(similarity)
    pairs = set(_window(count, 2))
    ranked = similarity.copy()
    np.fill_diagonal(ranked, -np.inf)
    nearest = np.argsort(-ranked, axis=1, kind="stable")[:, : min(neighbours, count - 1)]
    pairs.update((i, int(j)) for i, row in enumerate(nearest) for j in row)
    pairs.update(_maximum_spanning_tree(similarity))
    return pairs


def _maximum_spanning_tree(similarity: Array) -> Sequence[Pair]:
    """Return the edges of the tree with the largest sum of similarities (Prim 1957)."""
    count = len(similarity)
    best, link = similarity[0].copy(), np.zeros(count, np.int64)
    outside = np.ones(count, bool)
    outside[0] = False
    tree: list[Pair] = []
    while outside.any():
        j = int(np.argmax(np.where(outside, best, -np.inf)))
        tree.append((int(link[j]), j))
        outside[j] = False
        closer = similarity[j] > best
        best, link = np.where(closer, similarity[j], best), np.where(closer, j, link)
    return tree
