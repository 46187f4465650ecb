"""How well windows of photos match under surfaces of inverse depth."""

from __future__ import annotations

import numpy as np

from pointmap.compiled import compiled
from recon.stereo.photo import LEAST_DEPTH, NOISE_VARIANCE, NOT_SEEN, WINDOW

_SIDE = 2 * WINDOW + 1
_ZERO, _HALF, _ONE = np.float32(0), np.float32(0.5), np.float32(1)
_SHARE = np.float32(1 / _SIDE**2)
_LEAST_DEPTH, _NOISE, _NOT_SEEN = (
    np.float32(value) for value in (LEAST_DEPTH, NOISE_VARIANCE, NOT_SEEN)
)


@compiled()
def _warp(x, y, inverse, terms, height, width, u, v, seen):  # type: ignore[no-untyped-def]
    """Find where a source shows a row of reference pixels."""
    bottom, right = np.float32(height), np.float32(width)
    a, b, c, d = terms
    a0, a1, a2, b0, b1, b2, c0, c1, c2, d0, d1, d2 = (
        a[0], a[1], a[2], b[0], b[1], b[2], c[0], c[1], c[2], d[0], d[1], d[2])  # fmt: skip
    for i in range(len(x)):
        r = inverse[i]
        z = c0 * x[i] + c1 * y[i] + (c2 + r * d2)
        scale = _ONE / (z if z > _LEAST_DEPTH else _LEAST_DEPTH)
        u[i] = (a0 * x[i] + a1 * y[i] + (a2 + r * d0)) * scale
        v[i] = (b0 * x[i] + b1 * y[i] + (b2 + r * d1)) * scale
        seen[i] = z
    for i in range(len(x)):
        inside = (u[i] >= _ZERO) & (u[i] <= right) & (v[i] >= _ZERO) & (v[i] <= bottom)
        seen[i] = _ONE if inside & (seen[i] > _LEAST_DEPTH) else _ZERO


@compiled()
def _sample(photo, height, width, u, v, corner, sampled):  # type: ignore[no-untyped-def]
    """Interpolate a photo at pixels (u, v), those outside moved to its border; u, v are spent."""
    right, bottom = np.float32(width - 1), np.float32(height - 1)
    last_column, last_row = np.int32(width - 2), np.int32(height - 2)
    for i in range(len(u)):
        # Written so that NaN ends at 0.
        column = u[i] - _HALF if u[i] > _HALF else _ZERO
        row = v[i] - _HALF if v[i] > _HALF else _ZERO
        column = column if column < right else right
        row = row if row < bottom else bottom
        j, k = min(np.int32(column), last_column), min(np.int32(row), last_row)
        u[i], v[i] = column - np.float32(j), row - np.float32(k)
        corner[i] = np.uint32(k * np.int32(width) + j)
    for i in range(len(u)):
        # Unsigned, as a negative index would be asked for.
        above, below = corner[i], corner[i] + np.uint32(width)
        first, second = photo[above], photo[above + np.uint32(1)]
        third, fourth = photo[below], photo[below + np.uint32(1)]
        first += u[i] * (second - first)
        third += u[i] * (fourth - third)
        sampled[i + WINDOW] = first + v[i] * (third - first)
    for i in range(WINDOW):
        sampled[i] = sampled[WINDOW]
        sampled[len(u) + WINDOW + i] = sampled[len(u) + WINDOW - 1]


@compiled()
def _sum_along(values, grey, sums):  # type: ignore[no-untyped-def]
    """Sum values, their squares and products with ``grey`` over windows of a row: (3, w)."""
    for i in range(sums.shape[1]):
        a, b, c, d, e = values[i], values[i + 1], values[i + 2], values[i + 3], values[i + 4]
        sums[0, i] = a + b + c + d + e
        sums[1, i] = a * a + b * b + c * c + d * d + e * e
        sums[2, i] = (
            a * grey[i] + b * grey[i + 1] + c * grey[i + 2] + d * grey[i + 3] + e * grey[i + 4]
        )


@compiled()
def _sum_down(sums, row, h, total):  # type: ignore[no-untyped-def]
    """Sum the sums of rows around ``row``, the first and last row of the photo repeated."""
    a, b = max(row - 2, 0) % _SIDE, max(row - 1, 0) % _SIDE
    c = row % _SIDE
    d, e = min(row + 1, h - 1) % _SIDE, min(row + 2, h - 1) % _SIDE
    for k in range(3):
        for i in range(total.shape[1]):
            total[k, i] = (
                sums[a, k, i] + sums[b, k, i] + sums[c, k, i] + sums[d, k, i] + sums[e, k, i]
            )


