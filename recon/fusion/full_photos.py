"""Photos again at (nearly) their full size, where depth and mesh are to show all their detail."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array
from pointmap.errors import InputError
from pointmap.images import load_photo, open_photos
from recon.scene import View


def scaled_sizes(sizes: Array, scale: float) -> Array:
    """Return sizes (..., 2) in whole pixels of photos of ``sizes`` times ``scale``."""
    return np.maximum(1, np.round(np.asarray(sizes) * scale))


def full_photo(view: View, scale: float) -> NDArray[np.uint8]:
    """Return the photo's pixels (h, w, 3) at its original size times ``scale``, at most 1.

    Of a photo that is gone or changed since, what the depth was made from is enlarged.
    """
    import cv2

    camera, pixels = view.camera, view.pixels
    width, height = scaled_sizes(np.array([camera.width, camera.height]), scale).astype(int)
    try:
        photos, _ = open_photos([view.path])
        if photos and (photos[0].width, photos[0].height) == (camera.width, camera.height):
            photo = replace(photos[0], mask=view.mask)
            pixels = load_photo(photo, long_side=max(width, height)).pixels
    except InputError:
        pass  # It vanished just now.
    if pixels.shape[:2] != (height, width):
        pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8)
    return pixels
