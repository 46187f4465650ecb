"""Photos divided in two where what speaks against one place outweighs what speaks for it."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from pointmap.camera import Array, Index, Mask

# Worst pairs from which a division is sought.
_STARTS = 12


def best_division(pairs: Index, weights: Array, count: int) -> tuple[float, Mask]:
    """Return the least weight of the pairs that a division of ``count`` photos in two separates,
    and (N,) which photos the smaller part are; 0 and nobody where none is less than that.

    ``pairs`` (E, 2) with ``weights`` (E,), less than 0 where two photos contradict each other: from
    these both parts are grown, and photos exchanged as long as that helps.
    """
    nobody = np.zeros(count, bool)
    worst = np.argsort(weights, kind="stable")[:_STARTS]
    worst = worst[weights[worst] < 0]
    if len(worst) == 0:
        return 0.0, nobody
    weight = sparse.csr_array((weights, (pairs[:, 0], pairs[:, 1])), (count, count))
    weight = sparse.csr_array(weight + weight.T)
    sides = [_settled(weight, _grown(weight, *pairs[k])) for k in worst]
    costs = [_cut(pairs, weights, side) for side in sides]
    best = int(np.argmin(costs))
    if costs[best] >= 0:
        return 0.0, nobody
    tied = np.zeros(count, bool)
    tied[pairs.ravel()] = True
    group = (sides[best] > 0) & tied
    other = (sides[best] < 0) & tied
    return costs[best], group if group.sum() <= other.sum() else other


def _grown(weight: sparse.csr_array, first: int, second: int) -> Array:
    """Return (N,) 1 or -1: the photos divided among two, those first that belong most clearly."""
    side = np.zeros(weight.shape[0])
    pull = np.zeros(weight.shape[0])
    photo, sign = first, 1.0
    for step in range(len(side)):
        if step == 1:
            photo, sign = second, -1.0
        elif step > 1:
            photo = int(np.argmax(np.where(side == 0, np.abs(pull), -1.0)))
            sign = 1.0 if pull[photo] >= 0 else -1.0
        side[photo] = sign
        row = slice(weight.indptr[photo], weight.indptr[photo + 1])
        pull[weight.indices[row]] += sign * weight.data[row]
    return side


def _settled(weight: sparse.csr_array, side: Array) -> Array:
    """Return the sides after photos have changed theirs, one by one, as long as that helps."""
    side = side.copy()
    pull = side * (weight @ side)
    while (photo := int(np.argmin(pull))) >= 0 and pull[photo] < -1e-9:
        side[photo] *= -1
        pull = side * (weight @ side)
    return side


def _cut(pairs: Index, weight: Array, side: Array) -> float:
    """Return the summed weight of the pairs that the division separates."""
    return float(weight[side[pairs[:, 0]] != side[pairs[:, 1]]].sum())
