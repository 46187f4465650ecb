"""Masks of photos: found by the photos' names in a folder, and checked before the work begins."""

from __future__ import annotations

import logging
import os
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePath

from pointmap.decoding import decode, open_picture
from pointmap.errors import InputError, UnusablePicture, number_of, some_of
from pointmap.file_digest import file_sha256
from pointmap.images import Photo, resized_size
from pointmap.masks import is_grey, read_mask
from pointmap.photo_files import PHOTO_EXTENSIONS
from pointmap.photo_names import composed

logger = logging.getLogger(__name__)

# Masks that leave less of most photos may be meant the other way round.
_LITTLE = 0.1
# What masks are called beside their ending, the surest first: by COLMAP; by RealityCapture;
# OpenDroneMap and Metashape; tools that cut out; instant-ngp; and, in a folder of masks, as the
# photo itself (nerfstudio, Meshroom).
_CALLED = (
    *("{name}", "{name}.mask", "{stem}_mask", "{stem}.mask", "mask_{stem}"),
    *("dynamic_mask_{stem}", "{stem}"),
)
# How folders of masks are called that lie among those of photos.
_FOLDERS = ("mask", "masks")
# A picture that hardly has other levels than black and white, as films store them, is no photo.
_TWO_LEVELS, _NEAR, _LOOKED_AT = 0.95, 24, 256


def without_masks(folder: str | Path | None, photos: Sequence[Photo]) -> list[Photo]:
    """Return the photos but those that are masks of others, which lie among them.

    Those are the masks of ``folder``; without one, what is called as a mask of a photo beside it,
    or in a folder of masks, and is black and white: what is so left out is warned of.
    """
    if folder is not None:
        files = _MaskFiles(Path(folder))
        masks = {path.resolve() for photo in photos if (path := files.of(photo))}
        return [photo for photo in photos if photo.path.resolve() not in masks]
    among = [photo for photo in _called_as_masks(photos) if _is_black_and_white(photo.path)]
    if among:
        logger.warning(
            "%s left out, as masks of photos by their names; --masks FOLDER uses them: %s",
            number_of(len(among), "picture is", "pictures are"),
            some_of([photo.name for photo in among]),
        )
    return [photo for photo in photos if photo not in among]


def _called_as_masks(photos: Sequence[Photo]) -> list[Photo]:
    """Return the photos that are called as masks of others: beside them, or in a folder of masks
    among theirs.
    """
    apart = {photo.path for photo in photos if photo.path.parent.name.casefold() in _FOLDERS}
    beside: set[tuple[Path, str]] = set()
    elsewhere: set[str] = set()
    for photo in photos:
        if photo.path not in apart:
            *names, own = (name.casefold() for name in _mask_names(photo.path))
            beside |= {(photo.path.parent, name) for name in names}
            elsewhere |= {*names, own}
    return [
        photo
        for photo in photos
        if (photo.path.parent, _key(photo.path)) in beside
        or (photo.path in apart and _key(photo.path) in elsewhere)
    ]


def _is_black_and_white(path: Path) -> bool:
    """Return whether a picture hardly has other levels; of one that cannot be read, True."""
    try:
        with open_picture(path) as image:
            levels = decode(image, *resized_size(*image.size, _LOOKED_AT))
    except UnusablePicture:
        return True
    return bool(((levels <= _NEAR) | (levels >= 255 - _NEAR)).mean() >= _TWO_LEVELS)


def with_masks(folder: str | Path | None, photos: Sequence[Photo]) -> list[Photo]:
    """Return the photos with their masks of ``folder``, those without one as they are.

    The mask of ``left/a.jpg`` is ``left/a.jpg.png`` (COLMAP's convention) or called as other
    programs do (``left/a.png``, ``left/a_mask.jpg``, ...), or lies under such a name in the folder
    itself, if no other photo's is called so. Photos that are masked everywhere are left out with a
    warning; how many have no mask is warned of. No ``folder``: no masks. Raises ``InputError`` when
    it is no folder, has no photo's mask, or a mask cannot be read, has another shape than its
    photo, or may be that of two photos.
    """
    if folder is None:
        return list(photos)
    folder = Path(folder)
    if not os.path.isdir(folder):
        raise InputError(f"{folder} is no folder: --masks takes one with a mask NAME.EXT.png each")
    files = _MaskFiles(folder)
    paths = [files.of(photo) for photo in photos]
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


class _MaskFiles:
    """The pictures of a folder of masks, by what they are called; each place is listed once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._listed: dict[Path, dict[str, list[Path]]] = {}

    def of(self, photo: Photo) -> Path | None:
        """Return the photo's mask file, the most specific one; None where there is none."""
        *parents, _ = photo.path.absolute().parts[1:]
        # Few folders deep: a photo's whole path is hardly repeated below the masks.
        for depth in range(min(len(parents), 4), -1, -1):
            listed = self._in(self._folder.joinpath(*parents[len(parents) - depth :]))
            for name in _mask_names(photo.path):
                alike = listed.get(name.casefold(), [])
                for path in sorted(alike, key=lambda path: composed(path.stem) != name):
                    if not path.samefile(photo.path) and _may_be_mask(path, photo.path):
                        return path
        return None

    def _in(self, place: Path) -> dict[str, list[Path]]:
        """Return the pictures in a folder by what they are called, PNG first; {} for none."""
        if place not in self._listed:
            listed: dict[str, list[Path]] = {}
            for path in sorted(place.iterdir()) if place.is_dir() else []:
                if path.suffix.lower() in PHOTO_EXTENSIONS and path.is_file():
                    listed.setdefault(_key(path), []).append(path)
            for paths in listed.values():
                paths.sort(key=lambda path: path.suffix.lower() != ".png")
            self._listed[place] = listed
        return self._listed[place]


def _may_be_mask(path: Path, photo: Path) -> bool:
    """Return whether a file that is called as a photo's mask may be one: called as the photo alone,
    it may be another photo, beside it surely so, but for PNG.
    """
    if composed(path.stem) != composed(photo.stem) or path.suffix.lower() == ".png":
        return True
    return not path.parent.samefile(photo.parent) and _is_black_and_white(path)


def _mask_names(photo: Path) -> list[str]:
    """Return what the mask of a photo may be called, without its ending, the surest first."""
    name = composed(photo.name)
    return [called.format(name=name, stem=PurePath(name).stem) for called in _CALLED]


def _key(mask: Path) -> str:
    """Return what a mask is called, without its ending; capitals and ways to write accents don't
    count, as between systems.
    """
    return composed(mask.stem).casefold()


def _share_left(photo: Photo, mask: Path) -> float:
    """Return the share of the photo that its mask leaves."""
    try:
        counts = read_mask(mask, (photo.width, photo.height), photo.orientation)
    except UnusablePicture as error:
        raise InputError(f"{mask}: {error}") from error
    return float(counts.mean())
