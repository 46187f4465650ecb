"""One vector per photo that tells which photos show the same things, made of its key points.

VLAD (Jegou et al. 2010): to which word of a small vocabulary each key point's descriptor belongs,
and where within that word. The vocabulary is learned from the very photos, so that it tells them
apart and needs no file.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recon.stage_results import PhotoFeatures
from recon.two_view.words import Float32, k_means, nearest_word, spread, sums_by_word

_WORDS = 64
# Photos, and key points of each, that the vocabulary is learned from.
_PHOTOS, _KEY_POINTS = 200, 200
_ROUNDS = 8


def photo_descriptors(features: Sequence[PhotoFeatures]) -> Float32:
    """Return unit vectors (N, C) whose dot products say how alike photos are.

    A photo without key points has zeros. The photos' key points are asked for one photo after the
    other, twice, and not kept. The same photos give the same vectors.
    """
    words = _vocabulary(features)
    vectors = np.zeros((len(features), words.size), np.float32)
    for photo in range(len(features)):
        vectors[photo] = _vlad(features[photo].descriptors, words)
    return vectors


def _vocabulary(features: Sequence[PhotoFeatures]) -> Float32:
    """Return the centres (W, 128) of the photos' descriptors by k-means, W <= :data:`_WORDS`."""
    photos = spread(len(features), _PHOTOS).tolist()
    sample = [
        descriptors[spread(len(descriptors), _KEY_POINTS)]
        for descriptors in (features[photo].descriptors for photo in photos)
    ]
    points = np.concatenate([*sample, np.zeros((0, 128), np.float32)])
    return k_means(points, _WORDS, _ROUNDS)


def _vlad(descriptors: Float32, words: Float32) -> Float32:
    """Return the vector (W * 128,) of one photo.

    Each word's part has unit length, so that a repeated texture, a word with hundreds of key
    points, doesn't drown the others (Arandjelovic & Zisserman 2013).
    """
    if not len(descriptors):
        return np.zeros(words.size, np.float32)
    sums, counts = sums_by_word(descriptors, nearest_word(descriptors, words), len(words))
    rest = sums - counts * words
    rest /= np.maximum(np.linalg.norm(rest, axis=1, keepdims=True), 1e-6)
    return rest.ravel() / np.maximum(np.linalg.norm(rest), 1e-6)
