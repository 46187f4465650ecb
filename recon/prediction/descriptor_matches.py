"""Matches from local features of the network (MASt3R, arXiv 2406.09756, section 3.3).

A pixel's best match is the one of the largest dot product. To look for that of every pixel is slow
and most are wrong; fast reciprocal matching starts on a grid of pixels and goes back and forth
between the photos until a pixel and its match choose each other. Where it goes round without
agreement there is no match. Such matches are found where descriptors are distinct.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pointmap.camera import Array
from recon.stage_results import POINTMAP_SIGMA, PairMatches

if TYPE_CHECKING:
    from pointmap.images import Photo
    from pointmap.inference import LocalFeatures, PairPrediction

# Times that matches go back and forth: those that settle do so within a few.
_ROUNDS = 10
# Descriptors compared with at once, to bound the memory.
_BLOCK = 8192
# Pixels of each photo, about, from which matches are looked for.
_STARTS = 800

Numbers = NDArray[np.int64]


def reciprocal_matches(
    descriptors_1: NDArray[np.floating],
    descriptors_2: NDArray[np.floating],
    *,
    step: int,
    device: torch.device,
) -> tuple[Numbers, Numbers]:
    """Return flat pixel numbers in maps (h1, w1, D) and (h2, w2, D) that choose each other.

    The search starts from every ``step``-th pixel of the first map, the grid half a step from its
    corner, and ends after ten rounds. Sorted by the first map's number, each match once.
    """
    height, width = descriptors_1.shape[:2]
    grid = np.mgrid[step // 2 : height : step, step // 2 : width : step].reshape(2, -1)
    flat_1, flat_2 = _flat(descriptors_1, device), _flat(descriptors_2, device)
    here = torch.from_numpy(np.ravel_multi_index((grid[0], grid[1]), (height, width))).to(device)
    found = []
    for _ in range(_ROUNDS):
        there = _best(flat_1[here], flat_2)
        back = _best(flat_2[there], flat_1)
        agree = back == here
        found.append(torch.stack([here[agree], there[agree]], dim=1))
        # Paths that have met go on as one.
        here = back[~agree].unique()
        if not len(here):
            break
    pairs = torch.cat(found).unique(dim=0).cpu().numpy()
    return pairs[:, 0], pairs[:, 1]


class FeatureMatches(NamedTuple):
    """Flat pixel numbers (M,) in the two maps, and the matches' confidences (M,)."""

    number_1: Numbers
    number_2: Numbers
    confidence: NDArray[np.float32]


def symmetric_matches(
    features_1: LocalFeatures, features_2: LocalFeatures, *, step: int, device: torch.device
) -> FeatureMatches:
    """Return the matches of two photos as seen in one prediction, from starts in both.

    A match is as sure as the less sure of its two pixels. Sorted by the first map's number, then
    the second's.
    """
    first, second = features_1.descriptors, features_2.descriptors
    forward = reciprocal_matches(first, second, step=step, device=device)
    backward = reciprocal_matches(second, first, step=step, device=device)
    both = np.concatenate([np.stack(forward, 1), np.stack(backward[::-1], 1)])
    number_1, number_2 = np.unique(both, axis=0).T
    confidence = np.minimum(
        features_1.confidence.ravel()[number_1], features_2.confidence.ravel()[number_2]
    )
    return FeatureMatches(number_1, number_2, confidence)


def match_descriptors(
    prediction_ij: PairPrediction,
    prediction_ji: PairPrediction,
    photos: Sequence[Photo],
    *,
    device: torch.device,
    limit: int = 1000,
) -> PairMatches | None:
    """Return the ``limit`` surest matches of a pair's local features (i < j), None without them.

    Each of the two predictions has its own. Positions are pixel centres of the network's grid.
    """
    found = []
    for prediction in (prediction_ij, prediction_ji):
        features_i, features_j = prediction.features_i, prediction.features_j
        if features_i is None or features_j is None:
            return None
        if prediction is prediction_ji:
            features_i, features_j = features_j, features_i
        height, width = features_i.confidence.shape
        step = max(1, round(np.sqrt(height * width / _STARTS)))
        found.append(symmetric_matches(features_i, features_j, step=step, device=device))
    number_i, number_j, confidence = (np.concatenate(parts) for parts in zip(*found, strict=True))
    usable = confidence > 0
    return matches_of_pixels(
        prediction_ij,
        photos,
        np.stack([number_i, number_j], axis=1)[usable],
        confidence[usable],
        limit=limit,
    )


def _flat(descriptors: NDArray[np.floating], device: torch.device) -> Tensor:
    """Return the descriptors (N, D) of a map (h, w, D) in float32 on the device."""
    return torch.from_numpy(np.ascontiguousarray(descriptors)).flatten(0, 1).to(device).float()


def _best(queries: Tensor, descriptors: Tensor) -> Tensor:
    """Return for each query (Q, D) the number of the descriptor (N, D) of largest dot product."""
    best = queries.new_full((len(queries),), -torch.inf)
    number = torch.zeros(len(queries), dtype=torch.int64, device=queries.device)
    for start in range(0, len(descriptors), _BLOCK):
        product, index = (queries @ descriptors[start : start + _BLOCK].T).max(dim=1)
        better = product > best
        best = torch.where(better, product, best)
        number = torch.where(better, index + start, number)
    return number


def matches_of_pixels(
    prediction: PairPrediction,
    photos: Sequence[Photo],
    pixels: NDArray[np.int64],
    confidence: NDArray[np.floating],
    *,
    limit: int,
) -> PairMatches:
    """Return the ``limit`` surest of the matching ``pixels``, each once.

    ``pixels`` (M, 2) are flat numbers in the maps of photos i and j of ``prediction``;
    ``confidence`` (M,). ``sigma_px`` is :data:`POINTMAP_SIGMA` network pixels.
    """
    i, j = prediction.i, prediction.j
    order = np.argsort(-confidence, kind="stable")
    _, kept = np.unique(pixels[order], axis=0, return_index=True)
    pixels = pixels[order][np.sort(kept)[:limit]]
    xy_i, scale_i = _grid_to_original(pixels[:, 0], prediction.confidence_i.shape, photos[i])
    xy_j, scale_j = _grid_to_original(pixels[:, 1], prediction.confidence_j.shape, photos[j])
    none = np.full(len(pixels), -1, np.int64)
    sigma_px = POINTMAP_SIGMA * (scale_i + scale_j) / 2
    return PairMatches(i, j, xy_i, xy_j, none, none.copy(), sigma_px)


def _grid_to_original(
    numbers: NDArray[np.int64], shape: tuple[int, ...], photo: Photo
) -> tuple[Array, float]:
    """Return original pixel positions of flat network pixel numbers, and the mean scale to them."""
    height, width = shape
    scale = np.array([photo.width / width, photo.height / height])
    xy = np.stack([numbers % width, numbers // width], axis=1) + 0.5
    return xy * scale, float(scale.mean())
