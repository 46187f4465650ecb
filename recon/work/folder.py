"""Results of a run as files, by what they depend on."""

from __future__ import annotations

import errno
import logging
import secrets
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from pointmap.errors import InputError
from pointmap.freed_memory import return_if_grown
from pointmap.outside.regular_file import read_regular
from pointmap.video.frames import clear_frames
from recon.progress import PACKAGES, Advance, unheard
from recon.work.lock import Busy, exclusive_file
from recon.work.on_demand import OnDemand
from recon.work.packing import Damaged, pack, size_of, unpack
from recon.work.pieces import Needs, PhotosFailed, PieceMap, PiecesFailed

logger = logging.getLogger(__name__)

T = TypeVar("T")

CACHE_BYTES = 256 * 2**20
"""Results that were used last are kept in memory up to this size in all."""

# No result of one step is larger.
_MOST_BYTES = 16 * 2**30
_PIECE, _UNFINISHED = ".piece", ".unfinished"
# By this file a folder is known to be one of ours, by people, too.
_MARK = "README.txt"
_MARK_TEXT = (
    "What pointmap has worked out so far. The same command goes on from here.\n"
    "Deleting this folder loses nothing but time.\n"
)
# Digits of a name that make its folder: no folder of a thousand photos gets very long.
_FOLDER_DIGITS = 2
_FRAMES, _LOCK, _TOKEN = "frames", "lock", "cluster"