@compiled()
def _moments(total, mean, rough):  # type: ignore[no-untyped-def]
    """Find the mean, and one over the deviation, noise included, of windows of the reference."""
    for i in range(len(mean)):
        mean[i] = total[0, i] * _SHARE
        variance = total[1, i] * _SHARE - mean[i] * mean[i]
        rough[i] = _ONE / np.sqrt((variance if variance > _ZERO else _ZERO) + _NOISE)


@compiled()
def _match(total, mean, rough, seen, score):  # type: ignore[no-untyped-def]
    """Find the NCC of windows of a source with those of the reference."""
    for i in range(len(mean)):
        own = total[0, i] * _SHARE
        variance = total[1, i] * _SHARE - own * own
        variance = variance if variance > _ZERO else _ZERO
        covariance = total[2, i] * _SHARE - own * mean[i]
        matched = covariance * rough[i] / np.sqrt(variance + _NOISE)
        score[i] = matched if seen[i] > _ZERO else _NOT_SEEN


@compiled()
def _rank(score, best, better):  # type: ignore[no-untyped-def]
    """Put scores where they belong among the best of each pixel; ``score`` is spent.

    ``better`` is another array, as one that is only written where it changes is much slower.
    """
    for rank in range(len(best)):
        for i in range(len(score)):
            new, old = score[i], best[rank, i]
            better[rank, i] = new if new > old else old
            score[i] = old if new > old else new


@compiled()
def _mean_of_seen(best, count, result):  # type: ignore[no-untyped-def]
    for i in range(len(result)):
        result[i], count[i] = _ZERO, _ZERO
    for rank in range(len(best)):
        for i in range(len(result)):
            valid = best[rank, i] > _NOT_SEEN
            result[i] += best[rank, i] if valid else _ZERO
            count[i] += _ONE if valid else _ZERO
    for i in range(len(result)):
        result[i] /= count[i] if count[i] > _ONE else _ONE


@compiled(
    "f4[:,:,::1](f4[:,::1],f4[:,::1],f4[:,::1],f4[:,:,::1],f4[::1],i8[:,::1],f4[:,:,::1],f4[:,::1],i8)"
)
def scores(x, y, padded, terms, greys, places, surfaces, step, count):  # type: ignore[no-untyped-def]
    """Return scores (h, D, w): hypothesis d is surfaces[d] + step d, of the last surface if d is
    larger.

    ``x``, ``y`` (h, w): where a pinhole shows the reference's pixels; ``padded`` (h, w + 4): its
    grey levels, the first and last of each row repeated; of each source ``terms`` (4, 3): A and b,
    and in ``places`` start, height and width of its grey levels in ``greys``.
    """
    h, w = x.shape
    sources = len(terms)
    ranks = (sources + 1) // 2
    result = np.empty((h, count, w), np.float32)
    mean, rough = np.empty((h, w), np.float32), np.empty((h, w), np.float32)
    # Of the last rows of every source: sums along the row, and which pixels it sees.
    sums = np.empty((sources + 1, _SIDE, 3, w), np.float32)
    seen = np.empty((sources, _SIDE, w), np.float32)
    u, v = np.empty(w, np.float32), np.empty(w, np.float32)
    corner = np.empty(w, np.uint32)
    sampled, inverse = np.empty(w + 2 * WINDOW, np.float32), np.empty(w, np.float32)
    total, score = np.empty((3, w), np.float32), np.empty(w, np.float32)
    best = np.empty((2, ranks, w), np.float32)
    for row in range(h + WINDOW):
        if row < h:
            _sum_along(padded[row], padded[row], sums[sources, row % _SIDE])
        if row >= WINDOW:
            _sum_down(sums[sources], row - WINDOW, h, total)
            _moments(total, mean[row - WINDOW], rough[row - WINDOW])
    for d in range(count):
        surface = surfaces[min(d, len(surfaces) - 1)]
        for row in range(h + WINDOW):
            if row < h:
                for i in range(w):
                    inverse[i] = surface[row, i] + np.float32(d) * step[row, i]
                for s in range(sources):
                    start, height, width = places[s]
                    photo = greys[start : start + height * width]
                    _warp(
                        x[row],
                        y[row],
                        inverse,
                        terms[s],
                        height,
                        width,
                        u,
                        v,
                        seen[s, row % _SIDE],
                    )
                    _sample(photo, height, width, u, v, corner, sampled)
                    _sum_along(sampled, padded[row], sums[s, row % _SIDE])
            centre = row - WINDOW
            if centre >= 0:
                for rank in range(ranks):
                    for i in range(w):
                        best[0, rank, i] = _NOT_SEEN
                for s in range(sources):
                    _sum_down(sums[s], centre, h, total)
                    _match(total, mean[centre], rough[centre], seen[s, centre % _SIDE], score)
                    _rank(score, best[s % 2], best[(s + 1) % 2])
                _mean_of_seen(best[sources % 2], score, result[centre, d])
    return result
