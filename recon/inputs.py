"""What a run starts from: photos, what is known of their cameras, given maps, network, device."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pointmap.errors import InputError
from pointmap.images import Photo, ResizedPhoto, find_photos, load_photo, open_photos
from recon.known_cameras import KnownCameras, load_known_cameras
from recon.localise.extension import extended
from recon.prediction.given_maps import PriorMap, read_prior_maps

if TYPE_CHECKING:
    import torch

    from pointmap.network import PointmapNetwork

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Inputs:
    """What every stage is handed first; made once, by :func:`read_inputs`.

    ``photos`` N, with what is ``known`` of their cameras; ``maps``: a given depth map per photo, in
    the place of the network's depth, or None; ``network``, which is moved to ``device`` when it is
    first asked. ``decoded`` keeps photos by long side and multiple, so that each is decoded once
    per size.
    """

    photos: tuple[Photo, ...]
    known: KnownCameras
    maps: tuple[PriorMap, ...] | None
    network: PointmapNetwork
    device: torch.device
    decoded: dict[tuple[int, int], tuple[ResizedPhoto, ...]] = field(
        default_factory=dict, repr=False, compare=False
    )

    def frames(self, long_side: int, *, multiple: int = 1) -> tuple[ResizedPhoto, ...]:
        """Return all photos resized (see :func:`pointmap.images.load_photo`).

        Raises ``InputError`` for a file that has become unreadable meanwhile.
        """
        size = long_side, multiple
        if size not in self.decoded:
            self.decoded[size] = tuple(
                load_photo(photo, long_side=long_side, multiple=multiple) for photo in self.photos
            )
        return self.decoded[size]

    def network_frames(self) -> tuple[ResizedPhoto, ...]:
        """Return all photos at the size in which the network sees them."""
        config = self.network.config
        return self.frames(max(config.img_size), multiple=config.patch_size)

    @property
    def is_single_photo(self) -> bool:
        """Whether there is one photo and nothing but the network tells its camera and depth."""
        known = (*self.known.lenses, *self.known.cam_to_world)
        return len(self.photos) == 1 and self.maps is None and all(k is None for k in known)


def read_inputs(
    photos: Sequence[str | Path] | str | Path,
    *,
    weights: str | None = None,
    device: str | None = None,
    known_cameras: str | None = None,
    extend: str | None = None,
    prior_depth: str | None = None,
) -> Inputs:
    """Read what a run starts from; whatever can be wrong with it shows here.

    ``photos``: files, folders or patterns; the others as in :class:`recon.options.Options`. Files
    that cannot be used are left out with a warning. Raises ``InputError`` when no photo is left, or
    another input cannot be used.
    """
    from pointmap.checkpoint import load_network
    from pointmap.inference import choose_device

    opened = open_usable([photos] if isinstance(photos, (str, Path)) else list(photos))
    if extend is None:
        known = load_known_cameras(known_cameras, opened)
    else:
        opened, known = extended(extend, opened)
    maps = None
    if prior_depth is not None:
        maps = tuple(read_prior_maps(Path(prior_depth), opened))
    chosen = choose_device(device)
    return Inputs(tuple(opened), known, maps, load_network(weights), chosen)


def open_usable(inputs: Sequence[str | Path]) -> list[Photo]:
    """Return the photos that can be used; ``InputError`` when there is none."""
    opened, rejected = open_photos(find_photos(inputs))
    for failure in rejected:
        logger.warning("%s is left out: %s", failure.path.name, failure.reason)
    if not opened:
        raise InputError(
            "no usable photo: each of the files was left out (see the warnings); "
            "give JPEG, PNG, WebP, TIFF or HEIC photos of at least 32 pixels a side"
            if rejected
            else "no photo found; give photo files or a folder that holds some"
        )
    return opened
