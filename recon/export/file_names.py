"""File names inside a scene folder, and the way from there to the photos."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pointmap.outside.names import shortened

# What some file system or archive refuses in a file name, and the folder separators.
_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f]')


def place_folder(number: int) -> str:
    """Return the folder, inside the first scene's, of the scene of another place: 2, 3, ..."""
    return f"scene-{number}"


def depth_stems(names: Sequence[str]) -> list[str]:
    """Return one file stem per photo name, unique also where capitals don't count.

    A stem that only one photo has is that photo's. Of ``a.jpg``, ``a.png`` the first keeps ``a``,
    the next becomes ``a_png``, then ``a_png_2``. One too long for what is put behind it is cut.
    Depends on nothing but the names and their order.
    """
    stems = [shortened(_FORBIDDEN.sub("_", _stem(name))) for name in names]
    counts = Counter(map(_key, stems))
    taken = {key for key, count in counts.items() if count == 1}
    result = []
    for name, stem in zip(names, stems, strict=True):
        if counts[_key(stem)] > 1:
            base, number = stem, 1
            if _key(base) in taken:
                stem = base = f"{base}_{Path(name).suffix.lstrip('.')}".rstrip("_")
            while _key(stem) in taken:
                number += 1
                stem = f"{base}_{number}"
            taken.add(_key(stem))
        result.append(stem)
    return result


def relative_photo_path(photo: Path, folder: Path) -> str:
    """Return the photo's path from ``folder``, with forward slashes.

    Relative, so that photos and scene can move together and no user name leaks into shared files;
    absolute only where no relative way exists (another drive on Windows).
    """
    # The photo's own name stays even if it is a link; links in its folder would break "..".
    real = os.path.join(os.path.realpath(photo.parent), photo.name)
    try:
        return Path(os.path.relpath(real, os.path.realpath(folder))).as_posix()
    except ValueError:
        return Path(real).as_posix()


def _stem(name: str) -> str:
    return name[: -len(suffix)] if (suffix := Path(name).suffix) else name


def _key(stem: str) -> str:
    return unicodedata.normalize("NFC", stem).casefold()
