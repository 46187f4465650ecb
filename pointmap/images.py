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
import os
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pointmap.camera import Array, pinhole
from pointmap.decoding import decode, is_invisible, open_picture, stored_turned, upright
from pointmap.errors import InputError, UnusablePicture
from pointmap.exif import read_exif
from pointmap.left_out import in_their_place, live_movies, tell_left_out
from pointmap.masks import continued, opaque_pixels, read_mask, resized_mask
from pointmap.outside.patterns import TooMany, matching_paths
from pointmap.outside.regular_file import home_expanded
from pointmap.panorama import (
    LOOKED_AT,
    looks_like_panorama,
    may_be_panorama,
    says_panorama,
)
from pointmap.photo_names import photo_names
from pointmap.plain_frames import inside_bars
from pointmap.raw_photos import is_raw, reads_raw
from pointmap.saved_scene import RUN_JSON, listed_files
from pointmap.video import VIDEO_EXTENSIONS

logger = logging.getLogger(__name__)

PHOTO_EXTENSIONS = frozenset(
    {
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".tif", ".tiff", ".heic", ".heif"),
        *(".avif", ".jp2", ".j2k", ".jpf", ".jpx", ".gif", ".bmp"),
    }
)
"""How files of a folder are called that are taken for photos; camera raw files, too, where rawpy is
installed (:mod:`pointmap.raw_photos`)."""
# Folders that systems keep beside photos: small copies (Synology), what was deleted, and what ZIP
# files from a Mac bring along.
_SYSTEM_FOLDERS = frozenset({"@eaDir", "#recycle", "$RECYCLE.BIN", "__MACOSX"})
MIN_SIDE_PX = 32
# In so many steps the damaged part of a photo is left out.
_SOUND_ROWS = 1024


@dataclass(frozen=True)
class Photo:
    """One usable photo.

    ``name`` is the file name, or the way to it where photos of several folders share one
    (:func:`pointmap.photo_names.photo_names`);
    ``width``, ``height`` in pixels AFTER EXIF orientation; ``orientation`` is
    the EXIF value 1 to 8 that the loader applies; ``exif_focal_px`` the focal length in original
    pixels, or None; photos with equal ``camera_key`` were taken with one camera, lens and zoom
    setting, as far as the files tell, and share a focal length; ``video``: the file name of the
    video that it is a frame of, or None; ``mask``: a picture that is 0 where the photo is to be
    ignored (:mod:`pointmap.masks`), or None; ``turned``: whether the file holds the picture turned
    or mirrored, whoever makes it upright (the decoder does that for TIFF); ``sound_share``: which
    part of its height, from the top as it is stored, counts: the rest is damaged
    (:mod:`pointmap.damaged_jpegs`); ``picture_middle``: x, y of the middle of the picture inside
    the bars or frame around it (:mod:`pointmap.plain_frames`), None where that is the file's;
    ``file_size``: width and height that the file has, after orientation, where these are others
    than those of the photo as it was taken (:func:`unsqueezed`), else None.
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
    turned: bool = False
    sound_share: float = 1.0
    picture_middle: tuple[float, float] | None = None
    file_size: tuple[int, int] | None = None

    @property
    def middle(self) -> Array:
        """x, y (2,) in pixels of where its camera looks through it, as far as the file tells."""
        return np.array(self.picture_middle or (self.width / 2, self.height / 2))

    def pinhole(self, focal_px: float) -> Array:
        """Return K (3, 3) of a focal length in pixels and square pixels, through the middle."""
        K = pinhole(focal_px, self.width, self.height)
        K[:2, 2] = self.middle
        return K


@dataclass(frozen=True)
class Rejected:
    """A file that cannot be used, with the ``reason`` in plain words."""

    path: Path
    reason: str


@dataclass(frozen=True)
class ResizedPhoto:
    """The whole photo at another size: ``pixels`` (h, w, 3) uint8 RGB.

    ``usable`` (h, w): which pixels count, None where all do. Over those that are masked or
    transparent, ``pixels`` continue the colours of the others. ``picture``: between which rows and
    columns (top, bottom, left, right) the picture is, if bars of one colour are around it.
    """

    photo: Photo
    pixels: NDArray[np.uint8]
    usable: NDArray[np.bool_] | None = None
    picture: tuple[int, int, int, int] | None = None

    @property
    def scale_x(self) -> float:
        """Factor from original to resized x."""
        return self.pixels.shape[1] / self.photo.width

    @property
    def scale_y(self) -> float:
        """Factor from original to resized y."""
        return self.pixels.shape[0] / self.photo.height


def find_photos(
    inputs: Iterable[str | Path],
    *,
    frames: Mapping[Path, Sequence[Path]] | None = None,
    recursive: bool = False,
) -> list[Path]:
    """Return the photo files that files, folders, glob patterns and videos stand for, each once.

    Folders (``recursive``: their subfolders, too) and patterns give the files with a photo's
    extension in natural order (``2.jpg`` before ``10.jpg``); files named one by one are taken as
    they are, but for films that phones keep beside photos. Pictures and films in a folder that are
    not taken are warned of. In the place of a video come its ``frames``, as
    :func:`pointmap.video.frames.choose_frames` returns them. Raises ``InputError`` for a path that
    does not exist, a pattern without a match, a video without frames, and when nothing is found at
    all.
    """
    frames = frames or {}
    photos: list[Path] = []
    files, others = _files_of(inputs, recursive)
    movies = live_movies(files)
    tell_left_out(others, movies, files)
    for path in files:
        if path in movies:
            continue
        if not is_video(path):
            photos.append(path)
        elif path in frames:
            photos.extend(frames[path])
        else:
            raise InputError(f"{path} is a video; give photos")
    return photos


def find_videos(inputs: Iterable[str | Path], *, recursive: bool = False) -> list[Path]:
    """Return the videos that are named among the inputs, or matched by a pattern that ends as one.

    A folder's videos are not among them, nor films beside a photo of the same name: phones keep a
    short one beside many a photo. Raises ``InputError`` as :func:`find_photos` does.
    """
    files, _ = _files_of(inputs, recursive)
    movies = live_movies(files)
    return [path for path in files if is_video(path) and path not in movies]


def is_video(path: Path) -> bool:
    """Return whether the file's name ends as that of a video."""
    return path.suffix.lower() in VIDEO_EXTENSIONS


