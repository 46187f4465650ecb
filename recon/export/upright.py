"""Copies of photos inside a scene's folder that other programs read, upright.

Phones store portrait photos lying, with an EXIF orientation beside them, and HEIC, which few
programs read. Our cameras belong to the upright picture; COLMAP, nerfstudio and trainers of
Gaussian splats do not turn it. And frames of a video lie nowhere else.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from PIL import Image, ImageOps

from pointmap.decoding import from_coded, open_picture
from pointmap.outside.names import shortened
from pointmap.outside.regular_file import read_regular
from recon.scene import View

logger = logging.getLogger(__name__)
_QUALITY = 95  # a JPEG that is decoded and encoded again hardly changes at this
# What COLMAP, nerfstudio and Blender all read, by name.
_READ_BY_ALL = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp"})


def needs_copies(views: Sequence[View]) -> bool:
    """Return whether other programs can't use the photos as they lie there: one is stored turned or
    in a format that few read, or no folder has all of them under their names.
    """
    return any(view.turned or not _is_readable(view) for view in views) or (
        len({_folder(view) for view in views}) > 1
    )


def copy_name(view: View) -> str:
    """Return what the copy of a photo is called: its name, with ``.jpg`` if that is not read."""
    if _is_readable(view):
        return view.name
    name = PurePosixPath(view.name)
    return str(name.with_name(f"{shortened(name.name)}.jpg"))


def write_upright_photos(folder: Path, views: Sequence[View]) -> None:
    """Write the photo of every view into the new ``folder``, under its :func:`copy_name`.

    Photos that others can use are copied byte for byte; those stored turned are turned, encoded
    again in their own format, and keep their EXIF tags except the orientation; of others than JPEG,
    PNG, TIFF and BMP there are JPEGs. A photo that can no longer be read is left out with a
    warning. Raises ``OSError`` when the disk is full.
    """
    folder.mkdir(parents=True)
    for view in views:
        try:
            as_it_is = _is_readable(view) and not view.turned
            content = read_regular(view.path) if as_it_is else _turned(view)
        except Exception as error:  # decoders raise anything; the scene is worth more than a copy
            logger.warning("%s: no copy of it in the scene (%s)", view.path, error)
        else:
            target = folder / copy_name(view)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)


def _is_readable(view: View) -> bool:
    return PurePosixPath(view.name).suffix.lower() in _READ_BY_ALL


def _folder(view: View) -> Path | None:
    """Return the folder in which a photo lies under its name; None where that is not its name."""
    name = PurePosixPath(view.name).parts
    parts = view.path.absolute().parts
    return Path(*parts[: -len(name)]) if parts[-len(name) :] == name else None


def _turned(view: View) -> bytes:
    with open_picture(view.path) as image:
        upright = ImageOps.exif_transpose(image)
        profile, exif = image.info.get("icc_profile"), upright.getexif()
        kept = _is_readable(view) and image.format is not None and image.format != "MPO"
        if not kept and upright.mode not in ("L", "RGB", "CMYK"):
            upright = _opaque(upright)
        shown = from_coded(upright, image)
        if shown is not upright:
            upright, profile = shown, None
        content = io.BytesIO()
        upright.save(
            content,
            format=image.format if kept else "JPEG",
            quality=_QUALITY,
            exif=exif,
            icc_profile=profile,
        )
    return content.getvalue()


def _opaque(image: Image.Image) -> Image.Image:
    """Return a picture of another mode as RGB; what is transparent in it, white."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
