"""A run that is killed again and again: python -m benchmarks.resume PHOTOS --out DIR [--kills N].

The command runs once undisturbed. Then it is started anew and killed (SIGKILL) at random moments,
--kills times, each time going on with the work of those before, and at last left to end. Both
scenes must be equal file by file. What a kill costs is what all the runs took in CPU seconds more
than the undisturbed one, by the number of kills: the start of the program, and what was in the
making. The moments are drawn from a fifth to twice the undisturbed run's seconds by the number of
kills, counted from when the program comes to work, so that kills are spread over the whole run.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.figures import write_figures
from benchmarks.handed_on import parse
from recon.evaluation.tables import markdown

ROOT = Path(__file__).resolve().parents[1]
# Files that hold times or what a picture of them shows.
_TIMED = {"run.json", "report.html"}


@dataclass(frozen=True)
class Outcome:
    """``kills`` that met the command at work; CPU seconds of the run ``undisturbed``, and of
    ``all_runs`` up to the scene; ``different`` files, by name.
    """

    kills: int
    undisturbed: float
    all_runs: float
    different: list[str]

    @property
    def lost_percent(self) -> float:
        """What one kill costs, as a share of the undisturbed run."""
        return 100 * (self.all_runs - self.undisturbed) / self.undisturbed / max(self.kills, 1)


def measure(photos: str, out: Path, kills: int, *, seed: int, more: Sequence[str]) -> Outcome:
    """Run, kill, compare; see the module."""
    calm, killed = out / "undisturbed", out / "killed"
    for folder in (calm, killed, Path(f"{killed}.work")):
        shutil.rmtree(folder, ignore_errors=True)
    start, log = time.perf_counter(), out / "undisturbed.log"
    undisturbed, code = _run(photos, calm, None, more, log)
    if code != 0:
        raise SystemExit(f"the undisturbed run ended with {code}: see {log}")
    seconds = time.perf_counter() - start
    # What the stages did not take is the start of the program.
    stages = re.findall(r"^\w.* ([0-9.]+) s$", log.read_text(encoding="utf-8"), re.MULTILINE)
    start_s = seconds - sum(map(float, stages))
    print(f"undisturbed {seconds:.1f} s, {start_s:.1f} of them the start", file=sys.stderr)
    rng = np.random.default_rng(seed)
    total, met = 0.0, 0
    for number in range(kills):
        share = seconds / kills
        after_s = rng.uniform(0.2, 2.0) * share + start_s
        used, code = _run(photos, killed, after_s, more, out / "killed.log")
        total += used
        if code == 0:
            break
        met += code == -signal.SIGKILL
        print(f"kill {number + 1}: {used:.0f} CPU s", file=sys.stderr)
    else:
        used, code = _run(photos, killed, None, more, out / "killed.log")
        total += used
    if code != 0:
        raise SystemExit(f"the last run ended with {code}")
    return Outcome(met, undisturbed, total, _different(calm, killed))


def _run(
    photos: str, out: Path, kill_after_s: float | None, more: Sequence[str], log: Path
) -> tuple[float, int]:
    """Return the CPU seconds and the exit code of a run, killed after so many seconds if given;
    what it says goes to ``log``.
    """
    command = [sys.executable, str(ROOT / "run_recon.py"), photos, "--out", str(out), *more]
    with log.open("wb") as said:
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=said)
    if kill_after_s is not None:
        time.sleep(kill_after_s)
        # Not its kill(), which takes the exit code of one that has ended, and with it its usage.
        os.kill(process.pid, signal.SIGKILL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_utime + usage.ru_stime, process.returncode


def _different(first: Path, second: Path) -> list[str]:
    """Return the names of files that only one folder has, or that differ."""
    contents = [
        {
            path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in folder.rglob("*")
            if path.is_file() and path.name not in _TIMED
        }
        for folder in (first, second)
    ]
    names = set(contents[0]) | set(contents[1])
    return sorted(name for name in names if contents[0].get(name) != contents[1].get(name))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 1 where the scenes differ."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.resume", description=__doc__)
    parser.add_argument("photos", help="a folder of photos")
    parser.add_argument("--out", type=Path, required=True, help="folder for the two scenes")
    parser.add_argument("--kills", type=int, default=30, help="how often (30)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    given, handed_on = parse(parser, sys.argv[1:] if arguments is None else arguments)
    given.out.mkdir(parents=True, exist_ok=True)
    found = measure(given.photos, given.out, given.kills, seed=given.seed, more=handed_on)
    row = [
        f"{found.kills}",
        f"{found.undisturbed:.0f}",
        f"{found.all_runs:.0f}",
        f"{found.lost_percent:.1f}",
        ", ".join(found.different) or "none",
    ]
    columns = ("kills", "CPU s undisturbed", "CPU s in all", "% lost a kill", "files that differ")
    print(markdown(columns, [row]))
    write_figures(given.json, found=found)
    return 1 if found.different else 0


if __name__ == "__main__":
    raise SystemExit(main())
