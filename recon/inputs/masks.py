"""Masks of photos: found by the photos' names in a folder, and checked before the work begins."""

from __future__ import annotations

import logging
import os
import statistics
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pointmap.errors import InputError, UnusablePicture, number_of, some_of
from pointmap.file_digest import file_sha256
from pointmap.images import Photo
from pointmap.masks import is_grey, read_mask
from pointmap.photo_names import composed

logger = logging.getLogger(__name__)

# Masks that leave less of most photos may be meant the other way round.
_LITTLE = 0.1


def without_masks(folder: str | Path | None, photos: Sequence[Photo]) -> list[Photo]:
    """Return the photos but those that are masks of others, which lie among them."""
    if folder is None:
        return list(photos)
    masks = {path.resolve() for photo in photos if (path := _mask_of(photo, Path(folder)))}
    return [photo for photo in photos if photo.path.resolve() not in masks]


def with_masks(folder: str | Path | None, photos: Sequence[Photo]) -> list[Photo]:
    """Return the photos with their masks of ``folder``, those without one as they are.

    The mask of ``left/a.jpg`` is ``left/a.jpg.png`` (COLMAP's convention) or ``left/a.png``, or in
    the folder itself ``a.jpg.png`` or ``a.png``, if no other photo's is called so. Photos that are
    masked everywhere are left out with a warning; how many have no mask is warned of. No
    ``folder``: no masks. Raises ``InputError`` when it is no folder, has no photo's mask, or a mask
    cannot be read, has another shape than its photo, or may be that of two photos.
    """
    if folder is None:
        return list(photos)
    folder = Path(folder)
    if not os.path.isdir(folder):
        raise InputError(f"{folder} is no folder: --masks takes one with a mask NAME.EXT.png each")
    paths = [_mask_of(photo, folder) for photo in photos]
    found = [path for path in paths if path is not None]
    if not found:
        raise InputError(
            f"{folder} has no photo's mask: that of {photos[0].path.name} would be called "
            f"{photos[0].path.name}.png"
        )
    twice = next((path for path in found if found.count(path) > 1), None)
    if twice is not None:
        raise InputError(
            f"{twice} may be the mask of several photos: put masks into subfolders called as those "
            "of the photos"
        )
    photos = masked(photos, paths)
    shares = [1.0 if photo.mask is None else _share_left(photo, photo.mask) for photo in photos]
    left = [photo for photo, share in zip(photos, shares, strict=True) if share > 0]
    if len(left) < len(photos):
        gone = [photo.name for photo, share in zip(photos, shares, strict=True) if share == 0]
        count = number_of(len(gone), "photo is", "photos are")
        logger.warning("%s left out, as masked everywhere: %s", count, some_of(gone))
    if not left:
        raise InputError(f"the masks in {folder} leave nothing of any photo: 0 is what is ignored")
    share = statistics.median(shares)
    if share < _LITTLE:
        logger.warning(
            "the masks leave %.1f %% of the photos, as what is black (0) is ignored: if it is the "
            "other part that shall be, invert them",
            100 * share,
        )
    grey = [path.name for path in found if is_grey(path)]
    if grey:
        logger.warning(
            "%s dark grey in parts, which are ignored as if they were black: %s",
            number_of(len(grey), "mask is", "masks are"),
            some_of(grey),
        )
    if len(found) < len(photos):
        without = [photo.name for photo in left if photo.mask is None]
        count = number_of(len(without), "photo has", "photos have")
        logger.warning("%s no mask in %s: %s", count, folder, some_of(without))
    return left


def masked(photos: Sequence[Photo], masks: Sequence[Path | None]) -> list[Photo]:
    """Return the photos with these masks; ``InputError`` for one that cannot be that of its photo.

    A photo without one stays as it is.
    """
    pairs = zip(photos, masks, strict=True)
    result = [photo if mask is None else replace(photo, mask=mask) for photo, mask in pairs]
    for photo in result:
        if photo.mask is not None:
            _share_left(photo, photo.mask)
    return result


def mask_digest(path: Path) -> str:
    """Return the SHA-256 of a mask file; ``InputError`` when it has become unreadable."""
    try:
        return file_sha256(path)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error


def _mask_of(photo: Photo, folder: Path) -> Path | None:
    """Return the photo's mask file, the most specific one; None where there is none."""
    *parents, name = photo.path.absolute().parts[1:]
    # Few folders deep: a photo's whole path is hardly repeated below the masks.
    for depth in range(min(len(parents), 4), -1, -1):
        place = folder.joinpath(*parents[len(parents) - depth :])
        for called in (f"{name}.png", f"{Path(name).stem}.png"):
            # One of the two may have come over from a Mac (see composed).
            for form in (called, composed(called), unicodedata.normalize("NFD", called)):
                path = place / form
                # A folder of photos is not one of masks.
                if path.is_file() and not path.samefile(photo.path):
                    return path
    return None


def _share_left(photo: Photo, mask: Path) -> float:
    """Return the share of the photo that its mask leaves."""
    try:
        counts = read_mask(mask, (photo.width, photo.height), photo.orientation)
    except UnusablePicture as error:
        raise InputError(f"{mask}: {error}") from error
    return float(counts.mean())
