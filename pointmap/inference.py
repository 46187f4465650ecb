"""Photos to pairwise pointmaps: every photo is encoded once, every pair decoded both ways."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pointmap.errors import InputError
from pointmap.network import PointmapNetwork, Prediction

if TYPE_CHECKING:
    from pointmap.images import ResizedPhoto

Item = TypeVar("Item")
Size = tuple[int, int]
Float32 = NDArray[np.float32]
Progress = Callable[[int, int], None]
"""Called with the items done and the items in all."""


@dataclass(frozen=True)
class EncodedPhotos:
    """The encoder's answer for every photo, on the CPU."""

    tokens: tuple[Tensor, ...]
    """Per photo (N, C), N patches row-major, in the dtype the network ran in."""
    sizes: tuple[Size, ...]
    """Per photo the (height, width) the network saw, pixels."""
    descriptors: Float32
    """(photos, C) mean tokens of unit length: a global descriptor, for the view graph."""


@dataclass(frozen=True)
class PairPrediction:
    """The pointmaps of photos i and j, both in camera i's frame, at the network's resolution.

    The scale of each prediction is arbitrary. A pixel for which the network overflowed has a
    point of zeros and the lowest confidence, 1.
    """

    i: int
    j: int
    points_i: Float32
    """(hi, wi, 3) points of photo i's pixels."""
    confidence_i: Float32
    """(hi, wi), at least 1."""
    points_j: Float32
    """(hj, wj, 3) points of photo j's pixels, in camera i's frame too."""
    confidence_j: Float32
    """(hj, wj), at least 1."""


def choose_device(name: str | None = None) -> torch.device:
    """Return the device called ``name``, or the best one here: cuda, then mps, then cpu."""
    found = {"cpu": 1, "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0}
    found["mps"] = int(torch.backends.mps.is_available())
    if name is None:
        return torch.device("cuda" if found["cuda"] else "mps" if found["mps"] else "cpu")
    here = ", ".join(kind for kind, count in found.items() if count)
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"device {name!r} is not a device; this machine has {here}") from error
    if (device.index or 0) >= found.get(device.type, 0):
        raise InputError(f"device {name!r} is not available; this machine has {here}")
    return device


def choose_dtype(device: torch.device) -> torch.dtype:
    """Return bfloat16 where the hardware multiplies it faster than float32, else float32."""
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = device.type == "cpu" and bool(_cpu_flags() & {"avx512_bf16", "amx_bf16"})
    return torch.bfloat16 if fast else torch.float32


