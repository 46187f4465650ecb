"""Many scenes, killed on the way: python -m benchmarks.batch PHOTOS --out DIR [--json FILE].

Twelve folders: ten with a pair of the photos each, shrunk, one with a file that is no photo, one
with none. ``pointmap batch`` is killed (SIGKILL) when a third of them are done and when two thirds
are, and run again. Told are the scenes, the reasons, the exit code, and whether what was done
before a kill was done again.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.figures import write_figures
from benchmarks.scenes import ROOT
from pointmap.images import Photo, load_photo, open_photos
from pointmap.photo_files import find_photos
from recon.batch.outcome import read_outcome

SCENES, SIDE = 10, 256
KILL_AT = (4, 8)
# Coarse: what is measured here is the batch.
_OPTIONS = ("--depth-size", "96", "--stereo.max-planes", "48")


def make_survey(photos: Sequence[Photo], folder: Path) -> None:
    """Write the twelve folders."""
    for k in range(SCENES):
        (folder / f"scene-{k}").mkdir(parents=True)
        for n in (0, 1):
            pixels = load_photo(photos[(k + n) % len(photos)], long_side=SIDE).pixels
            Image.fromarray(pixels).save(folder / f"scene-{k}" / f"{n}.jpg", quality=95)
    (folder / "empty").mkdir()
    (folder / "broken").mkdir()
    (folder / "broken" / "a.jpg").write_bytes(b"\xff\xd8\xff no photo")


def run(survey: Path, out: Path, kill_at: int | None = None) -> int:
    """Run the batch, or kill it when so many outcomes are there; return its exit code."""
    command = [sys.executable, "-m", "recon.batch", str(survey), "--out", str(out), "--", *_OPTIONS]
    with (out.parent / "batch.log").open("a") as log:
        batch = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
        while kill_at is not None and batch.poll() is None:
            if len(list(out.glob("outcomes/*.json"))) >= kill_at:
                batch.kill()
            time.sleep(0.1)
        return batch.wait()


def measure(photos: Sequence[Photo], out: Path) -> dict[str, Any]:
    """Return what came of the batch."""
    shutil.rmtree(out, ignore_errors=True)
    make_survey(photos, out / "survey")
    kept, codes = dict[Path, int](), []
    again = 0
    for kill_at in (*KILL_AT, None):
        codes.append(run(out / "survey", out / "scenes", kill_at))
        outcomes = sorted((out / "scenes/outcomes").glob("*.json"))
        changed = {path: path.stat().st_mtime_ns for path in outcomes}
        again += sum(changed.get(path) != then for path, then in kept.items())
        # Scenes without a result are tried again, as they should be.
        kept = {p: then for p, then in changed.items() if _reason(p) is None}
    reasons = {path.stem: _reason(path) for path in changed}
    return {
        "scenes": sum(reason is None for reason in reasons.values()),
        "reasons": {name: reason for name, reason in reasons.items() if reason is not None},
        "exit codes": codes,
        "done again after a kill": again,
    }


def _reason(path: Path) -> str | None:
    found = read_outcome(path)
    return "half-written" if found is None else found.reason


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.batch", description=__doc__)
    parser.add_argument("photos", nargs="+", help="photo files, folders, patterns")
    parser.add_argument("--out", type=Path, required=True, help="folder that is written anew")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(arguments)
    found = measure(open_photos(find_photos(given.photos))[0], given.out)
    for name, value in found.items():
        print(f"{name}: {value}")
    write_figures(given.json, **found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
