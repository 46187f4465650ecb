"""What became of a scene, as a file beside the scenes: by it a later run knows what is done."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from glob import glob, has_magic
from pathlib import Path

from pointmap.errors import InputError
from pointmap.outside.typed import as_type
from recon.batch.scene_list import SceneEntry
from recon.export.json_file import plain, read_json, write_json
from recon.work.content_key import content_key

# Of what the files of outcomes hold.
_VERSION = 1


@dataclass(frozen=True)
class Outcome:
    """What became of scene ``name``, made of what ``made_of`` names (see :func:`inputs_key`).

    ``reason``: why there is no scene, None where there is one; ``placed`` of ``photos`` have
    cameras; ``verdict`` on these in a word and a reason, empty where nothing was judged;
    ``seconds`` it took; ``warnings`` that came; ``thumbnail``: one of its photos, a
    small JPEG in base64.
    """

    name: str
    made_of: str
    reason: str | None = None
    placed: int = 0
    photos: int = 0
    verdict: str = ""
    seconds: float = 0.0
    warnings: tuple[str, ...] = ()
    thumbnail: str = ""


def inputs_key(scene: SceneEntry, options: tuple[str, ...]) -> str:
    """Return a name of a scene's files, as far as size and time tell, and of the ``options``.

    Files that the options name count, too.
    """
    deep = "--recursive" in options
    files = _files(scene.photos, deep)
    given = [_files(option, deep) for option in options]
    return content_key("batch scene", _VERSION, scene.photos, files, options, given)


def _files(given: str, deep: bool) -> list[tuple[str, int, int]]:
    """Return name, size and time of the files that ``given`` stands for, none if it is no path.

    ``deep``: with those in the subfolders of a folder.
    """
    path = Path(given)
    try:
        paths = [Path(p) for p in glob(given, recursive=True)] if has_magic(given) else [path]
        if path.is_dir():
            paths = list(path.rglob("*") if deep else path.iterdir())
        statuses = [(p, p.stat()) for p in sorted(paths) if p.is_file()]
    except (OSError, ValueError):
        return []
    return [(p.name, status.st_size, status.st_mtime_ns) for p, status in statuses]


def write_outcome(path: Path, outcome: Outcome) -> None:
    """Write the file of an outcome, whole or not at all; raises ``OSError``."""
    unfinished = path.with_name(f".{secrets.token_hex(8)}")
    try:
        write_json(unfinished, plain(outcome))
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def read_outcome(path: Path) -> Outcome | None:
    """Return the outcome in a file; None where there is none, or none that can be used."""
    try:
        outcome: Outcome = as_type(read_json(path), Outcome, path.name)
    except (InputError, ValueError):
        return None
    return outcome
