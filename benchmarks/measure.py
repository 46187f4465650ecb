"""Runs a command and measures its time and its own peak memory.

The system counts into a process's peak what its parent held when it was started. The command is
therefore started by this file run as a small process of its own, not by the caller.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Measured:
    """``exit_code`` (negative: the signal that ended it), wall ``seconds``, ``peak_gb`` (1e9 bytes
    resident, of the largest process when the command starts others), ``cpu_seconds`` of all
    threads, and of the processes it started and waited for.
    """

    exit_code: int
    seconds: float
    peak_gb: float
    cpu_seconds: float


def run_measured(command: Sequence[str | Path], log: Path, *, timeout_s: float) -> Measured:
    """Run ``command`` with its output in ``log``; it is killed after ``timeout_s`` seconds."""
    helper = [sys.executable, __file__, str(log), str(timeout_s), *map(str, command)]
    done = subprocess.run(helper, check=True, stdout=subprocess.PIPE, text=True)
    return Measured(**json.loads(done.stdout))


def _measure(command: Sequence[str], log: Path, timeout_s: float) -> Measured:
    start = time.perf_counter()
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        timer = threading.Timer(timeout_s, process.kill)
        timer.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            raise
        finally:
            timer.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    unit = 1 if sys.platform == "darwin" else 1024
    seconds, peak_gb = time.perf_counter() - start, usage.ru_maxrss * unit / 1e9
    return Measured(process.returncode, seconds, peak_gb, usage.ru_utime + usage.ru_stime)


if __name__ == "__main__":
    measured = _measure(sys.argv[3:], Path(sys.argv[1]), float(sys.argv[2]))
    print(json.dumps(asdict(measured)))
