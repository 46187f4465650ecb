"""Photos: found, checked, and loaded at the size a stage asks for.

A :class:`Photo` describes one usable picture file in ORIGINAL pixels after EXIF orientation. A
:class:`ResizedPhoto` covers the whole photo (nothing is ever cropped), so that coordinates map by
two factors: ``x_resized = x_original * scale_x`` in the (0.5, 0.5) convention of
:mod:`pointmap.camera`.
"""

from __future__ import annotations

import glob
import logging
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pointmap.decoding import UnusablePicture, decode, open_picture
from pointmap.errors import InputError
from pointmap.exif import read_exif
from pointmap.masks import (
    continued,
    is_invisible,
    opaque_pixels,
    read_mask,
    resized_mask,
    upright,
)
from pointmap.outside.patterns import TooMany, matching_paths
from pointmap.outside.regular_file import home_expanded
from pointmap.video import VIDEO_EXTENSIONS

logger = logging.getLogger(__name__)

PHOTO_EXTENSIONS = frozenset(
    {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".heic", ".heif", ".bmp"}
)
MIN_SIDE_PX = 32


@dataclass(frozen=True)
class Photo:
    """One usable photo.

    ``name`` is the file name, altered only where two photos of different folders share it;
    ``width``, ``height`` in pixels AFTER EXIF orientation; ``orientation`` is
    the EXIF value 1 to 8 that the loader applies; ``exif_focal_px`` the focal length in original
    pixels, or None; photos with equal ``camera_key`` were taken with one camera, lens and zoom
    setting, as far as the files tell, and share a focal length; ``video``: the file name of the
    video that it is a frame of, or None; ``mask``: a picture that is 0 where the photo is to be
    ignored (:mod:`pointmap.masks`), or None.
    """

    path: Path
    name: str
    width: int
    height: int
    exif_focal_px: float | None
    camera_key: str
    orientation: int = 1
    video: str | None = None
    mask: Path | None = None


@dataclass(frozen=True)
class Rejected:
    """A file that cannot be used, with the ``reason`` in plain words."""

    path: Path
    reason: str


@dataclass(frozen=True)
class ResizedPhoto:
    """The whole photo at another size: ``pixels`` (h, w, 3) uint8 RGB.

    ``usable`` (h, w): which pixels count, None where all do. Over those that are masked or
    transparent, ``pixels`` continue the colours of the others.
    """

    photo: Photo
    pixels: NDArray[np.uint8]
    usable: NDArray[np.bool_] | None = None

    @property
    def scale_x(self) -> float:
        """Factor from original to resized x."""
        return self.pixels.shape[1] / self.photo.width

    @property
    def scale_y(self) -> float:
        """Factor from original to resized y."""
        return self.pixels.shape[0] / self.photo.height


def find_photos(
    inputs: Iterable[str | Path], *, frames: Mapping[Path, Sequence[Path]] | None = None
) -> list[Path]:
    """Return the photo files that files, folders, glob patterns and videos stand for, each once.

    Folders (not their subfolders) and patterns give the files with a photo's extension in natural
    order (``2.jpg`` before ``10.jpg``); files named one by one are taken as they are. In the place
    of a video come its ``frames``, as :func:`pointmap.video.frames.choose_frames` returns them.
    Raises ``InputError`` for a path that does not exist, a pattern without a match, a video without
    frames, and when nothing is found at all.
    """
    frames = frames or {}
    photos: list[Path] = []
    for path in _files_of(inputs):
        if not is_video(path):
            photos.append(path)
        elif path in frames:
            photos.extend(frames[path])
        else:
            raise InputError(f"{path} is a video; give photos")
    return photos


def find_videos(inputs: Iterable[str | Path]) -> list[Path]:
    """Return the videos that are named among the inputs, or matched by a pattern that ends as one.

    A folder's videos are not among them: phones keep a short film beside many a photo. Raises
    ``InputError`` as :func:`find_photos` does.
    """
    return [path for path in _files_of(inputs) if is_video(path)]


def is_video(path: Path) -> bool:
    """Return whether the file's name ends as that of a video."""
    return path.suffix.lower() in VIDEO_EXTENSIONS


def _files_of(inputs: Iterable[str | Path]) -> list[Path]:
    """Return photos and videos in the order in which they were given, each once."""
    inputs = list(inputs)
    files: dict[Path, Path] = {}
    for given in inputs:
        for path in _expand(str(given)):
            files.setdefault(path.resolve(), path)
    if not files:
        where = f" found in {', '.join(str(given) for given in inputs)}" if inputs else " given"
        extensions = " ".join(sorted(extension[1:] for extension in PHOTO_EXTENSIONS))
        raise InputError(f"no photos{where}; name videos, or files or folders with {extensions}")
    return list(files.values())


def _expand(given: str) -> list[Path]:
    """Return the files that one argument stands for."""
    path = home_expanded(given)
    try:
        if path.is_dir():
            return _visible(path.iterdir(), PHOTO_EXTENSIONS)
        if path.is_file():
            return [path]
        if path.exists():
            raise InputError(f"{given} is neither a file nor a folder")
    except OSError as error:
        raise InputError(f"cannot read {given}: {error.strerror or error}") from error
    if not glob.has_magic(given):
        raise InputError(f"{given} does not exist")
    try:
        matches = matching_paths(str(path))
    except TooMany:
        raise InputError(
            f"{given} leads through more files than can be looked at: name the folder of the photos"
        ) from None
    if not matches:
        raise InputError(f"no file matches {given}")
    return _visible(matches, VIDEO_EXTENSIONS if is_video(path) else PHOTO_EXTENSIONS)


