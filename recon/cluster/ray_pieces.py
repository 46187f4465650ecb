"""The driver's side: pieces go out as tasks, few at a time, and come back in their order.

Ray places the tasks, and starts those anew whose process or node has died. What fails by itself is
tried three times, in the end alone.
"""

from __future__ import annotations

import logging
import math
import secrets
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeVar

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import pointmap
from pointmap.errors import InputError
from recon.cluster.job import Packer
from recon.cluster.run_home import RunHome
from recon.cluster.worker import Done, GpuWorker, Source, clear, get_ready, make_pieces, sees
from recon.work.pieces import Needs, PieceMap, PiecesFailed

Item = TypeVar("Item")
Result = TypeVar("Result")

TRIES = 3
"""How often a piece is tried."""
# Tasks for each core that are out at a time: one that runs, and one that waits beside it.
_PER_CORE = 2
_MIB = 2**20
# What tells that all nodes see the driver's photos.
_PHOTOS_LOOKED_AT = 20
_LOOK_SECONDS = 120.0
_CLEAR_SECONDS = 10.0


@dataclass
class Usage:
    """What the tasks of a stage took: ``pieces`` in ``tasks``, ``seconds`` by the clock from the
    first to the last, ``cpu_seconds``, in all and by the process that worked, the largest process,
    and the bytes that went out with the tasks and came back as files.
    """

    pieces: int = 0
    tasks: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_mb: float = 0.0
    bytes_out: int = 0
    bytes_back: int = 0
    by_process: dict[str, float] = field(default_factory=dict)


