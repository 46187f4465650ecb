"""How upright scenes come out, beside true gravity: python -m benchmarks.upright.

See benchmarks/README.md for the scene folders and the columns.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.figures import write_figures
from benchmarks.scenes import BenchmarkOptions, run_scene
from pointmap.camera import Array
from recon.export.cameras_json import read_cameras, world_of

COLUMNS = ("scene", "photos", "tilt deg", "said +- deg", "tilt of the first camera deg")
_AXES = {"x": 0, "y": 1, "z": 2}


@dataclass(frozen=True)
class Tilt:
    """One scene's outcome, angles in degrees: between its z axis and true up; how far off it says
    that may be; and between the first placed photo's own up axis and true up.
    """

    scene: str
    photos: int
    tilt_deg: float
    said_deg: float
    first_camera_deg: float


def measure(saved: Path, truth: Path, up: Array) -> Tilt:
    """Return the tilt of a ``saved`` scene; ``up`` (3,) in the world of the ``truth`` cameras."""
    found, whole = read_cameras(saved / "cameras.json")
    true, _ = read_cameras(truth / "cameras.json")
    poses = {name: c.cam_to_world for name, c in found.items() if c.cam_to_world is not None}
    both = [name for name in poses if name in true and true[name].cam_to_world is not None]
    # The rotation that takes the truth's world to the scene's, in the mean of all cameras.
    sums = sum(poses[name][:3, :3] @ true[name].cam_to_world[:3, :3].T for name in both)
    u, _, vt = np.linalg.svd(sums)
    true_up = u @ np.diag([1, 1, np.linalg.det(u @ vt)]) @ vt @ up
    world = world_of(whole)
    return Tilt(
        truth.resolve().name,
        len(poses),
        _angle_deg(np.array(world.up), true_up),
        float(world.up_sigma_deg or np.nan),
        _angle_deg(-next(iter(poses.values()))[:3, 1], true_up),
    )


def _angle_deg(first: Array, second: Array) -> float:
    return float(np.degrees(np.arctan2(np.linalg.norm(np.cross(first, second)), first @ second)))


def _direction(text: str) -> Array:
    """Return the unit vector (3,) of an axis such as "z" or "-y"."""
    return (-1.0 if text.startswith("-") else 1.0) * np.eye(3)[_AXES[text.removeprefix("-")]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Reconstruct the scenes, print the table, write the JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.upright", description=__doc__)
    parser.add_argument("scenes", nargs="+", metavar="SCENE_DIR[:AXIS]")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--photos", type=int, nargs="+", help="take so many, evenly spaced")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    rows, failed = [], False
    for scene in options.scenes:
        folder, _, axis = scene.partition(":")
        for photos in options.photos or [None]:
            truth = Path(folder)
            saved = options.out / f"{truth.resolve().name}-{photos or 'all'}"
            result = run_scene(truth, saved, BenchmarkOptions(photos=photos))
            if result.failure is not None:
                print(f"{scene}: {result.failure}", file=sys.stderr)
                failed = True
                continue
            rows.append(measure(saved, truth, _direction(axis or "z")))
    print(f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}")
    for row in rows:
        angles = (row.tilt_deg, row.said_deg, row.first_camera_deg)
        print(f"| {row.scene} | {row.photos} | " + " | ".join(f"{a:.2f}" for a in angles) + " |")
    if rows:
        print(f"\nmedian tilt {np.median([row.tilt_deg for row in rows]):.2f} deg")
    write_figures(options.json, scenes=rows)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
