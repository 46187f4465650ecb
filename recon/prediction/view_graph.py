"""Which pairs of photos to look at.

Every pair costs a matching, so that beyond a few photos only those pairs are taken that are likely
to show the same things.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pointmap.errors import InputError
from recon.prediction.photo_graph import component_labels

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Pair = tuple[int, int]
Float32 = NDArray[np.float32]

# Photos compared with all others at once.
_BLOCK = 512
# Photos that so many steps from strong pair to strong pair don't reach are elsewhere, or the way
# back to where the walk has been.
_STEPS_AWAY = 3
# The order of the photos is that of shooting where more than this share of photos are among the
# most similar ones of the photo before or after: by chance, few of many are.
_IN_ORDER = 0.75


@dataclass(frozen=True)
class ViewGraph:
    """Pairs of photo indices, ``i < j``, sorted, each once.

    ``in_order``: descriptors say that the photos are in the order of shooting, and the pairs follow
    it, far ones included.
    """

    pairs: tuple[Pair, ...]
    in_order: bool = False


@dataclass(frozen=True)
class ViewGraphOptions:
    """How pairs are chosen."""

    strategy: Literal["auto", "complete", "window", "star"] = "auto"
    """auto: all pairs of few photos, similar ones of many. complete: all pairs. window: photos
    close to each other in order (video). star: every photo with the centre photo."""
    neighbours: int = 8
    """auto: most similar photos that each photo is paired with at first; half as many follow where
    matches lead to, and a quarter as many of those that no matches lead to. Photos in the order of
    shooting are paired up to twice as far along it, ever more sparsely, and a quarter as many
    similar ones beyond. window: reach to either side."""
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
    return _similar(_usable(descriptors, count), options.neighbours)


def more_similar_pairs(
    likeness: ArrayLike, strengths: Mapping[Pair, float], *, neighbours: int
) -> ViewGraph:
    """Return pairs that have not been looked at, of photos that few pairs hold.

    Those that are strongly paired with fewer than half of ``neighbours`` others, as at a corner or
    in a doorway, where what is seen changes at once: three times ``neighbours`` of the photos most
    like them are tried. ``likeness`` (N, N), 0 where photos have nothing in common; ``strengths``
    as in :func:`further_pairs`.
    """
    alike = np.array(likeness, np.float32)
    firm = [photo for pair, strength in strengths.items() if strength > 0 for photo in pair]
    few = np.bincount(np.array(firm, np.int64), minlength=len(alike)) < neighbours / 2
    alike[~few] = 0
    return _graph(_most_alike(alike, 3 * neighbours) - strengths.keys())


def pairs_beyond(
    likeness: ArrayLike, strengths: Mapping[Pair, float], *, per_photo: int
) -> ViewGraph:
    """Return pairs that have not been looked at, of photos that no strong pairs lead to.

    The most similar photos of a walk are those before and after. Where it comes back to a place,
    from another side, likeness is less than theirs and more than that of the others: each photo
    gets the ``per_photo`` ones most like it of those that three steps from strong pair to strong
    pair don't reach. ``likeness``, ``strengths`` as in :func:`more_similar_pairs`.
    """
    alike = np.array(likeness, np.float32)
    alike[reached(len(alike), strengths).nonzero()] = 0
    return _graph(_most_alike(alike, per_photo) - strengths.keys())


def _most_alike(likeness: Float32, per_photo: int) -> set[Pair]:
    """Return the pairs of each photo with those most like it, of equal ones the first; none of
    photos that have nothing in common.
    """
    np.fill_diagonal(likeness, 0)
    order = np.argsort(-likeness, axis=1, kind="stable")[:, :per_photo]
    alike = np.take_along_axis(likeness, order, axis=1) > 0
    return {_sorted(int(i), int(order[i, k])) for i, k in np.argwhere(alike).tolist()}


def reached(count: int, strengths: Mapping[Pair, float]) -> csr_array:
    """Return a matrix (N, N), not zero where three steps or fewer from strong pair to strong pair
    lead, ``strengths`` as in :func:`further_pairs`.
    """
    steps = _adjacency(count, {pair: float(s > 0) for pair, s in strengths.items()})
    near = steps
    for _ in range(_STEPS_AWAY - 1):
        near = near + near @ steps
    return near


def further_pairs(count: int, strengths: Mapping[Pair, float], *, per_photo: int) -> ViewGraph:
    """Return pairs that have not been looked at, of photos that are strongly paired with the same.

    ``strengths``: of the pairs (i < j) that have been looked at, in [0, 1]. Each photo gets the
    ``per_photo`` others to which most and strongest ways of two steps lead. That finds neighbours
    across a gap that descriptors don't bridge, and the rest of a loop where one pair closes it.
    """
    if not strengths:
        return ViewGraph(())
    steps = _adjacency(count, strengths)
    ways = (steps @ steps).tocsr()
    ways.sort_indices()
    found: list[Pair] = []
    for photo in range(count):
        row = np.s_[ways.indptr[photo] : ways.indptr[photo + 1]]
        order = np.argsort(-ways.data[row], kind="stable")
        others = [
            pair
            for other in ways.indices[row][order].tolist()
            if other != photo and (pair := _sorted(photo, other)) not in strengths
        ]
        found += others[:per_photo]
    return _graph(found)


def _adjacency(count: int, strengths: Mapping[Pair, float]) -> csr_array:
    """Return the strengths of pairs as a symmetric matrix (N, N)."""
    from scipy.sparse import csr_array

    i, j = np.array(list(strengths), np.int64).reshape(-1, 2).T
    weight = np.array(list(strengths.values()), np.float64)
    ends = np.concatenate([i, j]), np.concatenate([j, i])
    steps = csr_array((np.concatenate([weight, weight]), ends), shape=(count, count))
    steps.eliminate_zeros()
    return steps


def _sorted(i: int, j: int) -> Pair:
    return (i, j) if i < j else (j, i)


def _graph(pairs: Iterable[Pair], *, in_order: bool = False) -> ViewGraph:
    return ViewGraph(tuple(sorted({_sorted(int(i), int(j)) for i, j in pairs})), in_order)


def _checked(pairs: Iterable[Pair], count: int) -> list[Pair]:
    pairs = list(pairs)
    for i, j in pairs:
        if i == j or not (0 <= i < count and 0 <= j < count):
            raise InputError(f"pair ({i}, {j}) is none of {count} photos numbered from 0")
    return pairs


def _window(count: int, reach: int) -> list[Pair]:
    return [(i, j) for i in range(count) for j in range(i + 1, min(i + reach + 1, count))]


def _usable(descriptors: ArrayLike, count: int) -> Float32:
    """Return the descriptors (N, C) less their mean, of unit length.

    What all photos have in common tells none apart; without it the rest decides. Photos whose
    descriptor is not finite, or equal to the mean, have zeros and are similar to none.
    """
    vectors = np.asarray(descriptors, np.float32).reshape(count, -1)
    usable: NDArray[np.bool_] = np.asarray(np.isfinite(vectors).all(axis=1))
    mean = np.where(usable[:, None], vectors, 0).sum(axis=0, dtype=np.float64)
    mean /= max(usable.sum(), 1)
    vectors = np.where(usable[:, None], vectors - mean.astype(np.float32), 0)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 1e-6)


def _similar(vectors: Float32, neighbours: int) -> ViewGraph:
    """Return each photo's nearest ones, or what a meaningful order says, and a tree.

    A photo of which no descriptor tells anything has its neighbours in order. The tree, of greatest
    similarity, holds clusters together that are nearest neighbours only among themselves.
    """
    count = len(vectors)
    reach, beyond = 2 * neighbours, max(neighbours // 4, 1)
    nearest = _nearest(vectors, min(2 * reach + beyond, count - 1))
    told: NDArray[np.bool_] = np.asarray(vectors.any(axis=1))
    pairs = _each_with(nearest[:, :neighbours], told)
    window = _window(count, (neighbours + 1) // 2)
    pairs.update((i, j) for i, j in window if not (told[i] and told[j]))
    in_order = np.mean([(i, i + 1) in pairs for i in range(count - 1)]) > _IN_ORDER
    if in_order:
        pairs = _along_order(nearest, told, reach, beyond)
    return _graph(pairs | _tree(vectors, pairs), in_order=bool(in_order))


def _each_with(others: NDArray[np.int64], told: NDArray[np.bool_]) -> set[Pair]:
    """Return the pairs of each photo ``told`` (N,) with ``others`` (N, K)."""
    return {_sorted(i, j) for i in np.flatnonzero(told).tolist() for j in others[i].tolist()}


def _along_order(
    nearest: NDArray[np.int64], told: NDArray[np.bool_], reach: int, beyond: int
) -> set[Pair]:
    """Return pairs 1, 2, 4, ... photos apart, up to ``reach``, and those that close loops.

    The nearest photos of a dense walk show nearly the same from nearly the same place, and say
    little of how the walk bends. Pairs far apart do, and are few. From ``nearest`` (N, K), most
    similar first, come ``beyond`` photos further along for each one: where the walk comes back.
    """
    steps = [2**k for k in range(reach.bit_length()) if 2**k <= reach]
    pairs = {(i, i + step) for step in steps for i in range(len(nearest) - step)}
    for i in np.flatnonzero(told).tolist():
        far = nearest[i][np.abs(nearest[i] - i) > reach]
        pairs.update(_sorted(i, j) for j in far[:beyond].tolist())
    return pairs


def _blocks(vectors: Float32) -> Iterator[tuple[NDArray[np.int64], Float32]]:
    """Yield photos (B,) and their similarities (B, N) to all: never all with all at once."""
    for start in range(0, len(vectors), _BLOCK):
        photos = np.arange(start, min(start + _BLOCK, len(vectors)))
        yield photos, vectors[photos] @ vectors.T


def _nearest(vectors: Float32, neighbours: int) -> NDArray[np.int64]:
    """Return each photo's most similar others (N, neighbours), of equal ones the first."""
    rows = []
    for photos, similarity in _blocks(vectors):
        similarity[np.arange(len(photos)), photos] = -np.inf
        rows.append(np.argsort(-similarity, axis=1, kind="stable")[:, :neighbours])
    return np.concatenate(rows)


def _tree(vectors: Float32, pairs: Iterable[Pair]) -> set[Pair]:
    """Return the pairs that join the components of ``pairs``, of the largest sum of similarities.

    Every component is joined to the photo outside that is most like one of its own, until there is
    one component (Boruvka 1926).
    """
    tree: set[Pair] = set()
    pairs = set(pairs)
    while (label := component_labels(len(vectors), pairs | tree)).any():
        best = np.full(int(label.max()) + 1, -np.inf)
        links: dict[int, Pair] = {}
        for photos, similarity in _blocks(vectors):
            similarity[label[photos, None] == label] = -np.inf
            other = similarity.argmax(axis=1)
            reached = similarity[np.arange(len(photos)), other]
            for i, j, value in zip(photos.tolist(), other.tolist(), reached, strict=True):
                if value > best[label[i]]:
                    best[label[i]], links[int(label[i])] = value, (i, j)
        tree.update(links.values())
    return tree
