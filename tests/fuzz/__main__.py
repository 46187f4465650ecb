"""``python -m tests.fuzz``: damaged files to every reader, and a table of what came of it.

Each reader has a process of its own, so that one which crashes or never returns is found, too.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

OUTCOMES = ("accepted", "refused", "exception", "two lines", "hang", "memory", "crash")
# Longer than a reader may take: it did not even hear the alarm.
_DEAF_SECONDS = 60.0


def main() -> int:
    """Run the command; the exit code is 1 when a reader had a fault."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="for all readers together")
    parser.add_argument("--inputs", type=int, help="as many for each reader, in place of minutes")
    parser.add_argument("--reader", action="append", help="only this one; may be given again")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--faults", type=Path, default=Path("runs/fuzz"), help="keeps such inputs")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        return _work(*given.worker, given)
    from tests.fuzz.readers import READERS

    names = [r.name for r in READERS if not given.reader or r.name in given.reader]
    print(f"{'reader':<22}{'inputs':>9}" + "".join(f"{o:>11}" for o in OUTCOMES) + "   CPU s")
    total = dict.fromkeys(OUTCOMES, 0)
    for name in names:
        found, slowest = _one_reader(name, given, 60 * given.minutes / len(names))
        for outcome, count in found.items():
            total[outcome] += count
        print(_line(name, found) + f"{slowest:>12.2f}", flush=True)
    print(_line("all", total))
    return int(sum(total[outcome] for outcome in OUTCOMES[2:]) > 0)


def _line(name: str, found: dict[str, int]) -> str:
    counts = "".join(f"{found.get(outcome, 0):>11,}" for outcome in OUTCOMES)
    return f"{name:<22}{sum(found.values()):>9,}{counts}"


def _one_reader(
    name: str, given: argparse.Namespace, seconds: float
) -> tuple[dict[str, int], float]:
    """Run workers for one reader for so long: another one after each that died."""
    found, slowest, seed = dict.fromkeys(OUTCOMES, 0), 0.0, given.seed
    end = math.inf
    while time.monotonic() < end or given.inputs:
        left = (given.inputs or 10**9) - sum(found.values())
        folder = Path(tempfile.mkdtemp(prefix="pointmap-fuzz-"))
        arguments = [sys.executable, "-m", "tests.fuzz", "--worker", name, str(folder)]
        arguments += ["--seed", str(seed), "--inputs", str(left), "--faults", str(given.faults)]
        with (folder / "stderr").open("w+b") as errors:
            worker = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=errors)
            status = folder / "status.json"
            while worker.poll() is None:
                time.sleep(0.2)
                if end == math.inf and status.exists():
                    end = time.monotonic() + seconds
                late = status.exists() and time.time() - status.stat().st_mtime > _DEAF_SECONDS
                over = time.monotonic() > end and not given.inputs
                if late or over:
                    worker.kill()
                    worker.wait()
                    break
            status_seen = status.exists()
            told = json.loads(status.read_text()) if status_seen else {"outcomes": {}}
            for outcome, count in told["outcomes"].items():
                found[outcome] += count
            slowest = max(slowest, told.get("slowest", 0.0))
            for kind, message in told.get("messages", {}).items():
                print(f"{name}: {kind}: {message}", file=sys.stderr)
            if late:
                found["hang"] += 1
            elif worker.returncode != 0 and not over:
                found["crash"] += 1
                errors.seek(0)
                print(
                    f"{name}: ended by {worker.returncode}", errors.read()[-2000:], file=sys.stderr
                )
            if late or (worker.returncode != 0 and not over):
                kept = given.faults / f"{name.replace(' ', '_')}-dead-{seed}"
                shutil.copytree(folder, kept, dirs_exist_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        seed += 1_000_003
        if sum(found.values()) >= (given.inputs or 10**9) or not status_seen:
            break
    return found, slowest


def _work(name: str, folder: str, given: argparse.Namespace) -> int:
    """Read damaged files until told to stop, and write down how many and what came of them."""
    from tests.fuzz.readers import READERS
    from tests.fuzz.trial import Trials

    reader = next(r for r in READERS if r.name == name)
    trials = Trials(reader, Path(folder) / "files", given.faults, seed=given.seed)
    status = Path(folder) / "status.json"

    def tell() -> None:
        told = {"outcomes": trials.outcomes, "slowest": trials.slowest, "messages": trials.messages}
        status.with_suffix(".new").write_text(json.dumps(told))
        status.with_suffix(".new").replace(status)

    tell()
    last = time.monotonic()
    for _ in range(given.inputs):
        trials.once()
        if time.monotonic() - last > 0.5:
            tell()
            last = time.monotonic()
    tell()
    return 0


if __name__ == "__main__":
    sys.exit(main())
