"""Which files a saved scene's ``run.json`` lists, and folders that are not to be written into."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

from pointmap.errors import InputError
from pointmap.outside.json_object import parse_object
from pointmap.outside.regular_file import read_regular

RUN_JSON = "run.json"


def listed_files(folder: Path) -> dict[str, str | None]:
    """Return the digests that the folder's ``run.json`` lists, by name in Unicode's NFC; empty
    where no scene was saved.

    Version 0.1.0 listed names alone: their digest is None, and whatever they hold counts as ours.
    """
    try:
        run = parse_object(read_regular(folder / RUN_JSON))
        files = run["files"] if run["program"] == "pointmap" else {}
        files = files if isinstance(files, dict) else dict.fromkeys(files)
        return {unicodedata.normalize("NFC", name): digest for name, digest in files.items()}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def refuse_saved_scene(folder: Path) -> None:
    """Raise ``InputError`` if ``folder`` is a saved scene or lies in one: files that are not the
    scene's would keep it from being replaced, or deleted.
    """
    real = Path(os.path.realpath(folder))
    for place in (real, *real.parents):
        if listed_files(place):
            raise InputError(
                f"{folder} lies in the saved scene {place}: choose a folder outside it"
            )