def _files_of(inputs: Iterable[str | Path], recursive: bool) -> tuple[list[Path], list[Path]]:
    """Return photos and videos in the order in which they were given, each once, and the folders'
    other files.
    """
    inputs = list(inputs)
    files: dict[str, Path] = {}
    others: dict[str, Path] = {}
    for given in inputs:
        taken, left = _expand(str(given), recursive)
        for path in taken:
            place = _place(path)
            # Of a photo and links to it the photo itself has the name that others know.
            if place not in files or (files[place].is_symlink() and not path.is_symlink()):
                files[place] = path
        others |= {_place(path): path for path in left}
    left_out = [path for at, path in others.items() if at not in files]
    if not files:
        where = f" found in {', '.join(str(given) for given in inputs)}" if inputs else " given"
        deeper = "" if recursive else " (with --recursive also of subfolders)"
        extensions = " ".join(sorted(extension[1:] for extension in PHOTO_EXTENSIONS))
        raise InputError(
            f"no photos{where}{in_their_place(left_out)}; name videos, or files or folders{deeper} "
            f"with {extensions}"
        )
    return list(files.values()), left_out


def _place(path: Path) -> str:
    """Return where a file lies, whatever links lead there."""
    return os.path.realpath(path)


def _expand(given: str, recursive: bool) -> tuple[list[Path], list[Path]]:
    """Return the files that one argument stands for, and of a folder those that are not taken."""
    path = home_expanded(given)
    try:
        if path.is_dir():
            # Patterns match nothing in a folder that may not be listed.
            os.scandir(path).close()
            pattern = glob.escape(str(path)) + ("/**/*" if recursive else "/*")
            found, unseen = matching_paths(pattern)
            links = [p for p in found if p.is_symlink() and _is_called_photo(p)]
            dead = sorted((p for p in links if not p.exists()), key=natural_key)
            inside = [
                p
                for p in (*_visible(found), *dead, *_elsewhere(unseen, path))
                if _SYSTEM_FOLDERS.isdisjoint(p.relative_to(path).parts)
            ]
            inside = _without_scenes(inside)
            taken = [p for p in _photos_among(inside) if p.is_file()]
            return taken, [other for other in inside if other not in set(taken)]
        if path.is_file():
            return [path], []
        if path.exists():
            raise InputError(f"{given} is neither a file nor a folder")
    except OSError as error:
        raise InputError(f"cannot read {given}: {error.strerror or error}") from error
    if not glob.has_magic(given):
        raise InputError(f"{given} does not exist")
    try:
        matches, unseen = matching_paths(str(path))
    except TooMany:
        raise InputError(
            f"{given} leads through more files than can be looked at: name the folder of the photos"
        ) from None
    if not matches:
        raise InputError(f"no file matches {given}")
    files = _visible(matches)
    taken = [f for f in files if is_video(f)] if is_video(path) else _photos_among(files)
    return taken, unseen