class Work:
    """The results of a run, each a file named by its :func:`recon.work.content_key.content_key`.

    ``folder`` is made when there is something to keep; None: a temporary one, deleted with this
    object. Files appear complete or not at all, so that a run that was stopped at any moment goes
    on with those that are there; ``reused``: whether one was found. Safe to use from several
    threads, by one process at a time. ``pieces``: where independent ones are made, by default in
    this process. ``is_copy``: whether it stands for a run's folder that this machine does not see.
    """

    is_copy = False

    def __init__(self, folder: Path | None = None, pieces: PieceMap | None = None) -> None:
        self.pieces = pieces or PieceMap()
        self._temporary = None
        if folder is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="pointmap-")
            folder = Path(self._temporary.name)
        self.folder = folder
        self._check_ours()
        self.reused = False
        self._used: set[str] = set()
        self._recent: OrderedDict[str, tuple[Any, int]] = OrderedDict()
        self._recent_bytes = 0
        self._lock = threading.Lock()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other runs from the folder meanwhile; ``InputError`` while another one has it."""
        if self._temporary is not None:
            yield
            return
        with ExitStack() as stack:
            stack.callback(_remove_if_empty, self.folder)
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                stack.enter_context(exclusive_file(self.folder / _LOCK))
                stack.callback(self._delete_if_nothing_is_kept)
            except Busy:
                raise InputError(
                    f"another run is using {self.folder}: wait until it ends "
                    f"(if there is no other run, delete {self.folder / _LOCK})"
                ) from None
            except OSError as error:
                raise _cannot_write(self.folder, error) from error
            yield

    def once(self, key: str, make: Callable[[], T]) -> T:
        """Return the result called ``key``: the one that is kept, or what ``make`` returns."""
        return self.each([key], lambda _: make())[0]

    def each(
        self,
        keys: Sequence[str],
        make: Callable[[Any], T],
        *,
        of: Sequence[Any] | None = None,
        at_once: int | None = 1,
        needs: Needs | None = None,
        photos: Callable[[int], Sequence[str]] = lambda number: (),
        advance: Advance = unheard,
    ) -> Pieces[T]:
        """Return the results called ``keys``, those that are missing made by ``make(number)``, or
        ``make(of[number])``: what is handed over so travels with its piece on a cluster.

        ``at_once``, ``needs``: how many are made side by side and what that takes (see
        :class:`recon.work.pieces.PieceMap`); they must not depend on each other. A damaged file
        counts as missing. What was warned of when a result was made is warned of again when it is
        found. ``advance`` is told how many are there. Raises ``InputError`` when a result cannot be
        written, and :class:`recon.work.pieces.PhotosFailed` where a cluster failed to make some,
        with what ``photos(number)`` says each is of.
        """
        self._used.update(keys)
        missing = [n for n, key in enumerate(keys) if not self._is_whole(key)]
        done = len(keys) - len(missing)
        if done:
            advance(done, len(keys))

        def finish(piece: tuple[str, Any]) -> None:
            key, given = piece
            with Warned() as warned:
                value = make(given)
            self._put(key, value, warned.messages)
            return_if_grown()

        todo = [(keys[n], n if of is None else of[n]) for n in missing]
        try:
            for _ in self.pieces.each(finish, todo, at_once=at_once, needs=needs):
                done += 1
                advance(done, len(keys))
        except PiecesFailed as failed:
            pieces = [(tuple(photos(missing[n])), why) for n, why in failed.reasons.items()]
            raise PhotosFailed(pieces) from failed
        return Pieces(self, tuple(keys))

    def put(self, key: str, value: object) -> None:
        """Write a result that was made otherwise; raises ``InputError`` when that fails."""
        self._used.add(key)
        self._put(key, value, [])

    def _put(self, key: str, value: object, warnings: list[tuple[str, str]]) -> None:
        self.write(key, pack((value, warnings)))
        self._remember(key, value)

    def write(self, key: str, data: bytes) -> None:
        """Write the file of a result; raises ``InputError`` when that fails."""
        path = self._path(key)
        # By a name of its own: where nodes share the folder, one that was given up may still write.
        unfinished = path.with_name(f"{path.stem}.{secrets.token_hex(4)}{_UNFINISHED}")
        try:
            if not path.parent.exists():
                self._mark()
                path.parent.mkdir(exist_ok=True)
            unfinished.write_bytes(data)
            unfinished.replace(path)
        except OSError as error:
            with suppress(OSError):
                unfinished.unlink()
            if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", None)):
                raise InputError(
                    f"the disk of {self.folder} is full: make room and run the same command again, "
                    "it goes on where it stopped"
                ) from error
            raise _cannot_write(self.folder, error) from error

    def get(self, key: str) -> Any:
        """Return a result that is there; ``InputError`` when its file has gone or is damaged."""
        with self._lock:
            if key in self._recent:
                self._recent.move_to_end(key)
                return self._recent[key][0]
        try:
            value, _ = unpack(read_regular(self._path(key), most_bytes=_MOST_BYTES))
        except (OSError, Damaged) as error:
            raise InputError(
                f"{self._path(key)} was changed or deleted while it was needed: run the same "
                "command again"
            ) from error
        self._remember(key, value)
        return value

    def found(self, keys: Sequence[str]) -> Pieces[Any] | None:
        """Return the results called ``keys`` if all are there and whole, else None."""
        self._used.update(keys)
        return Pieces(self, keys) if all(self._is_whole(key) for key in keys) else None

    def forget(self, keys: Sequence[str]) -> None:
        """Delete results that no later stage needs."""
        for key in keys:
            with suppress(OSError):
                self._path(key).unlink()
            with self._lock:
                if key in self._recent:
                    self._recent_bytes -= self._recent.pop(key)[1]

    def frames_folder(self) -> Path:
        """Return the folder for frames of videos, which goes with the rest.

        Raises ``InputError`` when nothing can be written there.
        """
        try:
            self._mark()
        except OSError as error:
            raise _cannot_write(self.folder, error) from error
        return self.folder / _FRAMES

    def _mark(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / _MARK).write_text(_MARK_TEXT, encoding="utf-8", newline="")

    def mark_as(self, name: str) -> str:
        """Write ``name`` to a file of the folder, by which other machines tell whether they see it;
        return what the file is called. Raises ``InputError`` when that fails.
        """
        try:
            self._mark()
            (self.folder / _TOKEN).write_text(name, encoding="utf-8")
        except OSError as error:
            raise _cannot_write(self.folder, error) from error
        return _TOKEN

    def size_bytes(self) -> int:
        """Return what all results take on the disk."""
        frames = (self.folder / _FRAMES).glob("*")
        return sum(path.stat().st_size for path in (*self._files(), *frames))

    def delete_unused(self) -> None:
        """Delete the results that were not asked for since this object was made."""
        for path in self._files():
            if path.suffix != _PIECE or path.stem not in self._used:
                with suppress(OSError):
                    path.unlink()

    def delete(self) -> None:
        """Delete all results, and the folders that this leaves empty; nothing else in them."""
        for path in self._files():
            with suppress(OSError):
                path.unlink()
        for name in (_MARK, _TOKEN):
            with suppress(OSError):
                (self.folder / name).unlink()
        clear_frames(self.folder / _FRAMES)
        for folder in (*_subfolders(self.folder), self.folder / _FRAMES, self.folder):
            _remove_if_empty(folder)

    def _delete_if_nothing_is_kept(self) -> None:
        """Delete the mark of a folder in which no result lies: the input could not be used."""
        frames = self.folder / _FRAMES
        if not any(self._files()) and not (frames.is_dir() and any(frames.iterdir())):
            self.delete()

    def _check_ours(self) -> None:
        """Raise ``InputError`` for a folder that is there and not one of ours."""
        mark = self.folder / _MARK
        try:
            if not self.folder.exists() or {path.name for path in self.folder.iterdir()} <= {_LOCK}:
                return
            # A killed run may have left the mark's beginning only.
            ours = mark.is_file() and _MARK_TEXT.encode().startswith(read_regular(mark))
        except OSError as error:
            raise InputError(
                f"cannot read {self.folder} ({error.strerror or error}), where the work is kept: "
                "delete it or choose another output folder"
            ) from error
        if not ours:
            raise InputError(
                f"{self.folder} holds files that are not of an unfinished run, so no work is kept "
                "there: move them away or choose another output folder"
            )

    def _path(self, key: str) -> Path:
        return self.folder / key[:_FOLDER_DIGITS] / f"{key}{_PIECE}"

    def _is_whole(self, key: str) -> bool:
        path = self._path(key)
        with self._lock:
            if key in self._recent:
                return True
        try:
            data = read_regular(path, most_bytes=_MOST_BYTES)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise InputError(
                f"cannot read {path} ({error.strerror or error}): delete {self.folder}, or choose "
                "another output folder"
            ) from error
        try:
            value, warnings = unpack(data)
        except Damaged:
            logger.warning("%s is damaged: that piece of the work is done again", path)
            return False
        self.reused = True
        self._remember(key, value)
        for name, message in warnings:
            logging.getLogger(name).warning("%s", message)
        return True

    def _remember(self, key: str, value: object) -> None:
        size = size_of(value)
        with self._lock:
            if key in self._recent:
                self._recent_bytes -= self._recent.pop(key)[1]
            self._recent[key] = value, size
            self._recent_bytes += size
            while self._recent_bytes > CACHE_BYTES:
                self._recent_bytes -= self._recent.popitem(last=False)[1][1]

    def _files(self) -> Iterator[Path]:
        """Yield the files of results, whole or not, and nothing else."""
        for folder in _subfolders(self.folder):
            for path in folder.iterdir():
                if path.suffix in (_PIECE, _UNFINISHED) and path.name.startswith(folder.name):
                    yield path


class Pieces(OnDemand[T]):
    """Results of one stage in a :class:`Work`, read when they are asked for."""

    def __init__(self, work: Work, keys: Sequence[str]) -> None:
        self._work = work
        self._keys = tuple(keys)

    def __len__(self) -> int:
        return len(self._keys)

    def item(self, index: int) -> T:
        """Return one result."""
        result: T = self._work.get(self._keys[index])
        return result

    def item_key(self, index: int) -> str:
        """Return one result's name, to depend on it without reading it."""
        return self._keys[index]


class Warned(logging.Handler):
    """Collects what this thread warns of: names of loggers, and messages."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[tuple[str, str]] = []
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        """Take in a record."""
        if record.thread == self._thread:
            self.messages.append((record.name, record.getMessage()))

    def __enter__(self) -> Warned:
        for name in PACKAGES:
            logging.getLogger(name).addHandler(self)
        return self

    def __exit__(self, *error: object) -> None:
        for name in PACKAGES:
            logging.getLogger(name).removeHandler(self)


def _cannot_write(folder: Path, error: OSError) -> InputError:
    return InputError(
        f"cannot write to {folder} ({error.strerror or error}): run the same command again when "
        "that is mended, it goes on where it stopped"
    )


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):  # rmdir refuses folders that are not empty
        folder.rmdir()


def _subfolders(folder: Path) -> list[Path]:
    """Return the folders of results in a work folder."""
    with suppress(FileNotFoundError):
        return [
            path
            for path in folder.iterdir()
            if len(path.name) == _FOLDER_DIGITS and path.is_dir() and not path.is_symlink()
        ]
    return []
