"""Folders of photos without true cameras, beside COLMAP: python -m benchmarks.beside_colmap.

See benchmarks/README.md for the photos and the columns.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import ImageOps

from benchmarks.scale import (
    OURS,
    Photos,
    ScaleOptions,
    given_photos,
    run_colmap,
    run_ours,
    use_threads,
)
from pointmap.camera import Array
from pointmap.decoding import open_picture
from pointmap.metrics import auc_at
from pointmap.photo_files import find_photos
from recon.evaluation.poses import relative_pose_errors
from recon.evaluation.tables import markdown
from recon.export.cameras_json import read_cameras

COLUMNS = (
    "photos", "placed", "COLMAP", "AUC@5 / 30 between them", "median", "verdict",
    "CPU s", "COLMAP",
)  # fmt: skip
_JPEG_QUALITY = 95


def upright(photos: Photos, folder: Path, long_side: int) -> Photos:
    """Return copies of at most ``long_side`` pixels in ``folder``, with their EXIF, turned as EXIF
    says: COLMAP reads pixels as they lie in the file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for name in photos.names:
        with open_picture(photos.folder / name) as picture:
            turned = ImageOps.exif_transpose(picture).convert("RGB")
            turned.thumbnail((long_side, long_side))
            names.append(f"{Path(name).stem}.jpg")
            turned.save(folder / names[-1], quality=_JPEG_QUALITY, exif=turned.getexif())
    return Photos(folder, tuple(names), None)


def agreement(
    ours: Mapping[str, Array | None], others: Mapping[str, Array | None]
) -> tuple[float, float, float]:
    """Return AUC@5 and AUC@30 (percent) over all pairs of the photos that ``others`` have cameras
    (4, 4) of, theirs taken for true, and the median pair's difference in degrees.
    """
    names = [name for name, pose in others.items() if pose is not None]
    theirs = [np.asarray(others[name]) for name in names]
    errors = relative_pose_errors([ours.get(name) for name in names], theirs).pose_deg
    return auc_at(errors, 5), auc_at(errors, 30), float(np.median(errors))


def row(photos: Photos, name: str, out: Path, options: ScaleOptions) -> list[str]:
    """Run both on the photos and return the cells of their row."""
    mine = run_ours(photos, out / "ours", options)
    theirs = run_colmap(photos, out / "colmap", options)[0]
    count = str(len(photos.names))
    cost = [f"{mine.total.cpu_seconds:.0f}", f"{theirs.total.cpu_seconds:.0f}"]
    if mine.failure is not None:
        return [name, count, f"FAILED: {mine.failure}", "-", "-", "-", "-", *cost]
    run = json.loads((out / "ours" / "run.json").read_text(encoding="utf-8"))
    verdict = (run["verdict"] or {}).get("word", "-")
    shared = ["-", "-"]
    if theirs.failure is None and theirs.registered > 1:
        found = (out / "ours" / "cameras.json", out / "colmap" / "incremental.json")
        poses = [{n: c.cam_to_world for n, c in read_cameras(f)[0].items()} for f in found]
        auc5, auc30, median = agreement(*poses)
        shared = [f"{auc5:.1f} / {auc30:.1f}", f"{median:.2f}"]
    return [name, count, str(mine.registered), str(theirs.registered), *shared, verdict, *cost]


def main(arguments: Sequence[str]) -> int:
    """Run all folders and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.beside_colmap", description=__doc__)
    add = parser.add_argument
    add("folders", type=Path, nargs="+", metavar="FOLDER", help="of photos of one place")
    add("--out", type=Path, default=Path("runs/beside_colmap"), help="results and logs")
    add("--long-side", type=int, default=1600, help="of the photos both are given, at most (1600)")
    add("--threads", type=int, default=1, help="of both (1)")
    given = parser.parse_args(arguments)
    use_threads(given.threads)
    options = ScaleOptions(until="aligned", threads=given.threads)
    rows = []
    for folder in given.folders:
        out = given.out / folder.name
        every = given_photos(folder, None, len(find_photos([folder])))
        rows.append(row(upright(every, out / "images", given.long_side), folder.name, out, options))
        print(markdown((OURS, *COLUMNS), rows[-1:]), flush=True)
    print(markdown((OURS, *COLUMNS), rows))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
