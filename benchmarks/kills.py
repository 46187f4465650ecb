"""Kills while a scene is written over another one: python -m benchmarks.kills [--kills 100].

Each time a process saves a scene in the place of the last one, and gets SIGKILL, SIGTERM, SIGINT or
SIGHUP at a random moment. Then what lies under the scene's name must be the old scene or the new
one, whole, and after the next start there must be nothing else in the folder.
"""

from __future__ import annotations

import argparse
import importlib
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from pointmap.commands import end_as_on_ctrl_c
from recon.export.json_file import read_json
from recon.export.ownership import sort_files
from recon.export.staging import reserved_folder

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def kill_again_and_again(
    save: Callable[[Path, str], object], folder: Path, kills: int, *, seed: int = 0
) -> Counter[str]:
    """Kill processes that ``save(scene folder, mark)``, and count which scene is there after each.

    ``save`` puts ``mark`` into the warnings of the scene. Raises ``AssertionError`` when a scene is
    not whole, or something is left in ``folder``.
    """
    # Once here in place of once in every child.
    for name in ("open3d", "trimesh", "pycolmap", "viz.pages.report"):
        importlib.import_module(name)
    rng, target = random.Random(seed), folder / "scene"
    start = time.monotonic()
    os.waitpid(_started(lambda: save(target, "first")), 0)
    seconds, mark, found = time.monotonic() - start, "first", Counter[str]()
    for number in range(kills):
        child = _started(lambda number=number: save(target, f"kill {number}"))
        time.sleep(rng.uniform(0, 1.2 * seconds))
        os.kill(child, rng.choice(SIGNALS))
        os.waitpid(child, 0)
        # What the next run does first.
        with reserved_folder(target, overwrite=True):
            pass
        ours, others = sort_files(target)
        listed = read_json(target / "run.json")
        missing = set(listed["files"]) - set(ours)
        assert not others and not missing, (number, others, missing)
        assert os.listdir(folder) == ["scene"], (number, os.listdir(folder))
        (now,) = listed["warnings"]
        assert now in (mark, f"kill {number}"), (number, now)
        found["old scene" if now == mark else "new scene"] += 1
        mark = now
    return found


def _started(work: Callable[[], object]) -> int:
    """Return the number of a child process that does ``work``, as the command would.

    This process itself must not have done such work: its threads would be missing in the child.
    """
    child = os.fork()
    if child:
        return child
    end_as_on_ctrl_c("SIGTERM", "SIGHUP")
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        work()
    except KeyboardInterrupt:
        os._exit(1)
    except BaseException:
        traceback.print_exc()
        os._exit(2)
    os._exit(0)


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kills")
    parser.add_argument("scene", type=Path, help="a saved scene: a copy of it is written each time")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    from dataclasses import replace

    from recon.export.load import load_scene
    from recon.save import save_scene

    scene = load_scene(given.scene)

    def save(target: Path, mark: str) -> object:
        return save_scene(replace(scene, warnings=(mark,)), target, overwrite=True)

    with tempfile.TemporaryDirectory() as folder:
        found = kill_again_and_again(save, Path(folder), given.kills, seed=given.seed)
    print(f"{given.kills} kills: {found['old scene']} old scenes, {found['new scene']} new scenes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
