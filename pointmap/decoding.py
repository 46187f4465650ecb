"""Picture files to arrays: opened safely, decoded at a bounded size, upright, 8-bit RGB.

Resizing is exact in the (0.5, 0.5) pixel convention: the resized grid spans the original's extent
also where the decoder itself already reduced the picture.
"""

from __future__ import annotations

import io
import os
import re
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageFile, TiffImagePlugin, UnidentifiedImageError

from pointmap.adobe_rgb import adobe_rgb_profile
from pointmap.code_points import code_points
from pointmap.errors import UnusablePicture
from pointmap.exif import says_adobe_rgb
from pointmap.high_range import as_srgb, is_srgb
from pointmap.other_contents import refuse_other_contents
from pointmap.outside.regular_file import MAX_FILE_BYTES, open_regular
from pointmap.raw_photos import BYTES_PER_PIXEL, develop, is_raw, reads_raw
from pointmap.tiff_masks import mask_inside
from pointmap.wide_tiff import read_wide_tiff, wide_tiff_tags

MAX_MEGAPIXELS = 250
"""Larger declared sizes are refused before decoding, and so are those that would take more than
``MAX_DECODED_BYTES`` of memory. A file of 34 bytes can declare any."""
MAX_DECODED_BYTES = 1.2e9

PHOTO_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "HEIF", "BMP", "GIF", "AVIF", "JPEG2000")
"""Pillow's names of the formats that a photo may have, whatever its file is called."""

FLIP_OR_TURN = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
OPAQUE = 128
"""From this alpha on, of 255, a pixel counts as there."""
# Bytes a pixel takes while a picture is read, measured: by format, or else by Pillow's mode.
_BYTES_OF_FORMAT = {"WEBP": 16.2, "HEIF": 7.5, "AVIF": 10.4, "JPEG2000": 19.6}
_BYTES_OF_MODE = {"1": 2.1, "L": 1.1, "RGB": 4.3, "CMYK": 4.3, "YCbCr": 4.3, "P": 5.3, "I;16": 6.1}
_BYTES_WITH_ALPHA, _BYTES_OF_OTHERS = 8.4, 13.0
# A progressive JPEG is gone over once for every scan: usual are 10.
_MOST_SCANS = 100
_MOST_SCANNED_MEGAPIXELS = 2500
# What stands after a byte 0xFF in the data of a scan, in place of a marker of a JPEG.
_IN_DATA = np.isin(np.arange(256), [0x00, 0x01, *range(0xD0, 0xD9), 0xFF])
_END, _SCAN = 0xD9, 0xDA
_LONE_LINE_FEED = re.compile(rb"(?<!\r)\n")
# What sensors make of a pixel, which programs store in 16 bits as it is.
_GREY_BITS = (8, 10, 12, 14, 16)
_ORIENTATION = 0x0112
# What is told of an opened picture, beside Pillow's own information.
_TURNED, _CODED, _MASK = "pointmap turned", "pointmap coded", "pointmap mask"
# PhotometricInterpretation and BitsPerSample (TIFF 6.0, pages 37 and 29).
_PHOTOMETRIC, _WHITE_IS_ZERO, _SAMPLE_BITS = 0x0106, 0, 0x0102
# NewSubfileType with its bit for a smaller copy of another picture (page 36), of which some files
# have a few in front.
_KIND, _IS_SMALLER, _MOST_SMALLER = 0x00FE, 1, 32
# So many line feeds, each after a carriage return, are no chance: one of 256 is.
_ENOUGH_LINES = 16
# Pictures that take more are read one at a time, however many threads there are.
_LARGE_BYTES = 128e6
_limit_lock, _large_lock = threading.Lock(), threading.Lock()


@lru_cache(maxsize=1)
def _register_heif() -> None:
    import pillow_heif

    pillow_heif.register_heif_opener()


@lru_cache
def _known(formats: tuple[str, ...]) -> tuple[str, ...]:
    """Return those of the formats that this build of Pillow knows."""
    Image.init()
    return tuple(name for name in formats if name in Image.OPEN)