def _without_scenes(files: Sequence[Path]) -> list[Path]:
    """Return the files but those of saved scenes among them, whose depth maps are pictures, too."""
    scenes = {file.parent: listed_files(file.parent) for file in files if file.name == RUN_JSON}

    def is_saved(file: Path) -> bool:
        return any(
            unicodedata.normalize("NFC", file.relative_to(scene).as_posix()) in names
            for scene in file.parents
            if (names := scenes.get(scene))
        )

    return [file for file in files if not is_saved(file)] if any(scenes.values()) else list(files)


def _elsewhere(folders: Sequence[Path], folder: Path) -> list[Path]:
    """Return the folders but links to what a ``folder`` holds, which is looked into in any case."""
    whole = _place(folder)
    return [f for f in folders if not (f.is_symlink() and Path(_place(f)).is_relative_to(whole))]


def _visible(paths: Iterable[Path]) -> list[Path]:
    """Return the visible files in natural order."""
    # Files like ._IMG_1.jpg are what macOS leaves beside photos on foreign disks.
    return sorted((p for p in paths if p.name[0] != "." and p.is_file()), key=natural_key)


def _photos_among(files: Sequence[Path]) -> list[Path]:
    """Return those called as photos; a raw file only where there is no photo of its name."""
    photos = {path for path in files if _is_called_photo(path)}
    if reads_raw():
        developed = {(path.parent, path.stem) for path in photos}
        photos |= {p for p in files if is_raw(p) and (p.parent, p.stem) not in developed}
    return [path for path in files if path in photos]


def _is_called_photo(path: Path) -> bool:
    return path.suffix.lower() in PHOTO_EXTENSIONS


def natural_key(path: Path) -> tuple[list[tuple[int, int, str]], str]:
    """Return what sorts paths as people count: ``2.jpg`` before ``10.jpg``."""
    parts = re.split(r"(\d+)", str(path).lower())
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts], str(path)


def open_photos(paths: Sequence[Path]) -> tuple[list[Photo], list[Rejected]]:
    """Check each file by decoding it once, small, and describe what is usable.

    Nothing is raised for a bad file: it comes back as :class:`Rejected`, the order of the others
    is kept. Damage that a decoder tolerates (a wrong byte amid a JPEG) is not noticed
    (:mod:`pointmap.damaged_jpegs` does).
    """
    photos: list[Photo] = []
    rejected: list[Rejected] = []
    sizes = set()
    for path, name in zip(paths, photo_names(paths), strict=True):
        try:
            photos.append(_describe(path, name))
        except UnusablePicture as error:
            rejected.append(Rejected(path, str(error)))
            if str(error) == _all_around():
                with open_picture(path) as image:
                    sizes.add(image.size)
    # One camera takes photos or panoramas at such a size, even where a wall ends at the seam.
    alike = [photo for photo in photos if (photo.width, photo.height) in sizes]
    rejected += [Rejected(photo.path, _all_around()) for photo in alike]
    return [photo for photo in photos if photo not in alike], rejected


def _describe(path: Path, name: str) -> Photo:
    """Return the photo in ``path``, called ``name``.

    Raises ``UnusablePicture`` when it cannot be decoded or is too small.
    """
    with open_picture(path) as image:
        hints = read_exif(image)
        turned = hints.orientation != 1 or stored_turned(image)
        width, height = image.size
        if min(width, height) < MIN_SIDE_PX:
            raise UnusablePicture(
                f"only {width}x{height} pixels; at least {MIN_SIDE_PX} on each side are needed"
            )
        decode(image, MIN_SIDE_PX, MIN_SIDE_PX)
        if _is_panorama(image):
            raise UnusablePicture(_all_around())
        if is_invisible(image):
            logger.warning("%s is transparent everywhere: its transparency is ignored", path.name)
    if hints.orientation >= 5:
        width, height = height, width
    camera_key = f"{hints.camera}|{max(width, height)}x{min(width, height)}"
    return Photo(
        path, name, width, height, hints.focal_px, camera_key, hints.orientation, turned=turned
    )


