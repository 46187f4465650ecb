"""The scenes of a batch, a few at once, each in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import recon
from pointmap.errors import one_line
from recon.batch.outcome import Outcome, inputs_key, read_outcome, write_outcome
from recon.batch.scene_list import SceneEntry
from recon.export.staging import is_reserved

# How long a scene that is told to end may take to do so, and how often it is looked at.
_GRACE_SECONDS, _LOOK_SECONDS = 20.0, 0.1
_KIND = b"error:"
# How long a scene waits at most for the process of a killed batch, which ends with that batch, but
# not in the middle of a long call into C.
_WAIT_SECONDS = 30.0


@dataclass(frozen=True)
class BatchFolder:
    """Where the files of a batch lie: per scene its folder, its outcome and what it said."""

    root: Path

    def scene(self, name: str) -> Path:
        """Return the folder of a scene."""
        return self.root / "scenes" / name

    def outcome(self, name: str) -> Path:
        """Return the file of a scene's outcome."""
        return self.root / "outcomes" / f"{name}.json"

    def log(self, name: str) -> Path:
        """Return the file of what the scene's process said."""
        return self.root / "logs" / f"{name}.log"

    @property
    def page(self) -> Path:
        """The page of results."""
        return self.root / "index.html"

    def make(self) -> None:
        """Make the folders; raises ``OSError``."""
        for name in ("scenes", "outcomes", "logs"):
            (self.root / name).mkdir(parents=True, exist_ok=True)


@dataclass
class Running:
    """A scene in the making."""

    entry: SceneEntry
    key: str
    process: subprocess.Popen[bytes]
    started: float = field(default_factory=time.monotonic)


class Scenes:
    """The scenes of a batch, reconstructed ``at_once`` at a time; those that are done stay.

    ``options``: of the command for one scene, for all of them. To be entered (``with``): at the end
    nothing runs any more.
    """

    def __init__(
        self,
        entries: Sequence[SceneEntry],
        folder: BatchFolder,
        options: Sequence[str],
        at_once: int,
    ) -> None:
        self.done: dict[str, Outcome] = {}
        self.running: dict[str, Running] = {}
        self._folder, self._options, self._at_once = folder, tuple(options), at_once
        self._waiting = []
        for entry in entries:
            key = inputs_key(entry, self._options)
            before = read_outcome(folder.outcome(entry.name))
            made = (folder.scene(entry.name) / "run.json").is_file()
            if before and before.made_of == key and before.reason is None and made:
                self.done[entry.name] = before
            else:
                self._waiting.append((entry, key))

    def __enter__(self) -> Scenes:
        return self

    def __exit__(self, *error: object) -> None:
        for running in self.running.values():
            running.process.terminate()
        for running in self.running.values():
            try:
                running.process.wait(_GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                running.process.kill()
                running.process.wait()

    def outcomes(self) -> Iterator[Outcome | None]:
        """Yield outcomes as scenes end, and None every now and then while none does.

        Scenes on which another run works come later, if they are free soon; else they fail. Raises
        ``OSError`` when an outcome cannot be written.
        """
        waiting = deque(self._waiting)
        wait_until = time.monotonic() + _WAIT_SECONDS
        while waiting or self.running:
            # Each that waits is looked at once.
            for _ in range(len(waiting)):
                if len(self.running) >= self._at_once:
                    break
                entry, key = waiting.popleft()
                if time.monotonic() < wait_until and is_reserved(self._folder.scene(entry.name)):
                    waiting.append((entry, key))
                else:
                    self._start(entry, key)
            ended = [r for r in self.running.values() if r.process.poll() is not None]
            if not ended:
                yield None
                time.sleep(_LOOK_SECONDS)
            for running in ended:
                del self.running[running.entry.name]
                outcome = self._outcome(running)
                self.done[running.entry.name] = outcome
                yield outcome

    def _start(self, entry: SceneEntry, key: str) -> None:
        outcome, scene = self._folder.outcome(entry.name), self._folder.scene(entry.name)
        outcome.unlink(missing_ok=True)
        # The modules of this very program, whatever folder it is started from.
        before = os.environ.get("PYTHONPATH")
        modules = [str(Path(recon.__file__).parents[1]), *([before] if before else [])]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(modules)}
        if self._at_once > 1:
            threads = max(1, (os.cpu_count() or 1) // self._at_once)
            environment.setdefault("OMP_NUM_THREADS", str(threads))
        photos = entry.photos
        if photos.startswith("-"):  # no option
            photos = os.path.join(os.curdir, photos)
        with self._folder.log(entry.name).open("wb") as log:
            process = subprocess.Popen(
                [
                    sys.executable, "-m", "recon.batch.one_scene",
                    str(outcome), entry.name, key, str(scene),
                    photos, "--out", str(scene), "--overwrite", *self._options,
                ],
                stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT, env=environment,
            )  # fmt: skip
        self.running[entry.name] = Running(entry, key, process)

    def _outcome(self, running: Running) -> Outcome:
        """Return what became of a scene whose process has ended; failures are written here."""
        name, process = running.entry.name, running.process
        if process.stdin is not None:
            process.stdin.close()
        path = self._folder.outcome(name)
        found = read_outcome(path) if process.returncode == 0 else None
        if found is not None:
            return found
        seconds = time.monotonic() - running.started
        reason = _reason(process.returncode, self._folder.log(name))
        found = Outcome(name, running.key, reason, seconds=seconds)
        write_outcome(path, found)
        return found


def _reason(code: int, log: Path) -> str:
    """Return why a process that ended with ``code`` left no scene, from what it said."""
    if code < 0:
        name = f"signal {-code}"
        with suppress(ValueError):
            name = signal.Signals(-code).name
        hint = " (out of memory?)" if name == "SIGKILL" else ""
        return f"the process was ended by {name}{hint}: the log is {log}"
    lines = [line for line in log.read_bytes().splitlines() if line.strip()]
    said = next((line for line in reversed(lines) if line.startswith(_KIND)), None)
    if said is not None:
        return one_line(said.removeprefix(_KIND).decode("utf-8", "replace").strip())
    last = lines[-1].decode("utf-8", "replace") if lines else f"exit code {code}"
    return one_line(f"{last}: the log is {log}")