@contextmanager
def open_picture(path: Path, formats: tuple[str, ...] = PHOTO_FORMATS) -> Iterator[Image.Image]:
    """Open a picture file of one of ``formats``: header only for JPEG, decoded for the others.

    Only JPEG can decode at a reduced size later; the others would have to be decoded in any case,
    and for TIFF and PNG the orientation is only known afterwards. Animated files give their first
    frame. Nothing but decoding belongs inside the ``with``: whatever is raised there, or on opening
    a file that cannot be read, is larger than ``MAX_MEGAPIXELS`` and the like allow, or would take
    its decoder very long, comes out as ``UnusablePicture``.
    """
    try:
        if "HEIF" in formats:
            _register_heif()
        # By file object: opened by name, a grey TIFF is mapped with the rows of the turned picture.
        with ExitStack() as stack:
            file = stack.enter_context(open_regular(path))
            if os.fstat(file.fileno()).st_size > MAX_FILE_BYTES:
                raise UnusablePicture(f"larger than {MAX_FILE_BYTES / 2**30:.0f} GB")
            if is_raw(path) and formats == PHOTO_FORMATS:
                if not reads_raw():
                    raise UnusablePicture("camera raw, which pip install 'pointmap[raw]' reads")
                stack.enter_context(_large_lock)
                yield develop(file, min(1e6 * MAX_MEGAPIXELS, MAX_DECODED_BYTES / BYTES_PER_PIXEL))
                return
            if "TIFF" in formats and (tags := wide_tiff_tags(file)) is not None:
                stack.enter_context(_large_lock)
                image = read_wide_tiff(file, tags, MAX_DECODED_BYTES)
                # Few programs read it: like a turned one, it needs a copy for them.
                image.info |= {_TURNED: True, _MASK: mask_inside(file)}
                yield image
                return
            with _own_size_limit():
                # Without formats Pillow goes by content and hands EPS to Ghostscript, a program
                # that writes files. Here is the only call, so that none can forget them.
                image = Image.open(file, formats=_known(formats))  # noqa: TID251
                _leave_smaller_copies(image)
                if _checked_bytes(image, file) > _LARGE_BYTES:
                    stack.enter_context(_large_lock)
                image.info[_CODED] = code_points(image, file)
                if not _reduces_while_decoding(image):
                    _decode_whole(image, file)
            yield image
    except UnusablePicture:
        raise
    except Exception as error:  # decoders raise anything on a crafted or damaged file
        if isinstance(error, UnidentifiedImageError) and formats == PHOTO_FORMATS:
            with suppress(OSError):
                refuse_other_contents(path)
        raise UnusablePicture(_reason(path, formats, error)) from error


def _decode_whole(image: Image.Image, file: IO[bytes]) -> None:
    """Decode an opened picture, and keep what Pillow forgets or gets wrong of it."""
    _tell_sample_bits(image)
    deep = _has_low_bytes(image)
    # Pillow makes it upright and forgets that it was not.
    if image.format == "TIFF":
        image.info[_TURNED] = _orientation(image) != 1
        image.info[_MASK] = _upright_mask(file, _orientation(image))
    image.load()
    if deep and _is_dark(image):
        file.seek(0)
        with Image.open(file, formats=(str(image.format),)) as again:  # noqa: TID251
            _use_low_bytes(image, again)
    if _counts_from_white(image):
        image.paste(Image.fromarray(65535 - np.asarray(image)))


def stored_turned(image: Image.Image) -> bool:
    """Return whether the decoder has turned or mirrored an opened picture to make it upright."""
    return bool(image.info.get(_TURNED))


def mask_of(image: Image.Image) -> NDArray[np.bool_] | None:
    """Return which pixels (h, w) of an opened picture a mask inside its file keeps; None for no
    mask.
    """
    mask = image.info.get(_MASK)
    return mask if isinstance(mask, np.ndarray) else None


def upright(stored: NDArray[np.bool_], orientation: int) -> NDArray[np.bool_]:
    """Return a map (h, w) of a photo's stored pixels, turned as its EXIF ``orientation`` says."""
    if orientation not in FLIP_OR_TURN:
        return stored
    return np.asarray(Image.fromarray(stored).transpose(FLIP_OR_TURN[orientation]))


