"""What is kept of a photo between the encoder and the decoder, which takes it in many pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

Size = tuple[int, int]
"""Height and width in pixels."""


class PhotoMaps(NamedTuple):
    """What the two heads make of each photo of a batch alone, the same in all its pairs.

    A map (1, C, h, w) for each photo; None for a head that has no such part or has yet to make it.
    """

    head1: Sequence[Tensor] | None = None
    head2: Sequence[Tensor] | None = None

    @classmethod
    def of_batch(cls, parts: Sequence[PhotoMaps]) -> PhotoMaps:
        """Return the maps of a batch that consists of ``parts``, in their order."""
        return cls(_in_a_row([p.head1 for p in parts]), _in_a_row([p.head2 for p in parts]))


NO_MAPS = PhotoMaps()


@dataclass(frozen=True)
class PhotoTokens:
    """Encoded photos of one size: one side of a batch of pairs."""

    values: Tensor
    """(B, N, C), N patches row-major."""
    size: Size
    """Of the photos."""
    maps: PhotoMaps = NO_MAPS
    """What the network's ``photo_maps`` says of them; decoding makes what it needs and is None."""

    def followed_by(self, others: PhotoTokens) -> PhotoTokens:
        """Return one batch of these photos and then ``others`` of the same size."""
        maps = PhotoMaps.of_batch([self.maps, others.maps])
        return PhotoTokens(torch.cat([self.values, others.values]), self.size, maps)

    def halves(self) -> tuple[PhotoTokens, PhotoTokens]:
        """Return the first and the second half of the batch, without maps."""
        first, second = self.values.chunk(2)
        return PhotoTokens(first, self.size), PhotoTokens(second, self.size)


def _in_a_row(parts: Sequence[Sequence[Tensor] | None]) -> list[Tensor] | None:
    known = [part for part in parts if part is not None]
    return [photo for part in known for photo in part] if len(known) == len(parts) else None