def _visible(paths: Iterable[Path], extensions: frozenset[str]) -> list[Path]:
    """Return the visible files with one of these extensions, in natural order."""
    files = [
        path
        for path in paths
        # Files like ._IMG_1.jpg are what macOS leaves beside photos on foreign disks.
        if path.suffix.lower() in extensions and path.name[0] != "." and path.is_file()
    ]
    return sorted(files, key=natural_key)


def natural_key(path: Path) -> tuple[list[tuple[int, int, str]], str]:
    """Return what sorts paths as people count: ``2.jpg`` before ``10.jpg``."""
    parts = re.split(r"(\d+)", str(path).lower())
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts], str(path)


def open_photos(paths: Sequence[Path]) -> tuple[list[Photo], list[Rejected]]:
    """Check each file by decoding it once, small, and describe what is usable.

    Nothing is raised for a bad file: it comes back as :class:`Rejected`, the order of the others
    is kept. Damage that a decoder tolerates (a wrong byte amid a JPEG) is not noticed.
    """
    photos: list[Photo] = []
    rejected: list[Rejected] = []
    taken: set[str] = set()
    for path in paths:
        try:
            photo = _describe(path, taken)
        except UnusablePicture as error:
            rejected.append(Rejected(path, str(error)))
        else:
            photos.append(photo)
            taken.add(photo.name.casefold())
    return photos, rejected


def _describe(path: Path, taken: set[str]) -> Photo:
    """Return the photo in ``path``, under a name that is not ``taken``.

    Raises ``UnusablePicture`` when it cannot be decoded or is too small.
    """
    with open_picture(path) as image:
        hints = read_exif(image)
        width, height = image.size
        if min(width, height) < MIN_SIDE_PX:
            raise UnusablePicture(
                f"only {width}x{height} pixels; at least {MIN_SIDE_PX} on each side are needed"
            )
        decode(image, MIN_SIDE_PX, MIN_SIDE_PX)
        if is_invisible(image):
            logger.warning("%s is transparent everywhere: its transparency is ignored", path.name)
    if hints.orientation >= 5:
        width, height = height, width
    camera_key = f"{hints.camera}|{max(width, height)}x{min(width, height)}"
    name = unique_name(path, taken)
    return Photo(path, name, width, height, hints.focal_px, camera_key, hints.orientation)


def as_frame(photo: Photo, video: str) -> Photo:
    """Return the photo as a frame of ``video``, a file name.

    The frames of one video have one camera, and no other photo has it: a phone crops and zooms
    otherwise for films, and most files don't tell.
    """
    clip = photo.path.stem.rpartition("_")[0]
    return replace(photo, video=video, camera_key=f"video {clip}")


def unique_name(path: Path, taken: set[str]) -> str:
    """Return the file name, or one with the folder or a number added, that is not ``taken``.

    ``taken``: names in :meth:`str.casefold`ed form.
    """
    candidates = [path.name, f"{path.resolve().parent.name}_{path.name}"]
    numbered = (f"{path.stem}_{n}{path.suffix}" for n in range(2, len(taken) + 3))
    return next(name for name in [*candidates, *numbered] if name.casefold() not in taken)


def load_photo(photo: Photo, *, long_side: int, multiple: int = 1) -> ResizedPhoto:
    """Load a photo with its long side at most ``long_side`` pixels.

    ``multiple=1`` keeps the aspect ratio to the pixel and never enlarges. A larger ``multiple`` (16
    for the network) makes both sides multiples of it: of the sizes with a long side in
    [0.85 long_side, long_side] the one that keeps the aspect ratio best, enlarging if need be.
    Decodes JPEG at a reduced size, so that memory stays bounded also for very large photos. What
    is transparent, or masked by ``photo.mask``, is not usable.

    Raises ``InputError`` when the file, or the mask, can no longer be read or has changed since it
    was opened.
    """
    width, height = resized_size(photo.width, photo.height, long_side, multiple)
    try:
        with open_picture(photo.path) as image:
            stored = image.size[::-1] if photo.orientation >= 5 else image.size
            if stored != (photo.width, photo.height):
                raise UnusablePicture("changed since the start")
            pixels = decode(image, width, height, photo.orientation)
            opaque = opaque_pixels(image)
    except UnusablePicture as error:
        raise InputError(f"{photo.path}: {error}") from error
    parts = [] if opaque is None else [upright(opaque, photo.orientation)]
    if photo.mask is not None:
        try:
            parts.append(read_mask(photo.mask, photo))
        except UnusablePicture as error:
            raise InputError(f"{photo.mask}: {error}") from error
    if not parts:
        return ResizedPhoto(photo, pixels)
    usable = np.all([resized_mask(part, width, height) for part in parts], axis=0)
    return ResizedPhoto(photo, continued(pixels, usable), usable)


def resized_size(width: int, height: int, long_side: int, multiple: int = 1) -> tuple[int, int]:
    """Return the (width, height) that :func:`load_photo` gives a photo of this size."""
    if multiple == 1:
        scale = min(1.0, long_side / max(width, height))
        return max(1, round(width * scale)), max(1, round(height * scale))
    largest = max(2, long_side // multiple)
    smallest = min(largest, math.ceil(0.85 * long_side / multiple))
    aspect = max(width, height) / min(width, height)

    def cost(size: tuple[int, int]) -> tuple[float, int]:
        # Differences below 0.1 % are no reason to give up resolution.
        return round(abs(math.log(size[0] / size[1] / aspect)), 3), -size[0] * size[1]

    units = [(n, m) for n in range(smallest, largest + 1) for m in range(1, n + 1)]
    long, short = (multiple * n for n in min(units, key=cost))
    return (long, short) if width >= height else (short, long)
