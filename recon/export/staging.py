"""A folder that appears complete or not at all, and never in place of what others put there.

Everything is written into a hidden sibling of the target, ``.NAME.partial``, on the same file
system, and renamed into place at the end. A crash, Ctrl-C or a full disk leaves the target as it
was. The sibling also holds the lock that keeps other runs away from the target.
"""

from __future__ import annotations

import errno
import itertools
import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from pointmap.errors import InputError, some_of
from pointmap.outside.regular_file import home_expanded
from recon.export.ownership import delete_ours, sort_files
from recon.export.renames import exchange, rename_no_replace, rename_to_free
from recon.work.lock import Busy, exclusive_file

logger = logging.getLogger(__name__)

# Depth maps, cloud and mesh of some thirty photos; less would only fail after the work is done.
MIN_FREE_BYTES = 200 * 2**20
_LOCK, _UNFINISHED, _FINISHED, _OLD = "lock", "unfinished", "finished", "old"


class OutputFolder:
    """A target folder that a run has to itself; made by :func:`reserved_folder`.

    ``target``: absolute, without links. ``published``: whether the new folder lies there.
    """

    def __init__(
        self, target: Path, work: Path, *, overwrite: bool, ours: Mapping[str, str]
    ) -> None:
        self.target = target
        self.published = False
        self._work = work
        self._overwrite = overwrite
        # All that may be deleted: the old scene's files, as they were when the run began.
        self._ours = ours
        self._new: os.stat_result | None = None

    def as_given(self, folder: Path) -> Path:
        """Return ``folder``, by which the target was named, or the target itself where that leads
        nowhere: there may be no ``sub`` of ``sub/../scene``.
        """
        return folder if os.path.exists(folder.parent) else self.target

    @contextmanager
    def staged(self) -> Iterator[Path]:
        """Yield an empty folder to fill; on a normal exit it becomes the target, else it vanishes.

        An old scene is exchanged for it, in one step where the system can. Of the old scene only
        what this program had written is deleted; anything else is kept in ``NAME-kept``, as a
        warning says. Raises ``InputError`` for any ``OSError`` of the writing, a full disk among
        them. It is also raised when the target cannot be replaced, or may not, because something
        has appeared there meanwhile: the new folder is complete then, and lies beside the target
        where the message says.
        """
        unfinished = self._work / _UNFINISHED
        try:
            # Not tempfile.mkdtemp: its private mode 0700 would stay on the finished scene.
            unfinished.mkdir()
            yield unfinished
            finished = unfinished.rename(self._work / _FINISHED)
        except OSError as error:
            raise _cannot_write(self.target, error) from error
        try:
            self._publish(finished)
        except OSError as error:
            place = _move_beside(finished, self.target, "-2")
            raise InputError(
                f"{self.target} was not replaced ({error.strerror}): the new scene is in {place}"
            ) from error
        self.clear_up()

    def clear_up(self) -> None:
        """Leave nothing but the lock in the hidden folder, and lose nothing that is not ours.

        Unfinished files are deleted. Of a folder that was moved away for the new one, what this
        program had written is deleted, and the rest is kept beside the target, as a warning says.
        If nothing was published, such a folder gets the target's name back, and a finished one
        that waits for the name gets it, where it is free.
        """
        shutil.rmtree(self._work / _UNFINISHED, ignore_errors=True)
        # An interrupt may have come just after the last rename.
        self.published = self.published or self._is_new(self.target)
        for entry in _moved_entries(self._work):
            if not self.published:
                with suppress(OSError):
                    rename_no_replace(entry, self.target)
                    self.published = entry.name == _FINISHED
                    continue
            if not self._is_new(entry):
                delete_ours(entry, self._ours)
            if os.path.lexists(entry):
                place = _move_beside(entry, self.target, "-kept")
                logger.warning("what lay in %s besides a scene is now in %s", self.target, place)

    def _publish(self, finished: Path) -> None:
        self._new = finished.stat()
        for number in itertools.count():
            with suppress(FileExistsError):
                rename_no_replace(finished, self.target)
                break
            self._check_still_replaceable()
            with suppress(FileNotFoundError):  # it has gone again
                if exchange(finished, self.target):
                    break
                # In two steps. Something may appear there in between, and is moved as well.
                self.target.rename(self._work / f"{_OLD}-{number}")
        self.published = True

    def _check_still_replaceable(self) -> None:
        if not self._overwrite:
            raise FileExistsError(errno.EEXIST, "it has appeared meanwhile")
        if self.target.is_symlink() or self.target.is_file():
            raise FileExistsError(errno.EEXIST, "a file of that name has appeared meanwhile")

    def _is_new(self, folder: Path) -> bool:
        """Return whether ``folder`` is the finished one, wherever it has been moved to."""
        with suppress(OSError):
            return self._new is not None and os.path.samestat(self._new, folder.lstat())
        return False