class RayPieces(PieceMap):
    """Pieces as tasks of the cluster that this process has joined (``ray.init``).

    ``usage``: what they took, by stage. To be closed at the end.
    """

    def __init__(self) -> None:
        self.usage: dict[str, Usage] = {}
        self._packer = Packer(ray.put)
        self._home: RunHome | None = None
        self._home_reference: Any = None
        self._gpus: list[Any] = []
        self._make = ray.remote(make_pieces)
        self._cores = max(1, int(ray.cluster_resources().get("CPU", 1)))
        # Processes start while the driver reads photos; nobody waits for these.
        starting = ray.remote(get_ready)
        for _ in range(self._cores):
            starting.remote()

    def each(
        self,
        make: Callable[[Item], Result],
        items: Sequence[Item],
        *,
        at_once: int | None = 1,
        needs: Needs | None = None,
    ) -> Iterator[Result]:
        """Yield ``make(item)`` of all items (see :class:`recon.work.pieces.PieceMap`).

        Raises ``InputError`` for what the user has to mend, and ``PiecesFailed`` at the end; after
        the first piece that failed no more results are yielded.
        """
        if needs is None or not items:
            yield from super().each(make, items, at_once=at_once)
            return

        def one_by_one(some: Sequence[Item]) -> Iterator[Result]:
            return map(make, some)

        yield from self.stream(one_by_one, items, needs=needs)

    def stream(
        self,
        make: Callable[[Sequence[Item]], Iterator[Result]],
        items: Sequence[Item],
        *,
        needs: Needs | None = None,
    ) -> Iterator[Result]:
        """Yield what ``make`` makes of all items (see :class:`recon.work.pieces.PieceMap`); errors
        as of :meth:`each`.
        """
        if needs is None or not items:
            yield from super().stream(make, items)
            return
        job = self._packer.job(make)
        home = self._settled_home()
        name, reference = secrets.token_hex(8), ray.put(job)
        usage = self.usage.setdefault(needs.stage, Usage())
        usage.bytes_out += job.size_bytes
        tasks, start = _Tasks(items, needs, self._cores), time.monotonic()

        def submit(places: Sequence[int]) -> Any:
            given = home, name, reference, [items[n] for n in places]
            return self._submit(needs, *given)

        try:
            while not tasks.finished:
                while tasks.may_submit:
                    tasks.submit(submit)
                for places, done in tasks.ended():
                    if done is not None:
                        self._take(done, usage)
                        usage.pieces += len(places)
                yield from tasks.results()
        finally:
            tasks.cancel()
            usage.seconds += time.monotonic() - start
        if tasks.failed:
            raise PiecesFailed(tasks.failed)

    def close(self) -> None:
        """Delete what nodes were sent, and the mark in the work folder."""
        if self._home is None:
            return
        with suppress(OSError):
            (self._home.folder / self._home.token).unlink()
        if self._home.source is not None:
            remote = ray.remote(clear)
            gone = [self._on(node, remote).remote(self._home_reference) for node in _nodes()]
            ray.wait(gone, num_returns=len(gone), timeout=_CLEAR_SECONDS)
            ray.kill(self._home.source)
        self._home = None

    def _take(self, done: Done, usage: Usage) -> None:
        """Keep what a task brought."""
        work = self._packer.work
        for key, data in done.files:
            assert work is not None
            work.write(key, data)
            usage.bytes_back += len(data)
        for logger, message in done.warned:
            logging.getLogger(logger).warning("%s", message)
        if done.input_error is not None:
            raise InputError(done.input_error)
        usage.tasks += 1
        usage.cpu_seconds += done.cpu_seconds
        spent = usage.by_process.get(done.process, 0.0)
        usage.by_process[done.process] = spent + done.cpu_seconds
        usage.peak_mb = max(usage.peak_mb, done.peak_mb)

    def _submit(self, needs: Needs, *given: Any) -> Any:
        if needs.gpu:
            return self._gpu().make.remote(*given)
        options = {"num_cpus": 1, "memory": self._memory(needs), "max_retries": TRIES - 1}
        return self._make.options(**options).remote(*given)

    def _gpu(self) -> Any:
        """Return the actor of a GPU whose turn it is; all are started when one is asked for."""
        if not self._gpus:
            count = int(ray.cluster_resources().get("GPU", 0))
            if not count:
                raise InputError("--device is a GPU, and the cluster has none: start its nodes "
                                 "with --num-gpus, or choose --device cpu")  # fmt: skip
            actor = ray.remote(num_gpus=1, max_restarts=-1, max_task_retries=TRIES - 1)(GpuWorker)
            self._gpus = [actor.remote() for _ in range(count)]
        self._gpus.append(self._gpus.pop(0))
        return self._gpus[-1]

    def _memory(self, needs: Needs) -> int:
        """Return what a task asks for; no more than a node has, or it would wait for ever."""
        most = max(int(node["Resources"].get("memory", 0)) for node in _nodes())
        return min(needs.memory_mb * _MIB, most)

    def _settled_home(self) -> Any:
        """Return the reference to what all tasks know, of the run that the packer met last."""
        work, photos = self._packer.work, self._packer.photos
        assert work is not None, "the first pieces of a run are kept in a work folder"
        if self._home is None or self._home.folder != work.folder.absolute():
            self.close()
            name = secrets.token_hex(8)
            token = work.mark_as(name)
            self._home = RunHome(name, pointmap.__version__, work.folder.absolute(), token)
            self._home_reference = ray.put(self._home)
            if not self._all_see([photo.path for photo in photos[:_PHOTOS_LOOKED_AT]]):
                source = self._on(_this_node(), ray.remote(num_cpus=0)(Source)).remote()
                self._home = replace(self._home, source=source)
                self._home_reference = ray.put(self._home)
        return self._home_reference

    def _all_see(self, photos: Sequence[Path]) -> bool:
        """Return whether all nodes see the driver's files."""
        others = [node for node in _nodes() if node["NodeID"] != _this_node()["NodeID"]]
        remote = ray.remote(sees)
        asked = [self._on(n, remote).remote(self._home_reference, photos) for n in others]
        try:
            return all(ray.get(asked, timeout=_LOOK_SECONDS))
        except ray.exceptions.RayError:
            # One of them has gone, or is slow; whatever it sees, this way it can work.
            return False

    @staticmethod
    def _on(node: Any, remote: Any) -> Any:
        """Return a task or an actor that runs on a node and takes none of its cores."""
        place = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        return remote.options(num_cpus=0, scheduling_strategy=place)


