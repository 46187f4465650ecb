"""Patterns such as ``trip/**/*.jpg``, without end in no folder."""

from __future__ import annotations

import fnmatch
import glob
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

MAX_ENTRIES = 1_000_000
"""Names that are looked at for one pattern; a disk has more."""
MAX_SECONDS = 60.0
"""For how long, on a slow disk."""


class TooMany(Exception):
    """A pattern that leads through more folders than anybody keeps photos in."""


def matching_paths(pattern: str) -> tuple[list[Path], list[Path]]:
    """Return what matches a pattern of :mod:`glob`, ``**`` for any folders, and the folders that
    ``**`` did not look into; not sorted.

    As there, hidden names match only where the pattern says so. ``**`` does not follow links to
    folders, which may lead round in a circle, and there may be no permission to list one. Raises
    ``TooMany`` for a pattern that would never end.
    """
    parts = Path(pattern).parts
    budget = _Budget()
    if Path(pattern).is_absolute():
        matches = _matches(Path(parts[0]), parts[1:], budget)
    else:
        matches = _matches(Path(), parts, budget)
    return list(dict.fromkeys(matches)), list(dict.fromkeys(budget.unseen))


class _Budget:
    """What a search may still cost; ``unseen``: folders that it left out."""

    def __init__(self) -> None:
        self._left = MAX_ENTRIES
        self._end = time.monotonic() + MAX_SECONDS
        self.unseen: list[Path] = []

    def spend(self) -> None:
        self._left -= 1
        if self._left < 0 or time.monotonic() > self._end:
            raise TooMany


def _matches(folder: Path, parts: Sequence[str], budget: _Budget) -> Iterator[Path]:
    if not parts:
        yield folder
        return
    part, rest = parts[0], parts[1:]
    if part == "**":
        yield from _matches(folder, rest, budget)
        if not os.access(folder, os.R_OK | os.X_OK):
            budget.unseen.append(folder)
        for entry in _entries(folder, budget):
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _matches(folder / entry.name, parts, budget)
            elif entry.is_symlink() and _leads_elsewhere(folder / entry.name):
                budget.unseen.append(folder / entry.name)
    elif glob.has_magic(part):
        for entry in _entries(folder, budget):
            visible = part.startswith(".") or not entry.name.startswith(".")
            if visible and fnmatch.fnmatch(entry.name, part) and (not rest or entry.is_dir()):
                yield from _matches(folder / entry.name, rest, budget)
    elif os.path.lexists(folder / part):
        yield from _matches(folder / part, rest, budget)


def _leads_elsewhere(link: Path) -> bool:
    """Return whether a link leads to a folder that it does not lie in."""
    target = os.path.realpath(link)
    return os.path.isdir(target) and not Path(os.path.realpath(link.parent)).is_relative_to(target)


def _entries(folder: Path, budget: _Budget) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                budget.spend()
                yield entry
    except OSError:
        return  # what cannot be listed matches nothing, as in glob
