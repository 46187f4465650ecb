"""Which files of a scene folder this program wrote, so that no others are ever deleted.

``run.json`` lists them, each with a digest: a mesh that somebody mended and saved over ours is not
ours any more.
"""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from pointmap.decoding import open_picture
from pointmap.errors import UnusablePicture
from pointmap.file_digest import file_sha256
from pointmap.saved_scene import RUN_JSON, listed_files

VIEWER_PICTURE = "view.png"
"""What viewing a scene without a display adds to it, and makes again at any time."""

PICTURE_MARK = {"Software": "pointmap"}
"""Text inside the viewer's picture, by which it is known (a keyword of the PNG specification)."""

# Dropped into any folder by desktops that show it; deleting them loses nothing.
_DESKTOP_FILES = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})


def file_digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file below ``folder``, by relative name and sorted by it."""
    return {name: _digest(folder / name) for name in sorted(_names(folder))}


def sort_files(folder: Path) -> tuple[dict[str, str], list[str]]:
    """Return the files below ``folder`` that this program wrote, with digests, and all the others.

    ``folder`` need not exist or be a scene. Others are what its ``run.json`` does not list, what
    was changed since then, and links; names are relative to ``folder``. Photos are often kept
    beside their scene: one look at the names would not be enough to delete a folder.
    """
    listed = listed_files(folder)
    ours, others = dict[str, str](), list[str]()
    for name in sorted(_names(folder)):
        with suppress(OSError):
            digest = _digest(folder / name)
            if _is_ours(folder / name, name, digest, listed):
                ours[name] = digest
                continue
        others.append(name)
    return ours, others


def delete_ours(folder: Path, ours: Mapping[str, str]) -> None:
    """Delete the files ``ours`` that still hold the same, and the folders this leaves empty.

    Whatever else lies in ``folder`` stays, and so does a file that cannot be deleted. ``folder``
    itself goes, too, if it is empty in the end.
    """
    places = {folder}
    for name, digest in ours.items():
        path = folder / name
        with suppress(OSError):
            if _digest(path) == digest:
                path.unlink()
        places.update(place for place in path.parents if place.is_relative_to(folder))
    for place in sorted(places, key=lambda place: len(place.parts), reverse=True):
        with suppress(OSError):  # rmdir refuses folders that are not empty
            place.rmdir()


def is_viewer_picture(path: Path) -> bool:
    """Return whether ``path`` is a picture that the viewer wrote; False when there is none."""
    with suppress(UnusablePicture), open_picture(path, ("PNG",)) as picture:
        return PICTURE_MARK.items() <= picture.info.items()
    return False


def _is_ours(path: Path, name: str, digest: str, listed: Mapping[str, str | None]) -> bool:
    if path.name in _DESKTOP_FILES or (name == RUN_JSON and listed):
        return True
    if name == VIEWER_PICTURE:
        return is_viewer_picture(path)
    name = unicodedata.normalize("NFC", name)
    return name in listed and listed[name] in (digest, None)


def _names(folder: Path) -> Iterator[str]:
    """Yield the files and links below ``folder``, relative to it, with forward slashes."""
    for place, folders, files in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]
        for name in (*files, *links):
            yield Path(place, name).relative_to(folder).as_posix()


def _digest(path: Path) -> str:
    """Return the SHA-256 of a file; raise OSError for links and all that is no regular file."""
    if not stat.S_ISREG(path.lstat().st_mode):
        raise OSError(f"{path} is no regular file")
    return file_sha256(path)
