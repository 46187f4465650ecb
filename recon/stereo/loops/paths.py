"""Costs of surfaces, and the surface of least energy along 8 paths (semi-global matching)."""

from __future__ import annotations

import numpy as np

from pointmap.compiled import compiled
from recon.stereo.photo import EDGE_STEP, GUESS_WIDTH

_ZERO, _EIGHTH, _HALF, _ONE, _TWO = (np.float32(value) for value in (0, 1 / 8, 0.5, 1, 2))
_EDGE_STEP, _GUESS_WIDTH = np.float32(EDGE_STEP), np.float32(GUESS_WIDTH)
_LEAST_CURVATURE, _INFINITE = np.float32(1e-6), np.float32(np.inf)


@compiled("void(f4[:,:,::1],f4[:,::1],f4[:,::1],f4[:,::1],f4[:,::1])")
def to_costs(scores, first, step, guess, weight):  # type: ignore[no-untyped-def]
    """Turn scores (h, D, w) into costs, 0 = perfect, with the votes for a guess."""
    h, count, w = scores.shape
    for row in range(h):
        for d in range(count):
            for i in range(w):
                cost = _ONE - scores[row, d, i]
                cost = cost if cost > _ZERO else _ZERO
                cost = cost if cost < _ONE else _ONE
                inverse = first[row, i] + np.float32(d) * step[row, i]
                away = _TWO / _GUESS_WIDTH * (inverse - guess[row, i]) / (inverse + guess[row, i])
                away *= away
                scores[row, d, i] = cost + weight[row, i] * (away if away < _ONE else _ONE)


@compiled()
def _step(cost, path, shift, limit, lowest, small, new, new_lowest, energy):  # type: ignore[no-untyped-def]
    """Extend paths by one row (Hirschmueller 2008, eq. 13) and add their costs to the energy.

    ``path`` and ``new`` (D + 2, w + 2) repeat their first and last pixel. ``new_lowest`` (2, w)
    takes turns, as an array that is only written where it changes is much slower; the last turn's
    row is ``len(cost) % 2``.
    """
    count, w = cost.shape
    for i in range(w):
        new_lowest[0, i] = _INFINITE
    start = 1 - shift
    for d in range(count):
        less, same, more = path[d, start:], path[d + 1, start:], path[d + 2, start:]
        old, turn = new_lowest[d % 2], new_lowest[(d + 1) % 2]
        for i in range(w):
            value = cost[d, i] + (
                min(min(same[i], limit[i]), min(less[i], more[i]) + small) - lowest[i]
            )
            new[d + 1, i + 1] = value
            energy[d, i] += value
            turn[i] = min(old[i], value)
        new[d + 1, 0], new[d + 1, w + 1] = new[d + 1, 1], new[d + 1, w]


@compiled(without_nan=True)
def _along_row(cost, grey, small, large, path, turned, both, energy):  # type: ignore[no-untyped-def]
    """Add the costs of the two paths along a row to its energy; ``path``, ``turned`` and ``both``
    are scratch, of which the ends of ``path`` are infinite.
    """
    count, w = cost.shape
    for d in range(count):
        for i in range(w):
            turned[i, d], both[i, d] = cost[d, i], _ZERO
    for backward in (False, True):
        for d in range(count):
            path[0, d + 1] = _ZERO
        lowest = _ZERO
        for n in range(w):
            i = w - 1 - n if backward else n
            old, new = n % 2, (n + 1) % 2
            limit = _ZERO
            if n > 0:
                edge = abs(grey[i] - grey[i + 1 if backward else i - 1])
                limit = lowest + small + (large - small) * np.exp(-edge / _EDGE_STEP)
            for d in range(count):
                beside = min(path[old, d], path[old, d + 2]) + small
                value = turned[i, d] + (min(min(path[old, d + 1], limit), beside) - lowest)
                path[new, d + 1] = value
                both[i, d] += value
            lowest = path[new, 1]
            for d in range(count):
                lowest = min(lowest, path[new, d + 1])
    for d in range(count):
        for i in range(w):
            energy[d, i] += both[i, d]


@compiled()
def _choose(energy, label, least):  # type: ignore[no-untyped-def]
    """Find the hypothesis of least energy, by a parabola through its neighbours, and the mean
    energy of its paths.
    """
    count, w = energy.shape
    for i in range(w):
        least[i], label[i] = _INFINITE, _ZERO
    for d in range(count):
        for i in range(w):
            better = energy[d, i] < least[i]
            least[i] = energy[d, i] if better else least[i]
            label[i] = np.float32(d) if better else label[i]
    for i in range(w):
        d = int(label[i])
        least[i] *= _EIGHTH
        if 0 < d < count - 1:
            low, mid, high = energy[d - 1, i], energy[d, i], energy[d + 1, i]
            curvature = _EIGHTH * (low - _TWO * mid + high)
            offset = _EIGHTH * _HALF * (low - high) / max(curvature, _LEAST_CURVATURE)
            label[i] += min(max(offset, -_HALF), _HALF)


@compiled("UniTuple(f4[:,::1],2)(f4[:,:,::1],f4[:,::1],f4,f4)")
def least_energy(cost, grey, small, large):  # type: ignore[no-untyped-def]
    """Return the fractional index of the lowest energy and that energy, (h, w) each."""
    h, count, w = cost.shape
    energy = np.zeros_like(cost)
    # Path costs by direction, of this row and the one before, and the lowest of each pixel; no
    # hypothesis is cheaper from outside.
    path = np.full((3, 2, count + 2, w + 2), _INFINITE, np.float32)
    ends = np.empty((3, 2, w), np.float32)
    labels, least = np.empty((h, w), np.float32), np.empty((h, w), np.float32)
    lowest, limit = np.empty(w, np.float32), np.empty(w, np.float32)
    along = np.full((2, count + 2), _INFINITE, np.float32)
    turned, both = np.empty((w, count), np.float32), np.empty((w, count), np.float32)
    for backward in (False, True):
        path[:, 0, 1:-1] = _ZERO
        for n in range(h):
            row = h - 1 - n if backward else n
            last = min(row + 1, h - 1) if backward else max(row - 1, 0)
            for direction in range(3):
                shift = direction - 1
                for i in range(w):
                    beside = min(max(i - shift, 0), w - 1)
                    lowest[i] = _ZERO if n == 0 else ends[direction, count % 2, beside]
                    edge = abs(grey[row, i] - grey[last, beside])
                    jump = small + (large - small) * np.exp(-edge / _EDGE_STEP)
                    limit[i] = lowest[i] + jump
                old, new = path[direction, n % 2], path[direction, (n + 1) % 2]
                _step(
                    cost[row], old, shift, limit, lowest, small, new, ends[direction], energy[row]
                )
            if not backward:
                _along_row(cost[row], grey[row], small, large, along, turned, both, energy[row])
            else:
                _choose(energy[row], labels[row], least[row])
    return labels, least
