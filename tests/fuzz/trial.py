"""One damaged file to one reader: what came of it."""

from __future__ import annotations

import logging
import random
import signal
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pointmap.errors import InputError
from tests.fuzz.mutations import mutated
from tests.fuzz.readers import Reader

# Of computing, and of waiting on a machine that has other things to do.
MAX_CPU_SECONDS, MAX_SECONDS = 5.0, 30.0
# Beyond what the process holds already: libraries and what earlier tests left take a gigabyte.
MAX_BYTES = 1.2e9


class TooLong(BaseException):
    """Raised by the alarm; no reader catches it by mistake."""


class Trials:
    """Damages the files of one reader, one at a time, in ``folder``; faults are kept in ``faults``.

    The same ``seed`` gives the same trials.
    """

    def __init__(self, reader: Reader, folder: Path, faults: Path, *, seed: int) -> None:
        self.outcomes: Counter[str] = Counter()
        self.messages: dict[str, str] = {}
        self.slowest = 0.0
        self._reader, self._folder, self._faults = reader, folder, faults
        self._rng = random.Random(f"{seed} {reader.name}")
        folder.mkdir(parents=True, exist_ok=True)
        self._files = [(name, (folder / name).read_bytes()) for name in reader.make(folder)]
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)

    def once(self) -> str:
        """Damage a file, read it, put it right again; return and count what came of it."""
        name, whole = self._rng.choice(self._files)
        damaged = mutated(whole, self._rng)
        path = self._folder / name
        path.write_bytes(damaged)
        forget_peak()
        start, held = time.process_time(), peak_bytes()
        outcome = self._outcome(path)
        self.slowest = max(self.slowest, time.process_time() - start)
        if peak_bytes() - held > MAX_BYTES:
            outcome = "memory"
        if outcome not in ("accepted", "refused"):
            self._faults.mkdir(parents=True, exist_ok=True)
            kept = f"{self._reader.name}-{outcome}-{sum(self.outcomes.values())}-{path.name}"
            (self._faults / kept.replace(" ", "_")).write_bytes(damaged)
        path.write_bytes(whole)
        self.outcomes[outcome] += 1
        return outcome

    def _outcome(self, path: Path) -> str:
        try:
            with alarm():
                found = self._reader.read(self._folder, path.relative_to(self._folder).as_posix())
        except (InputError, self._reader.allowed) as error:
            if "\n" in str(error) and isinstance(error, InputError):
                self.messages.setdefault("two lines", str(error))
                return "two lines"
            return "refused"
        except TooLong:
            self.messages.setdefault("hang", traceback.format_exc())
            return "hang"
        except Exception:
            self.messages.setdefault("exception", traceback.format_exc())
            return "exception"
        return "refused" if isinstance(found, list) and not found else "accepted"


@contextmanager
def alarm() -> Iterator[None]:
    """Raise ``TooLong`` in what takes longer than it may."""

    def ring(number: int, frame: object) -> None:
        raise TooLong

    timers = {
        signal.ITIMER_REAL: (signal.SIGALRM, MAX_SECONDS),
        signal.ITIMER_PROF: (signal.SIGPROF, MAX_CPU_SECONDS),
    }
    before = {number: signal.signal(number, ring) for number, _ in timers.values()}
    for timer, (_, seconds) in timers.items():
        signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        for timer, (number, _) in timers.items():
            signal.setitimer(timer, 0)
            signal.signal(number, before[number])


def forget_peak() -> None:
    """Have the peak of the process's memory count from now on, where the system can (Linux)."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_bytes() -> float:
    """Return the most memory that the process has had since ``forget_peak`` (Linux; else 0)."""
    try:
        with open("/proc/self/status", encoding="ascii") as status:
            peak = next(line for line in status if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return 0.0
    return 1024.0 * int(peak.split()[1])
