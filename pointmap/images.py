"""Photos: checked, and loaded at the size a stage asks for.

A :class:`Photo` describes one usable picture file in ORIGINAL pixels after EXIF orientation. A
:class:`ResizedPhoto` covers the whole photo (nothing is ever cropped), so that coordinates map by
two factors: ``x_resized = x_original * scale_x`` in the (0.5, 0.5) convention of
:mod:`pointmap.camera`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pointmap.camera import Array, pinhole
from pointmap.decoding import decode, is_invisible, open_picture, stored_turned, upright
from pointmap.errors import InputError, UnusablePicture
from pointmap.exif import read_exif
from pointmap.masks import continued, opaque_pixels, read_mask, resized_mask
from pointmap.panorama import (
    LOOKED_AT,
    looks_like_panorama,
    may_be_panorama,
    says_panorama,
)
from pointmap.photo_names import photo_names
from pointmap.plain_frames import inside_bars

logger = logging.getLogger(__name__)

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
