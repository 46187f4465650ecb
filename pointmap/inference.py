"""Photos to pairwise pointmaps: every photo is encoded once, every pair decoded both ways."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Container, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pointmap.devices import batch_size_of, choose_device, choose_dtype, in_batches, precision
from pointmap.encoding import (
    Encoded,
    EncodedOnDemand,
    EncodedPhotos,
    Float32,
    Progress,
    encode_photos,
    network_photos,
)
from pointmap.network import PointmapNetwork, Prediction
from pointmap.network.heads import DirectedPrediction
from pointmap.network.tokens import PhotoMaps, PhotoTokens, Size

# All that inference takes, from one place.
__all__ = [
    "EncodedOnDemand",
    "EncodedPhotos",
    "LocalFeatures",
    "PairPrediction",
    "choose_device",
    "choose_dtype",
    "encode_photos",
    "network_photos",
    "pair_batches",
    "predict_batches",
    "predict_pairs",
]

Item = TypeVar("Item")
Made = TypeVar("Made")
Float16 = NDArray[np.float16]

# Pairs are taken in blocks of this many photos by as many, and what the heads make of a photo alone
# is kept for twice as many photos: 0.4 GB at 512x384 with DPT heads, whatever the number of photos.
_BLOCK = 8


@dataclass(frozen=True)
class PairPrediction:
    """The pointmaps of photos i and j, both in camera i's frame, at the network's resolution.

    The scale of each prediction is arbitrary. A pixel for which the network overflowed has a
    point of zeros and the lowest confidence, 1; one that is masked or transparent has 0.
    """

    i: int
    j: int
    points_i: Float32
    """(hi, wi, 3) points of photo i's pixels."""
    confidence_i: Float32
    """(hi, wi), at least 1, but 0 where the photo doesn't count."""
    points_j: Float32
    """(hj, wj, 3) points of photo j's pixels, in camera i's frame too."""
    confidence_j: Float32
    """(hj, wj), likewise."""
    features_i: LocalFeatures | None = None
    """Photo i's local features as seen beside photo j, where the network has them (MASt3R)."""
    features_j: LocalFeatures | None = None
    """Photo j's local features as seen beside photo i."""


@dataclass(frozen=True)
class LocalFeatures:
    """A descriptor per pixel; dot products with those of the pair's other photo rank matches."""

    descriptors: Float16
    """(h, w, D) unit vectors; zeros where the network overflowed."""
    confidence: Float32
    """(h, w), above 0; 0 where the network overflowed or the photo doesn't count."""


def predict_pairs(
    network: PointmapNetwork,
    encoded: Encoded,
    pairs: Sequence[tuple[int, int]],
    *,
    device: torch.device,
    dtype: torch.dtype | None = None,
    batch_size: int | None = None,
    known: Container[int] = (),
    on_progress: Progress | None = None,
) -> Iterator[PairPrediction]:
    """Yield (i, j) and then (j, i), i < j, for every unordered pair.

    Pairs of the same two photo sizes come together, otherwise pairs of a few photos, so that each
    photo is needed for a short while. ``pairs`` are photo indices; a pair given twice or both ways
    round counts once, and a photo paired with itself, (i, i), yields one prediction.
    ``batch_size`` is the number of predictions made at once, which bounds the memory.

    ``known``: photos of which nothing is wanted; pairs of two such photos are left out. What the
    network says of a pair depends, in its last bits, on the others of its batch. Batches are made
    of all ``pairs``, known or not: a pair's prediction is always the same. Progress counts pairs.
    """
    batches = pair_batches(encoded.sizes, pairs, device=device, batch_size=batch_size)
    count, done = sum(map(len, batches)), 0
    made = predict_batches(network, encoded, batches, device=device, dtype=dtype, known=known)
    for batch, predictions in zip(batches, made, strict=True):
        yield from predictions
        done += len(batch)
        if on_progress and predictions:
            on_progress(done, count)


