"""One photo by itself: what the network says of it without any other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pointmap.images import Photo, load_photo
from recon.canonical import PhotoPrior, PriorAccumulator

if TYPE_CHECKING:
    import torch

    from pointmap.network import PointmapNetwork


def predict_alone(
    photos: Sequence[Photo], network: PointmapNetwork, *, device: torch.device
) -> Iterator[PhotoPrior]:
    """Yield each photo's pointmap and focal length, the photo looked at as a pair with itself."""
    from pointmap.inference import encode_photos, predict_pairs

    for photo in photos:
        resized = load_photo(
            photo, long_side=max(network.config.img_size), multiple=network.config.patch_size
        )
        encoded = encode_photos(network, [resized], device=device)
        accumulator = PriorAccumulator([photo])
        for prediction in predict_pairs(network, encoded, [(0, 0)], device=device):
            accumulator.add(prediction)
        yield accumulator.finish()[0]
