"""A disk that is full at one write after the other: python -m benchmarks.full_disk FOLDER.

FOLDER lies on a small disk of its own, such as

    mount -t tmpfs -o size=64m none FOLDER

A scene of two photos, and single photos (``--mode depth``), are written there over older ones, with
ever more room left. Each time either the new scene is whole, or there is one line of error and the
old scene as it was; and with room again the same command goes on and ends well.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import os
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

from benchmarks.many_calls import tiny_network, tiny_photos

_MODES = ("scene", "depth")
_BALLAST = "ballast"


def full_at_every_write(disk: Path, photos: list[Path], weights: Path, steps: int) -> Counter[str]:
    """Run each mode ``steps`` times with more room each time, and count what came of it.

    Raises ``AssertionError`` when a scene is not whole, or something is left on the disk.
    """
    found = Counter[str]()
    for mode in _MODES:
        out = disk / "scene"
        command = [*map(str, photos), "--out", str(out), "--mode", mode, "--depth-size", "64"]
        command += ["--weights", str(weights), "--no-refine-depth"]
        before = shutil.disk_usage(disk).used
        assert _ended(command) == (0, ""), mode
        # The new scene, and what is kept on the way.
        most = 5 * (shutil.disk_usage(disk).used - before)
        for step in range(steps):
            old = _digests(out)
            _leave(disk, most * step // steps)
            code, said = _ended([*command, "--overwrite", "--keep-work"])
            (disk / _BALLAST).unlink()
            assert (code, len(said.splitlines())) in ((0, 0), (2, 1)), (mode, step, code, said)
            if code:
                assert _digests(out) == old, (mode, step)
            assert set(os.listdir(disk)) <= {"scene", "scene.work"}, (mode, step)
            found[f"{mode}: {'one line, the old scene' if code else 'the new scene'}"] += 1
            assert _ended([*command, "--overwrite"]) == (0, ""), (mode, step)
            assert os.listdir(disk) == ["scene"], (mode, step)
        shutil.rmtree(out)
    return found


def _ended(command: list[str]) -> tuple[int, str]:
    """Return the exit code of a command for one scene, and its lines of error."""
    # Not room enough to begin with is another thing, which is said at once.
    import recon.export.staging as staging
    from recon.cli import main

    staging.MIN_FREE_BYTES = 0
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
        code = main(command)
    return code, "\n".join(x for x in errors.getvalue().splitlines() if x.startswith("error:"))


def _leave(disk: Path, free: int) -> None:
    """Fill the disk up to ``free`` bytes."""
    size = max(shutil.disk_usage(disk).free - free, 0)
    with (disk / _BALLAST).open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(size, 1))


def _digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.full_disk")
    parser.add_argument("folder", type=Path, help="an empty folder on a small disk of its own")
    parser.add_argument("--steps", type=int, default=40, help="sizes of the room that is left")
    given = parser.parse_args()
    if os.listdir(given.folder) or not os.path.ismount(given.folder):
        parser.error(f"{given.folder} is not an empty disk of its own")
    with tempfile.TemporaryDirectory() as folder:
        photos, weights = tiny_photos(Path(folder)), tiny_network(Path(folder))
        found = full_at_every_write(given.folder, photos, weights, given.steps)
    for what, times in sorted(found.items()):
        print(f"{times:>4} {what}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
