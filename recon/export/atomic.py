"""A folder that appears complete or not at all.

Everything is written into a hidden sibling of the target, on the same file system, which is renamed
into place at the end. A crash, Ctrl-C or a full disk leaves the target as it was.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pointmap.errors import InputError

# Depth maps, cloud and mesh of some thirty photos; less would only fail after the work is done.
MIN_FREE_BYTES = 200 * 2**20
# Dropped into any folder by desktops that show it; deleting them loses nothing.
_DESKTOP_FILES = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})
# What viewing a scene adds to it later, and makes again at any time.
_VIEWER_FILES = frozenset({"view.png"})


def check_output_folder(folder: str | Path, *, overwrite: bool) -> None:
    """Raise ``InputError`` if a scene could not be written to ``folder``; leaves nothing behind.

    To be called before the work starts. Looked at: what is there already (see ``overwrite`` of
    :func:`recon.export.folder.save_scene`), whether the nearest existing parent can be written,
    and free disk space.
    """
    target = real_path(folder)
    try:
        _check_replaceable(target, overwrite=overwrite)
        parent = next(p for p in target.parents if p.exists())
        if not parent.is_dir():
            raise InputError(f"{parent} is a file, so {folder} cannot be a folder: choose another")
        # os.access says yes to root and on some network drives where writing then fails; the name
        # is the one that writing will use, so that one too long for the disk shows here.
        probe = parent / _sibling(target, "partial").name
        probe.mkdir()
        probe.rmdir()
        free = shutil.disk_usage(parent).free
    except OSError as error:
        raise _cannot_write(target, error) from error
    if free < MIN_FREE_BYTES:
        raise InputError(
            f"only {free / 2**20:.0f} MB free on the disk of {folder}, at least "
            f"{MIN_FREE_BYTES / 2**20:.0f} MB needed: free some space or choose another folder"
        )


@contextmanager
def staged_folder(folder: str | Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield an empty folder to fill; on a normal exit it becomes ``folder``, else it vanishes.

    Missing parents are created (and removed again on failure). Raises ``InputError`` when the
    target may not be replaced and for any ``OSError`` of the writing, a full disk among them.
    """
    target = real_path(folder)
    staging = _sibling(target, "partial")
    new_parents: list[Path] = []
    try:
        _check_replaceable(target, overwrite=overwrite)
        new_parents = [p for p in target.parents if not p.exists()]
        # Not tempfile.mkdtemp: its private mode 0700 would stay on the finished scene.
        staging.mkdir(parents=True)
        yield staging
        _swap_in(staging, target)
    except BaseException as error:
        shutil.rmtree(staging, ignore_errors=True)
        for parent in new_parents:
            with suppress(OSError):  # rmdir refuses folders that are not empty
                parent.rmdir()
        if isinstance(error, OSError):
            raise _cannot_write(target, error) from error
        raise


def real_path(folder: str | Path) -> Path:
    """Return ``folder`` absolute and without links, so that renaming replaces no link."""
    return Path(os.path.realpath(Path(folder).expanduser()))


def _sibling(target: Path, kind: str) -> Path:
    return target.with_name(f".{target.name}.{kind}-{secrets.token_hex(4)}")


def _cannot_write(target: Path, error: OSError) -> InputError:
    reason = error.strerror or str(error)
    return InputError(f"cannot write the scene to {target} ({reason}): choose another folder")


def _swap_in(staging: Path, target: Path) -> None:
    """Rename ``staging`` to ``target``; an old target comes back if that fails."""
    if not target.exists():
        staging.rename(target)
        return
    old = _sibling(target, "old")
    try:
        target.rename(old)
        staging.rename(target)
    except BaseException:
        if old.exists() and not target.exists():
            old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _check_replaceable(target: Path, *, overwrite: bool) -> None:
    """Raise ``InputError`` unless ``target`` is free, or ours to replace."""
    if not target.exists():
        return
    if not target.is_dir():
        raise InputError(f"{target} is a file: choose another output folder")
    if not overwrite:
        raise InputError(f"{target} exists already: choose another folder, or add --overwrite")
    if os.path.ismount(target) or Path.cwd().is_relative_to(target):
        raise InputError(
            f"{target} cannot be replaced (mount point or current folder): "
            f"choose a folder inside it, such as {target / 'scene'}"
        )
    strangers = _not_ours(target)
    if strangers:
        shown = ", ".join(strangers[:3]) + (", ..." if len(strangers) > 3 else "")
        raise InputError(
            f"{target} holds files that are not of a saved scene ({shown}), so it is not "
            "overwritten: move them away or choose another folder"
        )


def _not_ours(target: Path) -> list[str]:
    """Return the files in ``target`` that its ``run.json`` does not list as written by us.

    Photos are often kept beside their scene: one look at the names would not be enough to delete a
    folder.
    """
    found: set[str] = set()
    for place, folders, files in os.walk(target):
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]
        for name in (*files, *links):
            if name not in _DESKTOP_FILES:
                relative = Path(place, name).relative_to(target).as_posix()
                found.add(unicodedata.normalize("NFC", relative))
    try:
        run = json.loads((target / "run.json").read_text(encoding="utf-8"))
        listed = run["files"] if run["program"] == "pointmap" else []
        ours = {unicodedata.normalize("NFC", name) for name in listed}
    except (OSError, ValueError, KeyError, TypeError):
        ours = set()
    return sorted(found - ours - _VIEWER_FILES)
