"""Key points that look alike, counted by pairs of photos: a loop that numba compiles when it is
imported.
"""

from __future__ import annotations

import numpy as np

from pointmap.compiled import compiled


@compiled()
def bits_set(number):  # type: ignore[no-untyped-def]
    """Return how many of 64 bits are set."""
    number -= (number >> np.uint64(1)) & np.uint64(0x5555555555555555)
    pairs = np.uint64(0x3333333333333333)
    number = (number & pairs) + ((number >> np.uint64(2)) & pairs)
    number = (number + (number >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return (number * np.uint64(0x0101010101010101)) >> np.uint64(56)


@compiled("f4[:,::1](i8[::1],u8[:,::1],i8[::1],i8,u8)")
def votes_of_key_points(photo, signature, ends, count, most):  # type: ignore[no-untyped-def]
    """Return (N, N) for how many key points of photo i one of photo j looks alike, each of them
    divided by the number of photos of which that holds; N is ``count``.

    Alike are those of one word whose ``signature`` (K, 2) differs in at most ``most`` bits; those
    of word w, of the photos ``photo`` (K,), stand in rows ``ends[w]`` to ``ends[w + 1]``.
    """
    votes = np.zeros((count, count), np.float32)
    voted, chosen = np.zeros(count, np.uint8), np.empty(count, np.int64)
    for word in range(len(ends) - 1):
        for row in range(ends[word], ends[word + 1]):
            mine, number = photo[row], 0
            for other in range(ends[word], ends[word + 1]):
                theirs = photo[other]
                if theirs == mine or voted[theirs] != 0:
                    continue
                differ = bits_set(signature[row, 0] ^ signature[other, 0])
                if differ > most:
                    continue
                differ += bits_set(signature[row, 1] ^ signature[other, 1])
                if differ <= most:
                    voted[theirs] = 1
                    chosen[number] = theirs
                    number += 1
            for k in range(number):
                votes[mine, chosen[k]] += np.float32(1) / np.float32(number)
                voted[chosen[k]] = 0
    return votes
