"""A video watched in a process of its own, with bounds of memory and time.

FFmpeg has no bound on what a file may ask of it, and a fault in it ends the process it is in. That
process is this module run as a program: ``python -m pointmap.video.bounded VIDEO FOLDER NAME``. It
tells how it goes on in lines of JSON, and leaves its measurements beside the pictures.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from pointmap.errors import InputError
from pointmap.outside.arrays import read_npz
from pointmap.video.decoder import THREADS
from pointmap.video.motion import TrackedFeatures
from pointmap.video.selection import Candidate

MAX_BYTES = 4 * 2**30
"""Address space of the process; an 8K film in H.264 takes 1.5 GB."""
MAX_SECONDS = 120
"""Of computing, from one frame to the next; also of opening the file."""

_MEASURED = "measured.npz"


def bounded_candidates(
    video: Path,
    folder: Path,
    name: str,
    *,
    on_read: Callable[[int], None],
    max_bytes: int = MAX_BYTES,
    max_seconds: int = MAX_SECONDS,
) -> tuple[list[Candidate], list[Path]]:
    """Do what :func:`pointmap.video.candidates.candidates_of` does, within bounds.

    The bounds hold where the system knows them (not on Windows). Raises ``InputError`` as that
    does, and for a video that doesn't keep them or ends the process; ``OSError`` when the pictures
    cannot be written.
    """
    bounds = map(str, (max_bytes, max_seconds))
    with subprocess.Popen(
        [sys.executable, "-m", __name__, video, folder, name, *bounds],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={
            **os.environ,
            # Found where it was found here, wherever that is.
            "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path)),
            # Every thread takes address space: of 256 threads it was more than 1.5 GB.
            "OPENBLAS_NUM_THREADS": "1",
            "OPENCV_FOR_THREADS_NUM": str(THREADS),
            "MALLOC_ARENA_MAX": str(THREADS),
        },
    ) as process:
        try:
            assert process.stdout is not None
            files = _followed(map(json.loads, process.stdout), video, on_read)
        finally:
            process.kill()
    if files is None:
        raise InputError(
            f"{video} takes more than {max_bytes / 2**30:g} GB of memory or {max_seconds} seconds "
            "for a frame, or is damaged: convert it to mp4 (H.264)"
        )
    measured = read_npz(folder / _MEASURED)
    (folder / _MEASURED).unlink()
    ends = measured["ends"]
    features = [
        TrackedFeatures(measured["ids"][start:end], measured["places"][start:end])
        for start, end in zip([0, *ends[:-1]], ends, strict=True)
    ]
    numbers = zip(measured["times_s"].tolist(), measured["sharpness"].tolist(), strict=True)
    candidates = [
        Candidate(time_s, sharpness, seen)
        for (time_s, sharpness), seen in zip(numbers, features, strict=True)
    ]
    return candidates, [folder / file for file in files]


def _followed(lines: Any, video: Path, on_read: Callable[[int], None]) -> list[str] | None:
    """Return the names of the pictures as the process tells them; None if it ends without."""
    with suppress(json.JSONDecodeError):  # it ended in the middle of a line
        for told in lines:
            match told:
                case {"read": int(read)}:
                    on_read(read)
                case {"warning": str(message)}:
                    logging.getLogger(__name__).warning("%s", message)
                case {"refused": str(message)}:
                    raise InputError(message)
                case {"errno": int(number), "strerror": str(reason)}:
                    raise OSError(number, reason, str(video))
                case {"files": list(files)}:
                    return files
    return None


class _Teller(logging.Handler):
    """Tells the other process in lines of JSON, of warnings, too."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        # Nothing else is to write there.
        self._stream = os.fdopen(os.dup(1), "w", encoding="ascii")
        os.dup2(2, 1)

    def tell(self, **what: object) -> None:
        """Write one line; ends this process if nobody reads it any more."""
        try:
            self._stream.write(json.dumps(what) + "\n")
            self._stream.flush()
        except OSError:
            os._exit(1)

    def emit(self, record: logging.LogRecord) -> None:
        self.tell(warning=record.getMessage())


def _watch(video: Path, folder: Path, name: str, max_bytes: int, max_seconds: int) -> None:
    from pointmap.video.candidates import candidates_of

    teller = _Teller()
    logging.getLogger("pointmap").addHandler(teller)
    _bound("RLIMIT_AS", max_bytes)
    more_time = _Clock(max_seconds)
    more_time()

    def on_read(read: int) -> None:
        more_time()
        teller.tell(read=read)

    try:
        candidates, paths = candidates_of(video, folder, name, on_read=on_read)
        features = [candidate.features for candidate in candidates]
        np.savez(
            folder / _MEASURED,
            times_s=np.array([candidate.time_s for candidate in candidates], np.float64),
            sharpness=np.array([candidate.sharpness for candidate in candidates], np.float64),
            ids=np.concatenate([np.zeros(0, np.int64), *(f.ids for f in features)]),
            places=np.concatenate([np.zeros((0, 2), np.float32), *(f.places for f in features)]),
            ends=np.cumsum([len(f.ids) for f in features], dtype=np.int64),
        )
    except InputError as error:
        teller.tell(refused=str(error))
    except OSError as error:
        teller.tell(errno=error.errno or 0, strerror=error.strerror or str(error))
    else:
        teller.tell(files=[path.name for path in paths])


class _Clock:
    """Gives this process so many more seconds of computing each time that it is called."""

    def __init__(self, seconds: int) -> None:
        self._seconds = seconds

    def __call__(self) -> None:
        with suppress(ImportError):  # Windows
            import resource

            used = resource.getrusage(resource.RUSAGE_SELF)
            _bound("RLIMIT_CPU", int(used.ru_utime + used.ru_stime) + self._seconds)


def _bound(what: str, most: int) -> None:
    """Bound a resource of this process, as far as the system lets it."""
    with suppress(ImportError, AttributeError, ValueError, OSError):
        import resource

        kind = getattr(resource, what)
        _, hard = resource.getrlimit(kind)
        resource.setrlimit(kind, (most if hard < 0 else min(most, hard), hard))


if __name__ == "__main__":
    _, *_given = sys.argv
    _watch(Path(_given[0]), Path(_given[1]), _given[2], *map(int, _given[3:]))