def _leave_smaller_copies(image: Image.Image) -> None:
    """Go on in an opened TIFF to its first picture that is no smaller copy of another one; stay
    where there is none.
    """
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return
    try:
        for _ in range(_MOST_SMALLER):
            if not int(image.tag_v2.get(_KIND, 0)) & _IS_SMALLER:
                return
            image.seek(image.tell() + 1)
    except EOFError:
        pass
    image.seek(0)


def _upright_mask(file: IO[bytes], orientation: int) -> NDArray[np.bool_] | None:
    mask = mask_inside(file)
    return None if mask is None else upright(mask, orientation)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # Pillow's EXIF parser raises whatever a broken tag makes it stumble over
        return 1


def _checked_bytes(image: Image.Image, file: IO[bytes]) -> float:
    """Return the memory that decoding takes; ``UnusablePicture`` when that or the time is much."""
    width, height = image.size
    megapixels = width * height / 1e6
    if _reduces_while_decoding(image):
        scans = _scans(file)
        if scans > _MOST_SCANS or scans * megapixels > _MOST_SCANNED_MEGAPIXELS:
            raise UnusablePicture(f"made of {scans} scans, which take too long to decode")
        # Several scans are put together from all coefficients, two bytes each.
        each = 0.4 if scans == 1 else 2.0 * len(image.getbands()) + 0.4
    else:
        others = _BYTES_WITH_ALPHA if image.has_transparency_data else _BYTES_OF_OTHERS
        each = _BYTES_OF_MODE.get(image.mode, others)
        each = _BYTES_OF_FORMAT.get(image.format or "", each)
        if image.format == "TIFF":
            each += len(image.getbands())  # it may be one strip, unpacked as a whole
    limit = min(MAX_MEGAPIXELS, MAX_DECODED_BYTES / each / 1e6)
    if megapixels > limit:
        raise UnusablePicture(
            f"declares {width}x{height} pixels; the limit is {limit:.0f} megapixels"
        )
    return each * 1e6 * megapixels


def _scans(file: IO[bytes]) -> int:
    """Return of how many scans a JPEG is made, up to just over ``_MOST_SCANS``; raise
    ``UnusablePicture`` for one that was copied as text.
    """
    file.seek(0)
    data, at, scans = file.read(), 2, 0
    file.seek(0)
    if _LONE_LINE_FEED.search(data) is None and data.count(b"\n") >= _ENOUGH_LINES:
        raise UnusablePicture(
            "its line ends were changed as if it were text (by FTP, git or e-mail); fetch it again "
            "as binary"
        )
    read = np.frombuffer(data, np.uint8)
    after = np.flatnonzero(read[:-1] == 0xFF) + 1
    markers = after[~_IN_DATA[read[after]]]
    while scans <= _MOST_SCANS:
        # The lengths of segments lead past their content, which may look like markers.
        following = np.searchsorted(markers, at + 1)
        if following == len(markers) or read[markers[following]] == _END:
            break
        start = int(markers[following]) + 1
        scans += int(read[start - 1]) == _SCAN
        at = start + int.from_bytes(data[start : start + 2], "big")
    return scans


def _reason(path: Path, formats: tuple[str, ...], error: Exception) -> str:
    """Say in plain words why opening or decoding failed."""
    if isinstance(error, UnidentifiedImageError):
        kind = "" if formats == PHOTO_FORMATS else f"{' or '.join(formats)} "
        empty = path.stat().st_size == 0
        return "empty file" if empty else f"not a {kind}picture, or its header is damaged"
    if isinstance(error, PermissionError):
        return "no permission to read it"
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, OSError) and error.errno is not None:
        return f"cannot be opened: {error.strerror}"
    if isinstance(error, MemoryError):
        return "more memory needed to decode it than there is"
    said = " ".join(str(error).split()) or type(error).__name__
    return f"damaged or incomplete ({said})"


