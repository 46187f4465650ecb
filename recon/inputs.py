"""What a run starts from: the photos that can be used."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from pointmap.errors import InputError
from pointmap.images import Photo, find_photos, open_photos

logger = logging.getLogger(__name__)


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
