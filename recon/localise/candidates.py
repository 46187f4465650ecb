"""Which photos of a scene a new photo is matched with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pointmap.images import Photo, ResizedPhoto, load_photo, resized_size
from pointmap.masks import resized_mask
from recon.localise.solved_scene import SolvedScene
from recon.stage_results import PhotoFeatures
from recon.two_view.features import extract_features, match_count

PARTNERS = 10
"""Photos of the scene that a new one is matched with at full size."""

# Small pictures and their strongest features rank photos as well as whole ones, at a twentieth of
# the cost: 0.05 CPU-seconds for each photo of the scene.
_LONG_SIDE, _FEATURES = 320, 600


def likely_partners(scene: SolvedScene, photos: Sequence[Photo]) -> list[list[str]]:
    """Return for each new photo the scene's placed photos that match it best, best first.

    Every photo of the scene is looked at once, small, and forgotten; of scenes with few photos all
    are partners, without a look.
    """
    names = scene.placed
    if len(names) <= PARTNERS:
        return [names for _ in photos]
    new = [_strongest(load_photo(photo, long_side=_LONG_SIDE)) for photo in photos]
    counts = np.zeros((len(photos), len(names)), np.int64)
    for number, name in enumerate(names):
        shown = _strongest(scene.small_copy(name)).descriptors
        counts[:, number] = [match_count(shown, features.descriptors) for features in new]
    order = np.argsort(-counts, axis=1, kind="stable")[:, :PARTNERS]
    return [[names[k] for k in row] for row in order.tolist()]


def _strongest(picture: ResizedPhoto) -> PhotoFeatures:
    import cv2

    height, width = picture.pixels.shape[:2]
    size = resized_size(width, height, _LONG_SIDE)
    pixels = cv2.resize(picture.pixels, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
    usable = None if picture.usable is None else resized_mask(picture.usable, *size)
    return extract_features(ResizedPhoto(picture.photo, pixels, usable), limit=_FEATURES)