@contextmanager
def _own_size_limit() -> Iterator[None]:
    """Lift Pillow's size limit: it is lower than a large camera's picture, and process-wide."""
    with _limit_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pillow_limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = pillow_limit


def decode(image: Image.Image, width: int, height: int, orientation: int = 1) -> NDArray[np.uint8]:
    """Return pixels (height, width, 3) uint8 RGB of an opened picture, upright and resized.

    ``width``, ``height`` are those after ``orientation`` (EXIF, 1 to 8) is applied. Transparent
    pixels are laid over white, unless all are; of values of 16 bits, or of the 10, 12 or 14 that a
    sensor fills of them, the high 8 remain; CMYK, grey and palette pictures become RGB, colours of
    another profile or of other code points (:mod:`pointmap.code_points`) sRGB.
    """
    size = (height, width) if orientation >= 5 else (width, height)
    box: tuple[float, float, float, float] = (0, 0, *image.size)
    if _reduces_while_decoding(image):
        # Twice the size asked for leaves the last halving to the better filter.
        drafted = image.draft(None, (2 * size[0], 2 * size[1]))
        # A reduced JPEG has ceil(W / 8) columns; the last one reaches beyond the photo's edge.
        box = drafted[1] if drafted is not None else box
    filterable = _filterable(image)
    shrinks = size[0] < box[2] or size[1] < box[3]
    sampling = Image.Resampling.LANCZOS if shrinks else Image.Resampling.BICUBIC
    if size != filterable.size or box != (0, 0, *size):
        filterable = filterable.resize(size, sampling, box=box, reducing_gap=3.0)
    profile = None if image.info.get(_CODED) else image.info.get("icc_profile")
    if not profile and says_adobe_rgb(image):
        profile = adobe_rgb_profile()
    rgb = from_coded(_as_srgb(filterable, profile), image)
    if orientation in FLIP_OR_TURN:
        rgb = rgb.transpose(FLIP_OR_TURN[orientation])
    return np.array(rgb)


def from_coded(rgb: Image.Image, opened: Image.Image) -> Image.Image:
    """Return the ``rgb`` (or RGBA) of an opened picture in sRGB, if it is coded otherwise."""
    coded = opened.info.get(_CODED)
    if coded is None or is_srgb(*coded):
        return rgb
    primaries, transfer = coded
    shown = Image.fromarray(as_srgb(np.asarray(rgb.convert("RGB")), transfer, primaries))
    if rgb.mode == "RGBA":
        shown.putalpha(rgb.getchannel("A"))
    return shown


def is_invisible(image: Image.Image) -> bool:
    """Return whether an opened, decoded picture is transparent everywhere."""
    if not image.has_transparency_data:
        return False
    rgba = image if image.mode in ("RGBA", "LA", "PA") else image.convert("RGBA")
    return int(np.asarray(rgba.getchannel("A")).max(initial=0)) < OPAQUE


def _reduces_while_decoding(image: Image.Image) -> bool:
    return image.format in ("JPEG", "MPO")


def _filterable(image: Image.Image) -> Image.Image:
    """Return the picture in a mode that Pillow can resize with a filter."""
    if is_invisible(image):
        # Its channel holds something else; the colours are all there.
        return image.convert("RGBA").convert("RGB")
    if image.mode in ("RGB", "RGBA", "L", "LA", "CMYK"):
        return image
    if image.mode == "I" or image.mode.startswith("I;16"):
        values = np.clip(np.asarray(image), 0, 65535)
        used = next(bits for bits in _GREY_BITS if values.max(initial=0) < 1 << bits)
        return Image.fromarray((values >> (used - 8)).astype(np.uint8))
    if image.has_transparency_data:
        return image.convert("RGBA")
    return image.convert("L" if image.mode == "1" else "RGB")


def _counts_from_white(image: Image.Image) -> bool:
    """Return whether 0 is white in a loaded picture: in TIFFs of 16 bits of grey that say so.
    Those of 8 bits and fewer Pillow turns round.
    """
    tags = getattr(image, "tag_v2", {})
    return image.mode.startswith("I;16") and tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO


