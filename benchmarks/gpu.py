"""All that a GPU is borrowed for, in one command: python -m benchmarks.gpu --out OUT.

Stages, those of most value first: correctness, inference, scenes, training. Each runs in a process
of its own until its time is over; what it has found by then counts. After every figure OUT holds
results.json and results.txt, whole at any time, so that the command may be cut anywhere. The same
command goes on with the stages that are not done; --stages names some, --again does them anew.

A rehearsal without a GPU, in seconds: --device cpu --tiny.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
STAGES = {"correctness": 90.0, "inference": 60.0, "scenes": 60.0, "training": 480.0}
"""Seconds that each may take; training more, for as long as one part of it is to last."""
_FINISHING_S = 60.0
"""For what training does before and after its part: held-out scenes, their scores, the weights."""
CHILD = [sys.executable, "-m", "benchmarks.gpu"]
"""Starts this program again."""
COLUMNS = ("stage", "what", "value", "unit", "goal")
Results = dict[str, dict[str, Any]]


def run_stages(given: argparse.Namespace, arguments: Sequence[str]) -> Results:
    """Run the stages asked for that are not done yet, and return what all have found."""
    given.out.mkdir(parents=True, exist_ok=True)
    given.work.mkdir(parents=True, exist_ok=True)
    kept = given.out / "results.json"
    results: Results = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    for stage in given.stages:
        if results.get(stage, {}).get("state") == "done" and not given.again:
            continue
        limit = _limit(stage, given)
        rows = given.work / f"{stage}.jsonl"
        rows.unlink(missing_ok=True)
        command = [*CHILD, *arguments, "--child", stage]
        start = time.monotonic()
        with (given.out / "log.txt").open("a", encoding="utf-8") as log:
            # A group of its own, so that what a stage starts ends with it.
            process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
            while process.poll() is None and time.monotonic() - start < limit:
                time.sleep(0.2)
                _update(results, stage, rows, "running", start, given.out)
            state = "done" if process.poll() == 0 else f"failed, exit code {process.poll()}"
            if process.poll() is None:
                state = f"stopped after its {limit:.0f} s"
            _end(process)
        _update(results, stage, rows, state, start, given.out)
        print(table(results), flush=True)
    return results


def _limit(stage: str, given: argparse.Namespace) -> float:
    if given.limit is not None:
        return float(given.limit)
    return given.seconds + _FINISHING_S if stage == "training" else STAGES[stage]


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill all that is left of a stage."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def _update(results: Results, stage: str, rows: Path, state: str, start: float, out: Path) -> None:
    """Take what a stage has found so far, and write everything where something is new."""
    # A stage that is being killed may leave half a line.
    lines = rows.read_text(encoding="utf-8").splitlines(keepends=True) if rows.is_file() else []
    found = [json.loads(line) for line in lines if line.endswith("\n")]
    before = results.get(stage, {})
    if (before.get("rows"), before.get("state")) == (found, state):
        return
    results[stage] = {"state": state, "seconds": time.monotonic() - start, "rows": found}
    _write(out / "results.json", json.dumps(results, indent=1) + "\n")
    _write(out / "results.txt", table(results) + "\n")


def _write(path: Path, text: str) -> None:
    """Put a file in place in one step."""
    partial = path.with_name(path.name + ".part")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a Markdown table of all figures, and how each stage ended."""
    lines = [COLUMNS, ("---",) * len(COLUMNS)]
    for stage, found in results.items():
        lines.append((stage, str(found["state"]), f"{found['seconds']:.1f}", "s", ""))
        for row in found["rows"]:
            value = row["value"] if isinstance(row["value"], str) else f"{row['value']:.4g}"
            lines.append((stage, row["what"], value, row["unit"], row["goal"]))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def run_child(stage: str, given: argparse.Namespace) -> None:
    """Run a stage in this process, its rows to a file as they come."""
    from dataclasses import asdict

    from benchmarks.gpu_stages.row import StageOptions

    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    module = importlib.import_module(f"benchmarks.gpu_stages.{stage}")
    with (given.work / f"{stage}.jsonl").open("a", encoding="utf-8") as file:
        for row in module.rows(StageOptions.of(given)):
            file.write(json.dumps(asdict(row)) + "\n")
            file.flush()


def _end_with_parent(parent: int) -> None:
    """Kill this process and all that it started once ``parent`` is gone."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.killpg(0, signal.SIGKILL)


def main(arguments: Sequence[str]) -> int:
    """Run the stages; exit code 1 when one failed or was stopped."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--out", type=Path, required=True, help="folder of what is to return")
    add("--work", type=Path, default=ROOT / ".cache" / "gpu", help="folder kept between calls")
    add("--stages", nargs="+", choices=STAGES, default=list(STAGES), help="some of them only")
    add("--again", action="store_true", help="stages that are done, too")
    add("--device", default="cuda", help="cuda, or cpu for a rehearsal")
    add("--tiny", action="store_true", help="sizes for a rehearsal")
    add("--limit", type=float, help="seconds of each stage in place of its own")
    add("--parity", type=Path, help="folder of the reference's stored outputs")
    add("--frames", type=Path, help="folder of photos to reconstruct from end to end")
    add("--textures", type=Path, help="photographs for the training scenes: a folder or .npz")
    add("--seconds", type=float, default=STAGES["training"], help="training in this call (480)")
    add("--budget", type=float, default=STAGES["training"], help="training in all calls (480)")
    add("--child", choices=STAGES, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    for name in ("out", "work", "parity", "frames", "textures"):
        if getattr(given, name) is not None:
            setattr(given, name, getattr(given, name).resolve())
    if given.child is not None:
        run_child(given.child, given)
        return 0
    results = run_stages(given, arguments)
    return int(any(results[stage]["state"] != "done" for stage in given.stages))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