def pair_batches(
    sizes: Sequence[Size],
    pairs: Sequence[tuple[int, int]],
    *,
    device: torch.device,
    batch_size: int | None = None,
) -> list[list[tuple[int, int]]]:
    """Return the ``pairs`` as (i, j), i <= j, each once, in the batches of :func:`predict_pairs`.

    ``sizes``: (height, width) of all photos as the network sees them.
    """
    unordered = {(min(pair), max(pair)) for pair in pairs}
    if any(i < 0 or j >= len(sizes) for i, j in unordered):
        raise ValueError(f"pairs name photos beyond the {len(sizes)} encoded ones")
    place = _places(unordered)

    def block(pair: tuple[int, int]) -> tuple[int, ...]:
        early, late = sorted(place[k] // _BLOCK for k in pair)
        return late, early, *pair

    pairs_at_once = max(1, (batch_size or batch_size_of(device)) // 2)
    ordered = sorted(unordered, key=block)
    return list(in_batches(ordered, lambda pair: (sizes[pair[0]], sizes[pair[1]]), pairs_at_once))


def predict_batches(
    network: PointmapNetwork,
    encoded: Encoded,
    batches: Sequence[Sequence[tuple[int, int]]],
    *,
    device: torch.device,
    dtype: torch.dtype | None = None,
    known: Container[int] = (),
) -> Iterator[list[PairPrediction]]:
    """Yield the predictions of each of the ``batches``, which :func:`pair_batches` made: (i, j),
    then (j, i) of each pair but those of two ``known`` photos. Without such there is nothing to do.
    """
    decoder = _Decoder(network.to(device), encoded, device, dtype or choose_dtype(device))
    # A GPU works on the next batch while the caller works on this one.
    ahead = 1 if device.type == "cuda" else 0
    launched: deque[tuple[Sequence[tuple[int, int]], list[_Launched]]] = deque()
    for batch in [*batches, *[[]] * ahead]:
        nothing = all(i in known and j in known for i, j in batch)
        launched.append((batch, [] if nothing else decoder.launch(batch)))
        if len(launched) <= ahead:
            continue
        finished, calls = launched.popleft()
        made = {(p.i, p.j): _masked(p, encoded) for call in calls for p in call.predictions()}
        yield [
            made.pop(pair)
            for i, j in finished
            if not (i in known and j in known)
            for pair in dict.fromkeys([(i, j), (j, i)])
        ]


def _masked(prediction: PairPrediction, encoded: Encoded) -> PairPrediction:
    """Return the prediction with confidence 0 where its photos don't count."""
    for k, confidence, features in (
        (prediction.i, prediction.confidence_i, prediction.features_i),
        (prediction.j, prediction.confidence_j, prediction.features_j),
    ):
        usable = encoded.usable(k)
        if usable is not None:
            # Arrays of its own, which nobody else has seen yet.
            confidence[~usable] = 0
            if features is not None:
                features.confidence[~usable] = 0
    return prediction


def _places(pairs: set[tuple[int, int]]) -> dict[int, int]:
    """Return each photo's place in an order in which paired photos are near each other.

    Breadth first from a photo of few pairs (Cuthill & McKee 1969).
    """
    partners: dict[int, set[int]] = {}
    for i, j in pairs:
        partners.setdefault(i, set()).add(j)
        partners.setdefault(j, set()).add(i)
    photos = sorted(partners, key=lambda k: (len(partners[k]), k))
    place: dict[int, int] = {}
    for start in photos:
        waiting = deque([start])
        while waiting:
            k = waiting.popleft()
            if k not in place:
                place[k] = len(place)
                waiting.extend(sorted(partners[k], key=lambda n: (len(partners[n]), n)))
    return place


class _Decoder:
    """Decodes batches of pairs of one set of encoded photos."""

    def __init__(
        self,
        network: PointmapNetwork,
        encoded: Encoded,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self._network, self._encoded, self._sizes = network, encoded, encoded.sizes
        self._device, self._dtype = device, dtype
        # Of the function alone: a cache that refers to its owner would outlive it.
        make = functools.partial(_photo_maps, network, encoded, device)
        self._photo_maps = functools.lru_cache(maxsize=2 * _BLOCK)(make)

    @torch.inference_mode()
    def launch(self, batch: Sequence[tuple[int, int]]) -> list[_Launched]:
        """Decode pairs i <= j of one size per side in both directions; nothing for no pairs."""
        if self._device.type != "cpu" or len(batch) < 2:
            return [self._launch(batch)] if batch else []
        # What a batch gives depends, in its last bits, on its size, so that it is cut in halves
        # even if one thread is to do both.
        halves = batch[::2], batch[1::2]
        threads = torch.get_num_threads()
        if threads < 2:
            return [self._launch(half) for half in halves]
        photos = dict.fromkeys(k for pair in batch for k in pair)
        # Small operations keep one core busy, however many threads there are: two photos, or two
        # batches, side by side leave none idle.
        try:
            list(
                _two_workers().map(
                    _with_threads(threads // 2, self._encoded.tokens.__getitem__), photos
                )
            )
            for k in photos:
                self._photo_maps(k)
            return list(_two_workers().map(_with_threads(threads // 2, self._launch), halves))
        finally:
            # A worker's number became that of threads to come, too.
            torch.set_num_threads(threads)

    @torch.inference_mode()
    def _launch(self, batch: Sequence[tuple[int, int]]) -> _Launched:
        side1, side2 = zip(*batch, strict=True)
        photos1, photos2 = self._stacked(side1), self._stacked(side2)
        with precision(self._device, self._dtype):
            # A photo with itself has one order.
            both = (
                [self._network.decode(photos1, photos2)]
                if side1 == side2
                else self._network.decode_both(photos1, photos2)
            )
        directions = [
            DirectedPrediction(*(_to_host(_finite(view)) for view in directed)) for directed in both
        ]
        copied = None
        if self._device.type == "cuda":
            copied = torch.cuda.current_stream(self._device).record_event()
        return _Launched(batch, directions, copied)

    def _stacked(self, photos: Sequence[int]) -> PhotoTokens:
        """Return photos of one size as one side of a batch."""
        tokens = torch.stack([_tokens(self._encoded, k, self._device) for k in photos])
        maps = PhotoMaps.of_batch([self._photo_maps(k) for k in photos])
        return PhotoTokens(tokens, self._sizes[photos[0]], maps)


def _with_threads(threads: int, work: Callable[[Item], Made]) -> Callable[[Item], Made]:
    def working(item: Item) -> Made:
        torch.get_num_threads()  # a thread's first call forgets what was set before it
        torch.set_num_threads(threads)
        return work(item)

    return working


@functools.lru_cache(maxsize=1)
def _two_workers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(2, "decoder")


def _tokens(encoded: Encoded, k: int, device: torch.device) -> Tensor:
    return encoded.tokens[k].to(device, non_blocking=True)


def _photo_maps(
    network: PointmapNetwork, encoded: Encoded, device: torch.device, k: int
) -> PhotoMaps:
    photo = PhotoTokens(_tokens(encoded, k, device)[None], encoded.sizes[k])
    return network.photo_maps(photo)


@dataclass(frozen=True)
class _Launched:
    """Predictions of pairs in both directions, on the way to the CPU until ``copied``."""

    batch: Sequence[tuple[int, int]]
    directions: Sequence[DirectedPrediction]
    """Of pairs (i, j) and, except where all are photos with themselves, of (j, i)."""
    copied: torch.cuda.Event | None

    def predictions(self) -> Iterator[PairPrediction]:
        """Wait for the copies and give each prediction arrays of its own."""
        if self.copied is not None:
            self.copied.synchronize()
        for k, (i, j) in enumerate(self.batch):
            orders = [(i, j)] if i == j else [(i, j), (j, i)]
            for (first, second), directed in zip(orders, self.directions, strict=False):
                yield _pair_prediction(first, second, directed, k)


def _pair_prediction(i: int, j: int, directed: DirectedPrediction, k: int) -> PairPrediction:
    """Return what is predicted of photos i and j, number ``k`` of a batch."""
    view_i, view_j = directed
    return PairPrediction(
        i,
        j,
        points_i=_own_array(view_i.pts3d, k),
        confidence_i=_own_array(view_i.conf, k),
        points_j=_own_array(view_j.pts3d, k),
        confidence_j=_own_array(view_j.conf, k),
        features_i=_local_features(view_i, k),
        features_j=_local_features(view_j, k),
    )


def _local_features(view: Prediction, k: int) -> LocalFeatures | None:
    if view.desc is None or view.desc_conf is None:
        return None
    return LocalFeatures(_own_array(view.desc, k), _own_array(view.desc_conf, k))


def _own_array(batch: Tensor, k: int) -> NDArray[Any]:
    # A view would keep the whole batch in memory as long as one prediction lives.
    return batch[k].numpy().copy()


def _finite(view: Prediction) -> Prediction:
    """Take overflows out; features, if any, become float16."""
    good = view.pts3d.isfinite().all(dim=-1) & view.conf.isfinite()
    finite = Prediction(
        torch.where(good[..., None], view.pts3d, 0.0), torch.where(good, view.conf, 1.0)
    )
    if view.desc is None or view.desc_conf is None:
        return finite
    good = view.desc.isfinite().all(dim=-1) & view.desc_conf.isfinite()
    return replace(
        finite,
        desc=torch.where(good[..., None], view.desc, 0.0).half(),
        desc_conf=torch.where(good, view.desc_conf, 0.0),
    )


def _to_host(view: Prediction) -> Prediction:
    """Copies on the CPU; from a GPU they arrive later, while it goes on."""
    return Prediction(
        _copied(view.pts3d),
        _copied(view.conf),
        None if view.desc is None else _copied(view.desc),
        None if view.desc_conf is None else _copied(view.desc_conf),
    )


def _copied(x: Tensor) -> Tensor:
    if x.device.type == "cuda":
        return torch.empty(x.shape, dtype=x.dtype, pin_memory=True).copy_(x, non_blocking=True)
    return x.cpu().contiguous()