def _tell_sample_bits(image: Image.Image) -> None:
    """Have the colours of an opened TIFF read with the bits that they have where each colour has
    its own plane: Pillow takes such samples for bytes.
    """
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return
    if set(image.tag_v2.get(_SAMPLE_BITS, ())) == {16}:
        order = "L" if image.tag_v2.prefix == b"II" else "B"
        image.tile = [
            tile._replace(args=(f"{_raw_mode(tile)};16{order}", *tile.args[1:]))
            if isinstance(tile.args, tuple) and _raw_mode(tile) in ("R", "G", "B", "A")
            else tile
            for tile in image.tile
        ]


def _has_low_bytes(image: Image.Image) -> bool:
    """Return whether it is a colour picture of 16 bits, of which Pillow reads the high bytes."""
    tiles = image.tile if isinstance(image, ImageFile.ImageFile) else []
    return image.mode in ("RGB", "RGBA") and bool(tiles) and ";16" in _raw_mode(tiles[0])


def _raw_mode(tile: ImageFile._Tile) -> str:
    return str(tile.args[0] if isinstance(tile.args, tuple) else tile.args)


def _low_bytes(tile: ImageFile._Tile) -> ImageFile._Tile:
    """Return what of a picture's data holds colours of 16 bits, to be read as their low bytes."""
    raw = _raw_mode(tile)
    high_first = raw.endswith("B") or (raw.endswith("N") and sys.byteorder == "big")
    mode = f"{raw.partition(';')[0]};16{'L' if high_first else 'B'}"
    return tile._replace(args=(mode, *tile.args[1:]) if isinstance(tile.args, tuple) else mode)


def _is_dark(image: Image.Image) -> bool:
    """Return whether the high bytes of all colours say that 14 bits or fewer are used."""
    return int(np.asarray(image)[..., :3].max(initial=0)) < 1 << (14 - 8)


def _use_low_bytes(image: Image.Image, again: Image.Image) -> None:
    """Make a dark picture of 16 bits what the bits that it uses say; ``again``: the same, opened
    anew.
    """
    assert isinstance(again, ImageFile.ImageFile)
    _tell_sample_bits(again)
    again.tile = [_low_bytes(tile) for tile in again.tile]
    again.load()
    high, low = (np.asarray(part)[..., :3].astype(np.uint16) for part in (image, again))
    values = (high << 8) + low
    used = next(bits for bits in _GREY_BITS if values.max(initial=0) < 1 << bits)
    colours = Image.fromarray((values >> (used - 8)).astype(np.uint8))
    if image.mode == "RGBA":
        colours.putalpha(image.getchannel("A"))
    image.paste(colours)


def _as_srgb(image: Image.Image, profile: object) -> Image.Image:
    """Return a picture in a mode that can be filtered as RGB in sRGB, its colours being of an ICC
    ``profile``, if that is one.
    """
    change = None
    if isinstance(profile, bytes) and image.mode in ("RGB", "RGBA", "CMYK"):
        change = _to_srgb(profile, "CMYK" if image.mode == "CMYK" else "RGB")
    if change is not None and image.mode == "CMYK":
        return change.apply(image)
    rgb = _over_white(image)
    return rgb if change is None else change.apply(rgb)


@lru_cache(maxsize=16)
def _to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Return what takes colours of an ICC profile to sRGB; None where they are, or nobody knows."""
    try:
        given = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = str(given.profile.xcolor_space).strip()
        described = str(given.profile.profile_description or "")
        # Most pictures say that they are what they would be without a profile.
        if space != mode or "srgb" in described.casefold():
            return None
        return ImageCms.buildTransform(
            given,
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, ImportError, OSError, TypeError, ValueError):
        return None


def _over_white(image: Image.Image) -> Image.Image:
    """Return RGB; transparent pixels show white, as on the pages such pictures are made for."""
    if image.mode not in ("RGBA", "LA"):
        return image.convert("RGB")
    rgba = image.convert("RGBA")
    white = Image.new("RGBA", rgba.size, "white")
    return Image.alpha_composite(white, rgba).convert("RGB")
