"""Is a scene the same bytes, whatever it is made with? ``python -m benchmarks.same_bytes PHOTOS``.

The command is run with one thread, with two and four, on another day, in another locale and time
zone with other hashes, and with the photos in another order; a table says which files of the scene
differ from the first run's. Photos may be listed in their order, and ``run.json`` and
``report.html`` say how long a run took: those are compared without.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.handed_on import parse

COMMAND = Path(__file__).parents[1] / "run_recon.py"
# Of run.json: what is of the scene and not of the run.
_OF_THE_SCENE = ("options", "counts", "surface", "warnings")
# What lists the photos or their cameras one after the other.
_IN_ORDER = ("cameras.tum", "scene.glb", "transforms.json", "colmap/")


def environment(threads: int, **more: str) -> dict[str, str]:
    """Return an environment in which all libraries have so many threads."""
    kinds = ("OMP", "OPENBLAS", "MKL", "NUMBA")
    counts = {f"{kind}_NUM_THREADS": str(threads) for kind in kinds}
    return {**os.environ, **counts, "OMP_WAIT_POLICY": "PASSIVE", **more}


ELSEWHERE = {"PYTHONHASHSEED": "7", "TZ": "Asia/Kathmandu", "LC_ALL": "C", "LANG": "tr_TR.UTF-8"}


def another_day(folder: Path) -> dict[str, str]:
    """Return variables that put Python's clocks forward by some weeks, with a module in folder."""
    (folder / "sitecustomize.py").write_text(_ANOTHER_DAY, encoding="utf-8")
    return {"PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])}


_ANOTHER_DAY = """
import datetime, time

shift = 40 * 86400 + 34567.89
clock, clock_ns, local, utc = time.time, time.time_ns, time.localtime, time.gmtime
time.time = lambda: clock() + shift
time.time_ns = lambda: clock_ns() + int(shift * 1e9)
time.localtime = lambda seconds=None: local(time.time() if seconds is None else seconds)
time.gmtime = lambda seconds=None: utc(time.time() if seconds is None else seconds)


class Later(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(time.time(), tz)

    @classmethod
    def today(cls):
        return cls.now()


datetime.datetime = Later
"""


def make_scene(
    photos: Sequence[Path], out: Path, options: Sequence[str], env: Mapping[str, str]
) -> Path:
    """Run the command on ``photos`` in an environment; return the scene's folder."""
    command = [sys.executable, str(COMMAND), *map(str, photos), "--out", str(out), *options]
    # Another process of this one's threads would share its settings; this is a new one.
    subprocess.run(command, env=dict(env), check=True, stdout=subprocess.DEVNULL)
    return out


def differing(first: Path, second: Path, *, in_order: bool = True) -> list[str]:
    """Return the names of files that differ; ``in_order``: whether the photos were given alike."""
    names = {
        path.relative_to(folder).as_posix()
        for folder in (first, second)
        for path in folder.rglob("*")
        if path.is_file() and path.name != "report.html"
    }
    if not in_order:
        names = {name for name in names if not name.startswith(_IN_ORDER)}
    return sorted(name for name in names if _content(first / name) != _content(second / name))


def _content(path: Path) -> Any:
    if not path.is_file():
        return None
    if path.name in ("run.json", "cameras.json"):
        # Objects are equal whatever the order of their entries.
        told = json.loads(path.read_text(encoding="utf-8"))
        if path.name == "cameras.json":
            return told
        return {key: told.get(key) for key in _OF_THE_SCENE}
    return path.read_bytes()


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.same_bytes")
    parser.add_argument("photos", type=Path, nargs="+", help="files")
    given, options = parse(parser, sys.argv[1:])
    photos = given.photos
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        runs = {
            "2 threads": (photos, environment(2)),
            "4 threads": (photos, environment(4)),
            "another day": (photos, environment(1, **another_day(place))),
            "other hashes, zone, locale": (photos, environment(1, **ELSEWHERE)),
            "photos from the last to the first": (photos[::-1], environment(1)),
        }
        first = make_scene(photos, place / "first", options, environment(1))
        print(f"{'against 1 thread':<36} files that differ", flush=True)
        for number, (name, (given, env)) in enumerate(runs.items()):
            scene = make_scene(given, place / str(number), options, env)
            names = differing(first, scene, in_order=given is photos)
            bad += len(names)
            print(f"{name:<36} {', '.join(names) or 'none'}", flush=True)
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
