"""How well photos agree on the colours of a region under planes of inverse depth."""

from __future__ import annotations

import math

import numpy as np

from pointmap.compiled import compiled

# Differences of grey levels (0 to 255) of which the most frequent is looked for: steps, and how
# many of them to either side of 0.
_STEP, _BINS = 0.5, 48
# Colours that differ by so many levels after that differ altogether: by more than noise, and by
# more than light and mirrors change a plain surface.
_NOISE, _OTHER_SURFACE = 3.0, 20.0
# Depth that a source knows and that is relatively nearer or farther is another surface's.
_MARGIN = 0.03


@compiled()
def _most_frequent(difference, seen, channel, counts):  # type: ignore[no-untyped-def]
    """Find the mean of the most frequent differences of a colour: exposure and white balance."""
    counts[:] = 0
    for n in range(len(seen)):
        if seen[n]:
            place = math.floor(difference[n, channel] / _STEP) + _BINS
            if 0 <= place < len(counts):
                counts[place] += 1
    best, most = 1, -1
    for place in range(1, len(counts) - 1):
        here = counts[place - 1] + counts[place] + counts[place + 1]
        if here > most:
            best, most = place, here
    low = (best - 1 - _BINS) * _STEP
    total, count = 0.0, 0
    for n in range(len(seen)):
        if seen[n] and low <= difference[n, channel] < low + 3 * _STEP:
            total += difference[n, channel]
            count += 1
    return total / count if count else 0.0


@compiled()
def _differences(plane, x, y, colours, photo, known, terms, difference, seen, past):  # type: ignore[no-untyped-def]
    """Find the colours that a source shows where the plane has the pixels, less theirs; ``past``:
    where the source knows to look past the plane.
    """
    height, width = known.shape
    for n in range(len(x)):
        seen[n] = past[n] = False
        inverse = plane[0] + plane[1] * x[n] + plane[2] * y[n]
        px, py = x[n] + 0.5, y[n] + 0.5
        z = terms[0, 2] * px + terms[1, 2] * py + terms[2, 2] + inverse * terms[3, 2]
        if inverse <= 0 or z <= 1e-6:
            continue
        u = (terms[0, 0] * px + terms[1, 0] * py + terms[2, 0] + inverse * terms[3, 0]) / z - 0.5
        v = (terms[0, 1] * px + terms[1, 1] * py + terms[2, 1] + inverse * terms[3, 1]) / z - 0.5
        if u < 0 or v < 0 or u >= width - 1 or v >= height - 1:
            continue
        j, k = int(u), int(v)
        # Inverse depth that the source knows, in the reference's terms.
        there = known[int(v + 0.5), int(u + 0.5)] * z
        if there > inverse * (1 + _MARGIN):
            continue
        seen[n] = True
        past[n] = 0 < there < inverse * (1 - _MARGIN)
        u, v = u - j, v - k
        for c in range(3):
            above = photo[k, j, c] + u * (photo[k, j + 1, c] - photo[k, j, c])
            below = photo[k + 1, j, c] + u * (photo[k + 1, j + 1, c] - photo[k + 1, j, c])
            difference[n, c] = above + v * (below - above) - colours[n, c]


@compiled("f8[::1](f8[:,::1],f8[::1],f8[::1],f4[:,::1],f4[:,:,:,::1],f4[:,:,::1],f8[:,:,::1])")
def region_costs(planes, x, y, colours, photos, known, terms):  # type: ignore[no-untyped-def]
    """Return costs (C,) in [0, 1] of ``planes`` (C, 3): inverse depth a + b x + c y.

    ``x``, ``y`` (N,) are columns and rows of a region's pixels, ``colours`` (N, 3) theirs, and
    ``photos`` (S, h, w, 3) those of the sources, in grey levels; ``known`` (S, h, w): inverse depth
    of the sources, 0 = unknown; ``terms`` (S, 4, 3): A transposed and b of
    :func:`recon.stereo.photo.pixel_terms`. A pixel's cost is the mean over the better half of the
    sources that see it and know nothing nearer, 0.5 without one.
    """
    count, sources = len(x), len(photos)
    found = np.zeros(len(planes))
    difference = np.zeros((count, 3))
    seen, past = np.zeros(count, np.bool_), np.zeros(count, np.bool_)
    counts = np.zeros(2 * _BINS, np.int64)
    errors, witnesses = np.zeros((count, sources)), np.zeros(count, np.int64)
    shift = np.zeros(3)
    for p in range(len(planes)):
        witnesses[:] = 0
        for s in range(sources):
            _differences(
                planes[p], x, y, colours, photos[s], known[s], terms[s], difference, seen, past
            )
            for c in range(3):
                shift[c] = _most_frequent(difference, seen, c, counts)
            for n in range(count):
                if not seen[n]:
                    continue
                error = 0.0
                for c in range(3):
                    error += (difference[n, c] - shift[c]) ** 2
                error = math.sqrt(error)
                error = (min(error / _NOISE, 1.0) + min(error / _OTHER_SURFACE, 1.0)) / 2
                if past[n]:
                    error = 1.0
                # Sorted as they come.
                place = witnesses[n]
                while place > 0 and errors[n, place - 1] > error:
                    errors[n, place] = errors[n, place - 1]
                    place -= 1
                errors[n, place] = error
                witnesses[n] += 1
        total = 0.0
        for n in range(count):
            half = (witnesses[n] + 1) // 2
            if half == 0:
                total += 0.5
                continue
            part = 0.0
            for place in range(half):
                part += errors[n, place]
            total += part / half
        found[p] = total / count
    return found
