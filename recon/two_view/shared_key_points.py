"""How much photos seem to have in common, all of them with all, by key points that look alike.

One vector per photo (:mod:`recon.two_view.photo_descriptors`) says what a photo shows as a whole:
of a walk, what the photos before and after show. Where a walk turns, crosses itself or passes a
plain wall, two photos share a corner of either at most, which the rest drowns. Key points tell
still: each has a word of a large vocabulary and a signature of 128 bits, and those of one word
that differ in few bits are mostly of one thing (Hamming embedding, Jegou et al., ECCV 2008). What
many photos show (the next ones, bricks) tells little: each key point has one vote.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from recon.stage_results import PhotoFeatures
from recon.two_view.words import Float32, k_means, nearest_word, spread

# Words are those of two levels: so many, and so many in each of them per photo: however many photos
# there are, a key point is compared with about 500 others.
_COARSE, _FINE_PER_PHOTO = 64, 1 / 8
# Key points of each photo, and of all, that the vocabulary is learned from: 0.1 GB.
_KEY_POINTS, _ALL_KEY_POINTS = 200, 200_000
_ROUNDS = 8
_SIZE = 128
# Bits that differ at most. Of 143 pairs of a street of 500 that had 25 right matches or more, and
# VLAD had led to in no way, 7 in 10 were among the four most alike of either photo with 24, as many
# with 30, and 6 in 10 with 36.
_MOST_BITS = 24


def key_point_likeness(features: Sequence[PhotoFeatures]) -> Float32:
    """Return (N, N), symmetric, how much photos have in common: key points that look alike, over
    the geometric mean of how many the two photos have; 0 on the diagonal.

    The photos' key points are asked for one photo after the other, twice, and not kept. The same
    photos give the same numbers.
    """
    from recon.two_view.compiled_votes import votes_of_key_points

    count = len(features)
    vocabulary = _Vocabulary(features)
    numbers, signatures = [np.zeros(0, np.int64)], [np.zeros((0, 2), np.uint64)]
    key_points = np.zeros(count, np.int64)
    for photo in range(count):
        descriptors = features[photo].descriptors
        key_points[photo] = len(descriptors)
        if len(descriptors):
            number, signature = vocabulary.look_up(descriptors)
            numbers.append(number)
            signatures.append(signature)
    number, signature = np.concatenate(numbers), np.concatenate(signatures)
    order = np.argsort(number, kind="stable")
    ends = np.concatenate([[0], np.cumsum(np.bincount(number, minlength=vocabulary.words))])
    photo_of = np.repeat(np.arange(count), key_points)[order]
    votes = votes_of_key_points(photo_of, signature[order], ends, count, np.uint64(_MOST_BITS))
    size = np.sqrt(np.maximum(key_points, 1)).astype(np.float32)
    return np.asarray((votes + votes.T) / size[:, None] / size)


class _Vocabulary:
    """Words of two levels, and what makes a signature."""

    def __init__(self, features: Sequence[PhotoFeatures]) -> None:
        most = min(_KEY_POINTS, _ALL_KEY_POINTS // max(len(features), 1))
        sample = [
            descriptors[spread(len(descriptors), most)]
            for descriptors in (features[photo].descriptors for photo in range(len(features)))
        ]
        points = np.concatenate([*sample, np.zeros((0, _SIZE), np.float32)])
        self._coarse = k_means(points, _COARSE, _ROUNDS)
        number = nearest_word(points, self._coarse) if len(points) else np.zeros(0, np.int64)
        # A word that none of them is nearest to has itself for its own.
        members = [
            points[number == w] if (number == w).any() else self._coarse[w : w + 1]
            for w in range(len(self._coarse))
        ]
        fine = max(int(_FINE_PER_PHOTO * len(features)), 1)
        self._fine = [k_means(its, fine, _ROUNDS) for its in members]
        self._starts = np.cumsum([0, *map(len, self._fine)])
        self.words = int(self._starts[-1])
        normal = np.random.default_rng(0).normal(size=(_SIZE, _SIZE))
        self._turn = np.linalg.qr(normal)[0].astype(np.float32)
        self._middle = np.array(
            [np.median(its @ self._turn, axis=0) for its in members], np.float32
        ).reshape(-1, _SIZE)

    def look_up(self, descriptors: Float32) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
        """Return the words (K,) of ``descriptors`` (K, 128), one or more, and signatures (K, 2)."""
        coarse = nearest_word(descriptors, self._coarse)
        number = self._starts[coarse]
        for word in np.unique(coarse).tolist():
            rows = np.flatnonzero(coarse == word)
            number[rows] += nearest_word(descriptors[rows], self._fine[word])
        bits = descriptors @ self._turn > self._middle[coarse]
        return number, np.packbits(bits, axis=1).view(np.uint64)
