"""``python -m recon.evaluation scene OUT_DIR --truth cameras.json``: scores as JSON."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import tyro

from pointmap.errors import InputError
from recon.evaluation.scene import read_truth, score_scene


def scene(folder: tyro.conf.Positional[Path], /, *, truth: Path, depth: Path | None = None) -> int:
    """Score a saved scene and write the scores to standard output as JSON.

    Args:
        folder: Folder that run_recon.py wrote.
        truth: cameras.json with the true K and cam_to_world of each photo.
        depth: Folder of true depth maps; by default depth/ beside the truth, if there.
    """
    try:
        scores = score_scene(folder, read_truth(truth, depth))
    except InputError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(json.dumps(asdict(scores), indent=2) + "\n")
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run the command with ``arguments`` (``sys.argv`` by default) and return its exit code."""
    return tyro.extras.subcommand_cli_from_dict(
        {"scene": scene}, prog="python -m recon.evaluation", args=arguments
    )


if __name__ == "__main__":
    sys.exit(main())