class _Tasks:
    """The tasks of a stage: those to come, those that are out, and what came back."""

    def __init__(self, items: Sequence[Any], needs: Needs, cores: int) -> None:
        self._count, self._most = len(items), _PER_CORE * cores
        sizes = _sizes(len(items), needs.per_task, cores)
        self._ahead = 2 * self._most * sizes[0]
        ends = list(accumulate(sizes))
        self._waiting = deque(
            list(range(end - size, end)) for end, size in zip(ends, sizes, strict=True)
        )
        self._out: dict[Any, list[int]] = {}
        self._tries: Counter[int] = Counter()
        self._ready: dict[int, Any] = {}
        self._next = 0
        self.failed: dict[int, str] = {}

    @property
    def finished(self) -> bool:
        return self._next >= self._count

    @property
    def may_submit(self) -> bool:
        """Whether a task is to go out: results that wait for an earlier one take memory, too."""
        if not self._waiting or len(self._out) >= self._most:
            return False
        return not self._out or self._waiting[0][0] < self._next + self._ahead

    def submit(self, send: Callable[[Sequence[int]], Any]) -> None:
        """Send the next task."""
        places = self._waiting.popleft()
        self._out[send(places)] = places

    def ended(self) -> Iterator[tuple[list[int], Done | None]]:
        """Wait for a task; yield its places, and what it brought if it did not fail as a whole."""
        references, _ = ray.wait(list(self._out), num_returns=1)
        for reference in references:
            places = self._out.pop(reference)
            try:
                done: Done = ray.get(reference)
            except ray.exceptions.RayError as error:
                self._failed_whole(places, error)
                yield places, None
                continue
            self._ready.update(zip(places, done.results, strict=False))
            if done.failure is not None:
                self._again(places[len(done.results) :], done.failure)
            yield places, done

    def results(self) -> Iterator[Any]:
        """Yield the results whose turn it is; none after the first piece that failed."""
        while self._next in self._ready or self._next in self.failed:
            result = self._ready.pop(self._next, None)
            self._next += 1
            # A later piece may have failed before an earlier one was made.
            if self._next <= min(self.failed, default=self._count):
                yield result

    def cancel(self) -> None:
        """End what is out: nobody waits for it any more."""
        for reference in self._out:
            # Actors' tasks cannot be cancelled when they run.
            with suppress(ValueError, TypeError, ray.exceptions.RayError):
                ray.cancel(reference)

    def _again(self, places: list[int], reason: str) -> None:
        """Try pieces again, of which the first failed; that one alone."""
        first, *others = places
        self._tries[first] += 1
        if others:
            self._waiting.appendleft(others)
        if self._tries[first] < TRIES:
            self._waiting.appendleft([first])
        else:
            self.failed[first] = reason

    def _failed_whole(self, places: list[int], error: Exception) -> None:
        """Try pieces alone whose task took its process with it each time, or give a single up."""
        if len(places) > 1:
            self._waiting.extendleft([place] for place in reversed(places))
        else:
            # Of an error in the process the last line says what it was, of its end the first.
            line = -1 if isinstance(error, ray.exceptions.RayTaskError) else 0
            self.failed[places[0]] = str(error).strip().splitlines()[line]


def _sizes(count: int, most: int, cores: int) -> list[int]:
    """Return how many pieces go together in each task, in their order.

    Pieces in a row need much of the same, so that tasks are as large as they may be; towards the
    end they get smaller, so that no core waits long for the last one (guided self-scheduling,
    Polychronopoulos and Kuck 1987).
    """
    sizes = []
    while count:
        sizes.append(min(most, math.ceil(count / cores)))
        count -= sizes[-1]
    return sizes


def _nodes() -> list[Any]:
    return [node for node in ray.nodes() if node["Alive"]]


def _this_node() -> Any:
    own = ray.get_runtime_context().get_node_id()
    return next(node for node in _nodes() if node["NodeID"] == own)