@functools.lru_cache(maxsize=1)
def _cpu_flags() -> frozenset[str]:
    """Instruction sets of this CPU, as Linux lists them; nothing elsewhere."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("flags"):
                return frozenset(line.partition(":")[2].split())
    return frozenset()


def encode_photos(
    network: PointmapNetwork,
    photos: Sequence[ResizedPhoto],
    *,
    device: torch.device,
    dtype: torch.dtype | None = None,
    batch_size: int | None = None,
    on_progress: Progress | None = None,
) -> EncodedPhotos:
    """Run the encoder over every photo, photos of one size together.

    ``photos`` have sides that are multiples of the patch size. ``dtype`` None is
    ``choose_dtype(device)``, ``batch_size`` None what suits the device. The network is moved to
    ``device`` and stays there.
    """
    if not photos:
        raise InputError("no photo to encode; give at least one")
    network.to(device)
    dtype = dtype or choose_dtype(device)
    sizes = tuple((photo.pixels.shape[0], photo.pixels.shape[1]) for photo in photos)
    tokens: dict[int, Tensor] = {}
    descriptors: dict[int, Float32] = {}
    for batch in _batches(range(len(photos)), sizes.__getitem__, batch_size or _batch(device)):
        pixels = np.stack([photos[index].pixels for index in batch])
        encoded, means = _encode(network, torch.from_numpy(pixels), device, dtype)
        tokens.update(zip(batch, encoded, strict=True))
        descriptors.update(zip(batch, means, strict=True))
        if on_progress:
            on_progress(len(tokens), len(photos))
    order = range(len(photos))
    return EncodedPhotos(
        tuple(tokens[k] for k in order), sizes, np.stack([descriptors[k] for k in order])
    )


def predict_pairs(
    network: PointmapNetwork,
    encoded: EncodedPhotos,
    pairs: Sequence[tuple[int, int]],
    *,
    device: torch.device,
    dtype: torch.dtype | None = None,
    batch_size: int | None = None,
    on_progress: Progress | None = None,
) -> Iterator[PairPrediction]:
    """Yield (i, j) and then (j, i), i < j, for every unordered pair.

    Pairs of the same two photo sizes come together, in the order of their first pair. ``pairs``
    are photo indices; a pair given twice or both ways round counts once, and a photo paired with
    itself, (i, i), yields one prediction. ``batch_size`` is the number of predictions made at
    once, which bounds the memory. Progress counts pairs.
    """
    unordered = list(dict.fromkeys((min(pair), max(pair)) for pair in pairs))
    if any(i < 0 or j >= len(encoded.tokens) for i, j in unordered):
        raise ValueError(f"pairs name photos beyond the {len(encoded.tokens)} encoded ones")
    network.to(device)
    dtype = dtype or choose_dtype(device)
    done = 0

    def size_key(pair: tuple[int, int]) -> tuple[Size, Size]:
        return encoded.sizes[pair[0]], encoded.sizes[pair[1]]

    pairs_at_once = max(1, (batch_size or _batch(device)) // 2)
    for batch in _batches(unordered, size_key, pairs_at_once):
        directed = [(i, j) for i, j in batch]
        swapped = [(j, i) for i, j in batch if i != j]
        size1, size2 = size_key(batch[0])
        # One decoder call takes both directions where the sizes let it.
        calls = [directed + swapped] if size1 == size2 else [directed, swapped]
        made = {
            (prediction.i, prediction.j): prediction
            for call in calls
            for prediction in _decode(network, encoded, call, device, dtype)
        }
        for i, j in batch:
            yield made.pop((i, j))
            if i != j:
                yield made.pop((j, i))
        done += len(batch)
        if on_progress:
            on_progress(done, len(unordered))


def _batch(device: torch.device) -> int:
    """Photos or predictions at once: what fills the device without needing much memory."""
    return 4 if device.type == "cpu" else 16


def _batches(
    items: Sequence[Item], key: Callable[[Item], Hashable], batch_size: int
) -> Iterator[list[Item]]:
    """Yield the items in lists of equal key and at most ``batch_size``, in order of first key."""
    groups: dict[Hashable, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    for group in groups.values():
        for start in range(0, len(group), batch_size):
            yield group[start : start + batch_size]


def _precision(
    device: torch.device, dtype: torch.dtype
) -> contextlib.AbstractContextManager[object]:
    if dtype == torch.float32:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=dtype)


@torch.inference_mode()
def _encode(
    network: PointmapNetwork, pixels: Tensor, device: torch.device, dtype: torch.dtype
) -> tuple[list[Tensor], Float32]:
    """Tokens of photos (B, H, W, 3) uint8, one tensor each, and their unit mean tokens (B, C)."""
    images = pixels.to(device).permute(0, 3, 1, 2).float().div(127.5).sub(1.0)
    with _precision(device, dtype):
        tokens = network.encode(images)
    means = torch.nn.functional.normalize(tokens.float().mean(dim=1), dim=-1)
    return list(tokens.to("cpu", dtype)), means.cpu().numpy()


@torch.inference_mode()
def _decode(
    network: PointmapNetwork,
    encoded: EncodedPhotos,
    directed: Sequence[tuple[int, int]],
    device: torch.device,
    dtype: torch.dtype,
) -> list[PairPrediction]:
    """Predictions of directed pairs that share one size per side; none for no pairs."""
    if not directed:
        return []
    tokens1 = torch.stack([encoded.tokens[i] for i, _ in directed]).to(device)
    tokens2 = torch.stack([encoded.tokens[j] for _, j in directed]).to(device)
    i, j = directed[0]
    with _precision(device, dtype):
        both = network.decode(tokens1, tokens2, encoded.sizes[i], encoded.sizes[j])
    (points1, confidence1), (points2, confidence2) = (_finite(side) for side in both)
    return [
        PairPrediction(
            i, j, points1[k].copy(), confidence1[k].copy(), points2[k].copy(), confidence2[k].copy()
        )
        for k, (i, j) in enumerate(directed)
    ]


def _finite(side: Prediction) -> tuple[Float32, Float32]:
    """Points (B, H, W, 3) and confidences (B, H, W) on the CPU, overflows taken out."""
    good = side.pts3d.isfinite().all(dim=-1) & side.conf.isfinite()
    points = torch.where(good[..., None], side.pts3d, 0.0)
    confidence = torch.where(good, side.conf, 1.0)
    return (
        np.ascontiguousarray(points.float().cpu().numpy()),
        np.ascontiguousarray(confidence.float().cpu().numpy()),
    )
