"""Photos to the encoder's tokens, each once: all at once, or when they are asked for."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pointmap.devices import batch_size_of, choose_dtype, in_batches, precision
from pointmap.errors import InputError
from pointmap.network import PointmapNetwork
from pointmap.network.tokens import Size

if TYPE_CHECKING:
    from pointmap.images import Photo, ResizedPhoto

Float32 = NDArray[np.float32]
Progress = Callable[[int, int], None]
"""Called with the items done and the items in all."""

# Photos whose tokens are kept where photos are encoded on demand: more than the 2 x 8 of two blocks
# of pairs, and 45 MB at 384x288 with the bundled network.
_KEPT = 32


class Encoded(Protocol):
    """What the encoder says of photos, at once or on demand."""

    @property
    def tokens(self) -> Sequence[Tensor]:
        """Per photo (N, C), N patches row-major, in the dtype the network ran in."""

    @property
    def sizes(self) -> Sequence[Size]:
        """Per photo the (height, width) the network sees, pixels."""

    def usable(self, k: int) -> NDArray[np.bool_] | None:
        """Which pixels of photo ``k``, whose tokens were asked for, count; None where all do."""


@dataclass(frozen=True)
class EncodedPhotos:
    """The encoder's answer for every photo, on the CPU."""

    tokens: tuple[Tensor, ...]
    """Per photo (N, C), N patches row-major, in the dtype the network ran in."""
    sizes: tuple[Size, ...]
    """Per photo the (height, width) the network saw, pixels."""
    masks: tuple[NDArray[np.bool_] | None, ...] = ()
    """Per photo which of its pixels count, None where all do."""

    def usable(self, k: int) -> NDArray[np.bool_] | None:
        """Return which pixels of photo ``k`` count, None where all do."""
        return self.masks[k] if self.masks else None


class EncodedOnDemand(Sequence[Tensor]):
    """The tokens of photos that are loaded and encoded when they are asked for.

    The last :data:`_KEPT` asked for are kept. Each photo is encoded by itself, so that its tokens
    are the same whenever that is. May be asked from several threads.
    """

    def __init__(
        self, network: PointmapNetwork, photos: Sequence[Photo], *, device: torch.device
    ) -> None:
        self._network, self._photos, self._device = network.to(device), photos, device
        self._dtype = choose_dtype(device)
        self._kept: OrderedDict[int, Tensor] = OrderedDict()
        self._masks: dict[int, NDArray[np.bool_]] = {}
        self._lock = threading.Lock()

    @property
    def tokens(self) -> Sequence[Tensor]:
        """Per photo (N, C), N patches row-major, in the dtype the network ran in."""
        return self

    @property
    def sizes(self) -> Sequence[Size]:
        """Per photo the (height, width) the network sees, pixels."""
        return [_network_size(self._network, photo)[::-1] for photo in self._photos]

    def usable(self, k: int) -> NDArray[np.bool_] | None:
        """Return which pixels of photo ``k``, whose tokens were asked for, count; None: all do."""
        return self._masks.get(k)

    def __len__(self) -> int:
        return len(self._photos)

    def __getitem__(self, k: int) -> Tensor:  # type: ignore[override]  # no slices of it
        with self._lock:
            if k in self._kept:
                self._kept.move_to_end(k)
                return self._kept[k]
        (photo,) = network_photos(self._network, [self._photos[k]])
        pixels = torch.from_numpy(photo.pixels[None])
        (tokens,) = _encode(self._network, pixels, self._device, self._dtype)
        with self._lock:
            self._kept[k] = tokens
            if photo.usable is not None:
                self._masks[k] = photo.usable
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return tokens


def network_photos(network: PointmapNetwork, photos: Sequence[Photo]) -> list[ResizedPhoto]:
    """Return the photos at the size in which ``network`` sees them."""
    from pointmap.images import load_photo

    side, patch = max(network.config.img_size), network.config.patch_size
    return [load_photo(photo, long_side=side, multiple=patch) for photo in photos]


def _network_size(network: PointmapNetwork, photo: Photo) -> Size:
    """Return the (width, height) of :func:`network_photos`."""
    from pointmap.images import resized_size

    side, patch = max(network.config.img_size), network.config.patch_size
    return resized_size(photo.width, photo.height, side, patch)


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
    for batch in in_batches(
        range(len(photos)), sizes.__getitem__, batch_size or batch_size_of(device)
    ):
        pixels = np.stack([photos[index].pixels for index in batch])
        encoded = _encode(network, torch.from_numpy(pixels), device, dtype)
        tokens.update(zip(batch, encoded, strict=True))
        if on_progress:
            on_progress(len(tokens), len(photos))
    order = range(len(photos))
    return EncodedPhotos(
        tuple(tokens[k] for k in order),
        sizes,
        tuple(photo.usable for photo in photos),
    )


@torch.inference_mode()
def _encode(
    network: PointmapNetwork, pixels: Tensor, device: torch.device, dtype: torch.dtype
) -> list[Tensor]:
    """Tokens of photos (B, H, W, 3) uint8, one tensor each."""
    pixels = pixels.pin_memory() if device.type == "cuda" else pixels
    images = pixels.to(device, non_blocking=True).permute(0, 3, 1, 2).float().div(127.5).sub(1.0)
    with precision(device, dtype):
        tokens = network.encode(images).values
    on_cpu = tokens.to("cpu", dtype)
    # Pinned: every batch of pairs copies tokens back to the GPU.
    return list(on_cpu.pin_memory() if device.type == "cuda" else on_cpu)
