"""What the tasks of a run find of the driver's files, wherever they run.

Photos and earlier results are read where they lie, if the machines share the files. Else each comes
once to every node, into a folder there, and new results go back to the driver with the task.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from pointmap.errors import InputError
from pointmap.images import Photo
from recon.work.folder import Work
from recon.work.lock import Busy, exclusive_file
from recon.work.on_demand import OnDemand

_WAIT_SECONDS = 0.02


@dataclass(frozen=True)
class RunHome:
    """What all tasks of a run know.

    ``name`` of the run, ``version`` of the program; the driver's work ``folder``, in which the file
    ``token`` lies that has the name in it; ``source``: an actor beside the driver whose method
    ``read`` gives the bytes of a file there, None where all nodes share the files.
    """

    name: str
    version: str
    folder: Path
    token: str
    source: Any = None

    @cached_property
    def shared(self) -> bool:
        """Whether this machine sees the driver's work folder."""
        try:
            return (self.folder / self.token).read_text(encoding="utf-8") == self.name
        except OSError:
            return False

    @property
    def cache(self) -> Path:
        """Where a node keeps what it was sent; deleted when the run ends."""
        return Path(tempfile.gettempdir()) / f"pointmap-cluster-{self.name}"

    def bring(self, path: Path, here: Path, changed_ns: int | None = None) -> None:
        """Have the driver's file ``path`` lie at ``here``, sent for by the first who asks.

        ``changed_ns``: the time that the copy gets. Raises ``InputError`` where there is no way.
        """
        here.parent.mkdir(parents=True, exist_ok=True)
        while not here.exists():
            try:
                with exclusive_file(here.with_name(f"{here.name}.lock")):
                    if here.exists():
                        break
                    unfinished = here.with_name(f"{here.name}.{secrets.token_hex(4)}")
                    unfinished.write_bytes(self.read(path))
                    if changed_ns is not None:
                        os.utime(unfinished, ns=(changed_ns, changed_ns))
                    unfinished.replace(here)
            except Busy:
                time.sleep(_WAIT_SECONDS)

    def photo(self, path: Path, changed_ns: int | None = None) -> Path:
        """Return where the driver's photo ``path`` lies here."""
        if self.source is None:
            return path
        name = hashlib.sha256(str(path).encode("utf-8", "surrogatepass")).hexdigest()
        here = self.cache / "photos" / f"{name}{path.suffix}"
        self.bring(path, here, changed_ns)
        return here

    def read(self, path: Path) -> bytes:
        """Return what the driver's file ``path`` holds, by way of the cluster."""
        import ray

        if self.source is None:
            raise InputError(
                f"a node of the cluster does not see {path}, as others do: give all of them the "
                "same folders, and run the same command again"
            )
        return bytes(ray.get(self.source.read.remote(str(path))))


class ShippedWork(Work):
    """A run's work as a task sees it: the driver's folder, or one of this node."""

    def __init__(self, home: RunHome) -> None:
        super().__init__(home.folder if home.shared else home.cache / "work")
        self._home = home
        self._written: list[tuple[str, bytes]] = []
        self.is_copy = not home.shared
        if self.is_copy:
            self._mark()

    def write(self, key: str, data: bytes) -> None:
        """Write a result where this node sees it."""
        super().write(key, data)
        if self.is_copy:
            self._written.append((key, data))

    def get(self, key: str) -> Any:
        """Return a result, sent for if need be."""
        path = self._path(key)
        if self.is_copy:
            self._home.bring(self._home.folder / path.relative_to(self.folder), path)
        return super().get(key)

    def take_written(self) -> list[tuple[str, bytes]]:
        """Return the files that the driver has not got yet, and forget them."""
        written, self._written = self._written, []
        return written


class ShippedPhotos(OnDemand[Photo]):
    """Photos of the driver: each, when it is asked for by its number, with a path that can be read
    here. As they come one after the other they serve for what is known of them alone.

    ``contents``: see :attr:`recon.inputs.Inputs._contents`.
    """

    def __init__(
        self,
        home: RunHome,
        photos: Sequence[Photo],
        contents: Sequence[tuple[os.stat_result, str]],
    ) -> None:
        self._home, self._photos, self._contents = home, photos, contents

    def __len__(self) -> int:
        return len(self._photos)

    def __iter__(self) -> Iterator[Photo]:
        return iter(self._photos)

    def item(self, index: int) -> Photo:
        """Return a photo."""
        photo, (then, _) = self._photos[index], self._contents[index]
        if self._is_here(photo, then):
            return photo
        return replace(photo, path=self._home.photo(photo.path, then.st_mtime_ns))

    @staticmethod
    def _is_here(photo: Photo, then: os.stat_result) -> bool:
        try:
            now = photo.path.stat()
        except OSError:
            return False
        return (now.st_size, now.st_mtime_ns) == (then.st_size, then.st_mtime_ns)