@contextmanager
def reserved_folder(folder: str | Path, *, overwrite: bool) -> Iterator[OutputFolder]:
    """Check that a scene can be written to ``folder``, and keep other runs from it meanwhile.

    To be entered before the work starts. Looked at: what is there already (see ``overwrite`` of
    :func:`recon.save.save_scene`), whether the nearest existing parent can be written,
    and free disk space. Missing parents are created, and removed again if nothing comes to lie in
    them. What a killed run left behind is cleared up. Raises ``InputError``.
    """
    target = real_path(folder)
    with ExitStack() as stack:
        try:
            new_parents = _missing_parents(target)
            work = _hidden_sibling(target)
            stack.callback(_remove_empty, [work, *new_parents])
            _hold(work, target, stack)
            _clear_up_killed_run(target, work)
            ours = _check_replaceable(target, overwrite=overwrite)
            _check_space(target)
        except OSError as error:
            raise _cannot_write(target, error) from error
        output = OutputFolder(target, work, overwrite=overwrite, ours=ours)
        stack.callback(output.clear_up)
        yield output


def is_reserved(folder: Path) -> bool:
    """Return whether a run has ``folder`` (absolute, without links) to itself at this moment."""
    try:
        with exclusive_file(_hidden_sibling(folder) / _LOCK):
            return False
    except Busy:
        return True
    except OSError:
        # No run has made the hidden folder, or one has just removed it.
        return False


def real_path(folder: str | Path) -> Path:
    """Return ``folder`` absolute and without links, so that renaming replaces no link."""
    try:
        return Path(os.path.realpath(home_expanded(folder)))
    except ValueError as error:  # a zero byte
        raise InputError(f"{folder} cannot be the name of a folder: choose another one") from error


def _check_replaceable(target: Path, *, overwrite: bool) -> dict[str, str]:
    """Return the files in ``target`` that are ours; raise ``InputError`` unless all are, or none.

    Looked at while the lock is held: until then another run may have written there.
    """
    if not target.exists():
        return {}
    if not target.is_dir():
        raise InputError(f"{target} is a file: choose another output folder")
    if not overwrite:
        raise InputError(
            f"{target} exists already: choose another folder, or add --overwrite "
            "(in Python, overwrite=True)"
        )
    if os.path.ismount(target) or Path.cwd().is_relative_to(target):
        raise InputError(
            f"{target} cannot be replaced (mount point or current folder): "
            f"choose a folder inside it, such as {target / 'scene'}"
        )
    ours, others = sort_files(target)
    if others:
        shown = some_of(others)
        raise InputError(
            f"{target} holds files that are not of a saved scene, or were changed since ({shown}), "
            "so it is not overwritten: move them away or choose another folder"
        )
    return ours


def _hidden_sibling(target: Path) -> Path:
    return target.with_name(f".{target.name}.partial")


def _missing_parents(target: Path) -> list[Path]:
    """Return the parents of ``target`` that do not exist yet, the deepest first."""
    if not target.name:
        raise InputError(f"{target} cannot be replaced: choose a folder inside it")
    missing = [parent for parent in target.parents if not parent.exists()]
    nearest = target.parents[len(missing)]
    if not nearest.is_dir():
        raise InputError(f"{nearest} is a file, so {target} cannot be a folder: choose another")
    return missing


def _hold(work: Path, target: Path, stack: ExitStack) -> None:
    """Make the hidden folder, and lock it for as long as ``stack`` is open."""
    while True:
        work.mkdir(parents=True, exist_ok=True)
        try:
            stack.enter_context(exclusive_file(work / _LOCK))
            return
        except Busy:
            raise InputError(
                f"another run is writing to {target}: wait until it ends or choose another folder "
                f"(if there is no other run, delete {work})"
            ) from None
        except FileNotFoundError:
            # A run that has just ended removed the folder between our two steps.
            continue


def _clear_up_killed_run(target: Path, work: Path) -> None:
    """Clear up what a killed run left in ``work``; none of it is known to be ours to delete."""
    killed = OutputFolder(target, work, overwrite=False, ours={})
    killed.clear_up()
    if killed.published:
        logger.warning("a run was killed when its scene was complete: it is now in %s", target)


def _check_space(target: Path) -> None:
    free = shutil.disk_usage(target.parent).free
    if free < MIN_FREE_BYTES:
        raise InputError(
            f"only {free / 2**20:.0f} MB free on the disk of {target}, at least "
            f"{MIN_FREE_BYTES / 2**20:.0f} MB needed: free some space or choose another folder"
        )


def _moved_entries(work: Path) -> list[Path]:
    """Return what was moved to ``work``: first what was moved away, then what is to move in."""
    with suppress(FileNotFoundError):
        return sorted((p for p in work.iterdir() if p.name != _LOCK), reverse=True)
    return []


def _move_beside(entry: Path, target: Path, ending: str) -> Path:
    """Move ``entry`` beside ``target`` and return its new name, or the old one if that fails."""
    with suppress(OSError):
        return rename_to_free(entry, target.with_name(target.name + ending))
    return entry


def _remove_empty(folders: Sequence[Path]) -> None:
    for folder in folders:
        with suppress(OSError):  # rmdir refuses folders that are not empty
            folder.rmdir()


def _cannot_write(target: Path, error: OSError) -> InputError:
    reason = error.strerror or str(error)
    full = error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", None))
    return InputError(
        f"cannot write the scene to {target} ({reason}): "
        f"{'make room and run the same command again, or ' if full else ''}choose another folder"
    )
