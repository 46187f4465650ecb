"""Whether a file can be written, asked before the work that makes it."""

from __future__ import annotations

import os
from pathlib import Path

from pointmap.errors import InputError


def check_place(path: Path) -> None:
    """Raise ``InputError`` where no file can be written, before the work is done for nothing."""
    folder = path.absolute().parent
    if not os.path.isdir(folder):
        raise InputError(f"{path.parent} is no folder: make it first, or choose another place")
    if not os.access(folder, os.W_OK):
        raise InputError(f"cannot write {path}: no permission to write to its folder")
