"""Upright copies of photos inside a scene's folder.

Phones store portrait photos lying, with an EXIF orientation beside them. Our cameras belong to the
upright picture; COLMAP, nerfstudio and trainers of Gaussian splats do not turn it. And frames of a
video lie nowhere else.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from pathlib import Path

from PIL import ImageOps

from pointmap.decoding import open_picture
from pointmap.outside.regular_file import read_regular
from recon.scene import View

logger = logging.getLogger(__name__)
_QUALITY = 95  # a JPEG that is decoded and encoded again hardly changes at this


def write_upright_photos(folder: Path, views: Sequence[View]) -> None:
    """Write the photo of every view into the new ``folder``, under its name.

    Photos that are stored upright are copied byte for byte; the others are turned, encoded again in
    their own format, and keep their EXIF tags except the orientation. A photo that can no longer be
    read is left out with a warning. Raises ``OSError`` when the disk is full.
    """
    folder.mkdir(parents=True)
    for view in views:
        try:
            content = _turned(view.path) if view.turned else read_regular(view.path)
        except Exception as error:  # decoders raise anything; the scene is worth more than a copy
            logger.warning("%s: no copy of it in the scene (%s)", view.path, error)
        else:
            (folder / view.name).write_bytes(content)


def _turned(path: Path) -> bytes:
    with open_picture(path) as image:
        upright = ImageOps.exif_transpose(image)
        content = io.BytesIO()
        upright.save(
            content,
            format="JPEG" if image.format == "MPO" else image.format,
            quality=_QUALITY,
            exif=upright.getexif(),
        )
    return content.getvalue()
