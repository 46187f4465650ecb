"""What a process of the cluster does: it opens a job once, and makes piece after piece."""

from __future__ import annotations

import os
import platform
import shutil
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pointmap
from pointmap.errors import InputError
from recon.cluster.job import Job, open_job
from recon.cluster.run_home import RunHome, ShippedWork
from recon.progress import cpu_seconds, peak_memory_mb
from recon.work.folder import Warned

# That of the stage that runs, and the one before.
_KEPT_JOBS = 2


@dataclass(frozen=True)
class Done:
    """What a task returns.

    ``results`` of its first pieces in their order; ``failure``: why there is none of the next, None
    where all are made; ``files`` for the work folder that the driver has not got; ``warned``:
    names of loggers and messages; ``input_error``: what the user has to mend, which ends the run;
    what the task took: ``cpu_seconds``, and ``peak_mb`` of its ``process`` so far.
    """

    results: list[Any]
    failure: str | None
    files: list[tuple[str, bytes]]
    warned: list[tuple[str, str]]
    input_error: str | None
    cpu_seconds: float
    peak_mb: float
    process: str


class _Desk:
    """What this process has open."""

    def __init__(self) -> None:
        self._works: dict[str, ShippedWork] = {}
        self._jobs: OrderedDict[str, Callable[[Any], Any]] = OrderedDict()

    def work(self, home: RunHome) -> ShippedWork:
        if home.name not in self._works:
            # Processes outlive runs.
            self._works = {home.name: ShippedWork(home)}
        return self._works[home.name]

    def job(self, name: str, job: Job, home: RunHome) -> Callable[[Any], Any]:
        if name not in self._jobs:
            self._jobs[name] = open_job(job, self.work(home), home)
            while len(self._jobs) > _KEPT_JOBS:
                self._jobs.popitem(last=False)
        return self._jobs[name]


_desk = _Desk()


def get_ready() -> None:
    """Import what takes long, most of all the compiled loops of stereo, before it is needed."""
    import recon.depth.dense_depths
    import recon.prediction.predict_scene
    import recon.stereo.compiled_sweep
    import recon.two_view.gather_evidence  # noqa: F401


def make_pieces(home: RunHome, name: str, job: Job, items: Sequence[Any]) -> Done:
    """Make the pieces ``items`` by the job called ``name``, on one thread."""
    import torch

    torch.set_num_threads(1)
    start = cpu_seconds()
    results: list[Any] = []
    failure = None
    input_error = None
    files: list[tuple[str, bytes]] = []
    with Warned() as warned:
        try:
            _check_version(home)
            make = _desk.job(name, job, home)
            made = make(items)
            try:
                results.extend(made)
            except InputError:
                raise
            except Exception as error:
                failure = f"{type(error).__name__}: {error}"
            files = _desk.work(home).take_written()
        except InputError as error:
            input_error = str(error)
    return Done(
        results,
        failure,
        files,
        warned.messages,
        input_error,
        cpu_seconds() - start,
        peak_memory_mb(),
        f"{os.getpid()} of {platform.node()}",
    )


def _check_version(home: RunHome) -> None:
    if pointmap.__version__ != home.version:
        raise InputError(
            f"a node of the cluster ({platform.node()}) has pointmap {pointmap.__version__}, "
            f"this machine {home.version}: install the same on all of them"
        )


def sees(home: RunHome, photos: Sequence[Path]) -> bool:
    """Return whether this node sees the driver's work folder and ``photos``."""
    return home.shared and all(path.is_file() for path in photos)


def clear(home: RunHome) -> None:
    """Delete what this node was sent."""
    shutil.rmtree(home.cache, ignore_errors=True)


class GpuWorker:
    """A process that has a GPU to itself, and keeps models on it from task to task."""

    def make(self, home: RunHome, name: str, job: Job, items: Sequence[Any]) -> Done:
        """See :func:`make_pieces`."""
        return make_pieces(home, name, job, items)


class Source:
    """A process beside the driver that reads its files for nodes that don't see them."""

    def read(self, path: str) -> bytes:
        """Return what a file holds."""
        return Path(path).read_bytes()
