"""The photos that stereo looks at, the last ones kept on the device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from recon.stereo.frame import Frame
from recon.stereo.photo import Photo2D
from recon.stereo.view import StereoView

# Photos used last are kept up to this size in all, and at least so many: each is a source of about
# five others.
_CACHE_BYTES, _LEAST_CACHED = 64 * 2**20, 16


class CachedPhotos(NamedTuple):
    """What gives the photo of a view by its number, the same at half size, and the colours of plain
    regions there.
    """

    whole: Callable[[int], Photo2D]
    half: Callable[[int], Photo2D]
    colours: Callable[[int], NDArray[np.float32]]

    @staticmethod
    def of(views: Sequence[StereoView], device: torch.device) -> CachedPhotos:
        """Return those of ``views``, each made when it is asked for."""
        # Bytes of the grey levels; photos of one scene are of about one size.
        size = 4 * views[0].pixels[..., 0].size if views else 1
        most = max(_LEAST_CACHED, _CACHE_BYTES // (size + size // 4))
        whole = lru_cache(most)(lambda i: Frame.of(views[i], device).photo)
        colours = lru_cache(most)(lambda i: Frame.of(views[i], device).halved().colours())
        return CachedPhotos(whole, lru_cache(most)(lambda i: whole(i).halved()), colours)


# By the names of the views: of the scene that this process worked on last for another one.
_kept: dict[tuple[str, ...], CachedPhotos] = {}


def kept_photos(
    views: Sequence[StereoView], names: tuple[str, ...], device: torch.device
) -> CachedPhotos:
    """Return the photos of ``views``, the same as before where this process was last asked for
    views of these ``names``.
    """
    key = *names, str(device)
    if key not in _kept:
        _kept.clear()
        _kept[key] = CachedPhotos.of(views, device)
    return _kept[key]
