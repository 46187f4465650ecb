"""What photos are called: by their file names, with folders where those alone are not enough."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePath

# Folders that names may hold: more are somebody's whole disk.
_MOST_FOLDERS = 4


def photo_names(paths: Sequence[Path]) -> list[str]:
    """Return a name for each photo, no two of them equal where capitals don't count.

    That is the file's name. Where photos of several folders share one, as ``0000.jpg`` in ``left``
    and in ``right``, all photos are called by their way from the folder that holds those:
    ``left/0000.jpg``, with forward slashes. So other programs find them, given that folder.
    """
    counts = Counter(path.name.casefold() for path in paths)
    absolute = [Path(os.path.abspath(path)) for path in paths]
    twice = [path.parent for path in absolute if counts[path.name.casefold()] > 1]
    root = Path(os.path.commonpath(twice)) if len(set(twice)) > 1 and _one_drive(twice) else None
    names: list[str] = []
    taken: set[str] = set()
    for path, whole in zip(paths, absolute, strict=True):
        name = path.name if root is None else _from(root, whole)
        if name.casefold() in taken:
            name = unique_name(path, taken)
        names.append(name)
        taken.add(name.casefold())
    return names


def composed(name: str) -> str:
    """Return a name with its accents in their letters (Unicode's form NFC), as most systems write
    it; a name that came over from a Mac may have them as characters of their own.
    """
    return unicodedata.normalize("NFC", name)


def _one_drive(folders: Sequence[PurePath]) -> bool:
    return len({folder.anchor for folder in folders}) == 1


def _from(root: Path, path: Path) -> str:
    """Return the way from ``root`` to a photo, or its name alone if that is no short one."""
    try:
        way = path.relative_to(root)
    except ValueError:
        return path.name
    return way.as_posix() if len(way.parts) <= _MOST_FOLDERS + 1 else path.name


def unique_name(path: Path, taken: set[str]) -> str:
    """Return the file name, or one with the folder or a number added, that is not ``taken``.

    ``taken``: names in :meth:`str.casefold`ed form.
    """
    candidates = [path.name, f"{path.resolve().parent.name}_{path.name}"]
    numbered = (f"{path.stem}_{n}{path.suffix}" for n in range(2, len(taken) + 3))
    return next(name for name in [*candidates, *numbered] if name.casefold() not in taken)