def _all_around() -> str:
    """Return why a panorama is left out."""
    return (
        "it is a panorama, which no lens takes: cut it into perspective views first "
        "(docs/how-to/known-cameras.md says how)"
    )


def _is_panorama(image: Image.Image) -> bool:
    """Return whether an opened picture is equirectangular, by its metadata or what it shows."""
    if says_panorama(image):
        return True
    if not may_be_panorama(*image.size):
        return False
    height, width = LOOKED_AT
    return looks_like_panorama(decode(image, width, height), image.width / image.height)


def as_frame(photo: Photo, video: str) -> Photo:
    """Return the photo as a frame of ``video``, a file name.

    The frames of one video have one camera, and no other photo has it: a phone crops and zooms
    otherwise for films, and most files don't tell.
    """
    clip = photo.path.stem.rpartition("_")[0]
    return replace(photo, video=video, camera_key=f"video {clip}")


def unsqueezed(photo: Photo, width: int, height: int) -> Photo:
    """Return a photo that was resampled to another shape as it was taken, with that size."""
    camera, _, size = photo.camera_key.rpartition("|")
    middle = photo.middle * [width / photo.width, height / photo.height]
    return replace(
        photo,
        width=width,
        height=height,
        file_size=(photo.width, photo.height),
        exif_focal_px=None,
        camera_key=f"{camera}|{max(width, height)}x{min(width, height)}" if camera else size,
        picture_middle=None if photo.picture_middle is None else (middle[0], middle[1]),
    )


def load_photo(photo: Photo, *, long_side: int, multiple: int = 1) -> ResizedPhoto:
    """Load a photo with its long side at most ``long_side`` pixels.

    ``multiple=1`` keeps the aspect ratio to the pixel and never enlarges. A larger ``multiple`` (16
    for the network) makes both sides multiples of it: of the sizes with a long side in
    [0.85 long_side, long_side] the one that keeps the aspect ratio best, enlarging if need be.
    Decodes JPEG at a reduced size, so that memory stays bounded also for very large photos. What
    is transparent, masked by ``photo.mask``, or a bar around the picture
    (:mod:`pointmap.plain_frames`) is not usable.

    Raises ``InputError`` when the file, or the mask, can no longer be read or has changed since it
    was opened.
    """
    width, height = resized_size(photo.width, photo.height, long_side, multiple)
    try:
        with open_picture(photo.path) as image:
            size = photo.file_size or (photo.width, photo.height)
            if (image.size[::-1] if photo.orientation >= 5 else image.size) != size:
                raise UnusablePicture("changed since the start")
            pixels = decode(image, width, height, photo.orientation)
            opaque = opaque_pixels(image)
    except UnusablePicture as error:
        raise InputError(f"{photo.path}: {error}") from error
    parts = [] if opaque is None else [upright(opaque, photo.orientation)]
    if photo.mask is not None:
        try:
            parts.append(read_mask(photo.mask, size, photo.orientation))
        except UnusablePicture as error:
            raise InputError(f"{photo.mask}: {error}") from error
    if photo.sound_share < 1:
        rows = np.arange(_SOUND_ROWS) < photo.sound_share * _SOUND_ROWS
        parts.append(upright(np.tile(rows[:, None], 8), photo.orientation))
    picture = inside_bars(pixels)
    if picture is not None:
        top, bottom, left, right = picture
        inside = np.zeros((height, width), bool)
        inside[top:bottom, left:right] = True
        parts.append(inside)
    if not parts:
        return ResizedPhoto(photo, pixels)
    usable = np.all([resized_mask(part, width, height) for part in parts], axis=0)
    return ResizedPhoto(photo, continued(pixels, usable), usable, picture)


def without_part(photo: ResizedPhoto, part: NDArray[np.bool_] | None) -> ResizedPhoto:
    """Return a photo of which ``part`` (h, w), at any size, is not usable, either; its pixels stay.

    None: the photo as it is.
    """
    import cv2

    if part is None:
        return photo
    height, width = photo.pixels.shape[:2]
    whole = cv2.resize(part.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    usable = whole == 0 if photo.usable is None else (whole == 0) & photo.usable
    return replace(photo, usable=usable)


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
