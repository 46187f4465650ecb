"""Which scenes there are: rows of a CSV file, or the folders in a folder."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from pointmap.errors import InputError
from pointmap.outside.regular_file import home_expanded, read_regular
from pointmap.photo_files import natural_key

_NAME, _PHOTOS = "name", "photos"
# A list of a million scenes is a tenth of this.
_MOST_BYTES = 2**30


@dataclass(frozen=True)
class SceneEntry:
    """A scene: its ``name``, which is that of its folder in the output, and ``photos``, a folder, a
    file or a pattern as the command for one scene takes it.
    """

    name: str
    photos: str


def read_scenes(given: Path) -> list[SceneEntry]:
    """Return the scenes that ``given`` stands for, each name once.

    A folder: one for each folder in it, hidden ones left out, in natural order. A CSV file, with
    commas, semicolons or tabs: one for each row, with the columns ``photos`` (relative to the
    file's folder) and, if it is there, ``name``, else the last part of the photos' path. Raises
    ``InputError`` for a list that cannot be used; a scene without photos is none, until it is
    reconstructed.
    """
    given = home_expanded(given)
    scenes = _of_folder(given) if given.is_dir() else _of_table(given)
    if not scenes:
        raise InputError(f"no scene in {given}: give a folder of folders, or a CSV file with rows")
    seen = set[str]()
    for scene in scenes:
        # Case does not tell folders apart everywhere.
        name = scene.name.casefold()
        if name in seen:
            raise InputError(
                f"two scenes of {given} are called {scene.name}: give each a name of its own "
                "(a CSV file has a column for it)"
            )
        seen.add(name)
    return scenes


def _of_folder(folder: Path) -> list[SceneEntry]:
    try:
        inside = sorted(
            (p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")),
            key=natural_key,
        )
    except OSError as error:
        raise InputError(f"cannot read {folder}: {error.strerror or error}") from error
    return [SceneEntry(path.name, str(path)) for path in inside]


def _of_table(path: Path) -> list[SceneEntry]:
    try:
        # With or without the mark that spreadsheets put in front.
        text = read_regular(path, most_bytes=_MOST_BYTES).decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise InputError(f"{path} is no text: save it as CSV in UTF-8") from error
    # Spreadsheets part columns by semicolons where a comma stands in numbers.
    header = text.partition("\n")[0]
    delimiter = max(",;\t", key=header.count)
    try:
        lines = io.StringIO(text, newline="")
        table = list(csv.DictReader(lines, strict=True, delimiter=delimiter))
    except csv.Error as error:
        raise InputError(f"{path} is no CSV file ({error}): save it anew") from error
    scenes = []
    for number, row in enumerate(table, 2):
        photos = (row.get(_PHOTOS) or "").strip()
        if not photos:
            raise InputError(
                f"row {number} of {path} names no photos: the file needs a column 'photos', and "
                "may have one 'name'"
            )
        name = (row.get(_NAME) or "").strip() or Path(photos).name
        if name in ("", ".", "..") or name.startswith(".") or set(name) & set("/\\:\0"):
            raise InputError(f"row {number} of {path}: {name!r} cannot be the name of a folder")
        scenes.append(SceneEntry(name, str(path.parent / photos)))
    return scenes
