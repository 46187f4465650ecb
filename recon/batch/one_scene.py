"""``python -m recon.batch.one_scene OUTCOME NAME KEY SCENE ARGUMENT...``: one scene of a batch.

A process of its own, so that its memory goes with it and its end is its own. It ends with the
process that started it, which holds the other end of its standard input.
"""

from __future__ import annotations

import base64
import os
import sys
import threading
import time
from pathlib import Path

from recon.batch.outcome import Outcome, write_outcome

# Long side of a thumbnail, in pixels.
_SIDE = 240


def main(arguments: list[str]) -> int:
    """Reconstruct the scene as the command for one would, and write its outcome if there is one."""
    outcome, name, key, scene, *given = arguments
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from recon.cli import main as reconstruct

    start = time.monotonic()
    code = reconstruct(given, prog=f"scene {name}")
    if code == 0:
        found = outcome_of(name, key, Path(scene), time.monotonic() - start)
        write_outcome(Path(outcome), found)
    return code


def _end_with_parent() -> None:
    # Not by sys.stdin, whose lock Python wants when it ends.
    while os.read(0, 1):
        pass
    # At once, before another run finds the folder in use: what it is writing appears whole or not.
    os._exit(1)


def outcome_of(name: str, key: str, folder: Path, seconds: float) -> Outcome:
    """Return what became of the scene that was written to ``folder``."""
    from recon.export.cameras_json import read_cameras
    from recon.export.depth_npz import read_depth_npz
    from recon.export.json_file import read_json
    from recon.export.run_json import read_run
    from viz.pages.report_photos import jpeg, shrunk

    data = read_json(folder / "run.json")
    if data.get("mode") == "depth":
        photos = sorted(path for path in folder.iterdir() if path.is_dir())
        shown, counts = photos[0], (len(photos), len(photos))
        warnings, verdict = data["warnings"], "each photo by itself"
        cameras, _ = read_cameras(shown / "cameras.json")
    else:
        run = read_run(folder)
        cameras, _ = read_cameras(folder / "cameras.json")
        placed = sum(camera.cam_to_world is not None for camera in cameras.values())
        shown, counts = folder, (placed, len(cameras))
        warnings = run.warnings
        verdict = "" if run.verdict is None else f"{run.verdict.word}: {run.verdict.reason}"
    listed = cameras.values()
    first = next((c for c in listed if c.cam_to_world is not None), next(iter(listed)))
    pixels = read_depth_npz(first.depth_file(shown)).image
    thumbnail = base64.b64encode(jpeg(shrunk(pixels, _SIDE))).decode("ascii")
    return Outcome(name, key, None, *counts, verdict, seconds, tuple(warnings), thumbnail)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
