"""Alignment of a long walk from synthetic matches: accuracy, time, memory and how they grow.

python -m benchmarks.alignment_scale [--photos N...] [--steps] [--json FILE]

See :mod:`benchmarks.walk_scenes` for the walk and benchmarks/README.md for the columns. What is
measured is the pipeline's own recon.alignment.align; making the matches isn't counted.
"""

from __future__ import annotations

import argparse
import cProfile
import multiprocessing
import pstats
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.figures import write_figures
from benchmarks.walk_scenes import FOCAL_PX, Walk, make_walk
from pointmap.camera import fit_similarity, invert_rigid, rotation_angle_deg
from recon.alignment import align
from recon.evaluation.tables import markdown
from recon.stage_results import Alignment

COLUMNS = (
    "photos",
    "edges",
    "placed",
    "rotation deg (max)",
    "position m (max)",
    "gap m",
    "focal %",
    "CPU s",
    "wall s",
    "ms a photo",
    "peak GB",
)
STEPS = {
    "average_rotations": "rotations",
    "_centres": "scales and positions",
    "triangulate_scene": "tracks and points",
    "adjust": "bundle adjustment",
    "grow": "photos placed one by one",
    "move_misplaced": "photos moved",
    "_incrementally": "second try, from one pair",
    "refine": "refinement, all rounds of it",
    "build_match_table": "table of matches",
}
"""Functions whose time and calls are told, with what they do; some of them call others."""


@dataclass(frozen=True)
class Figures:
    """What one walk gave; lengths in metres of the scene, after a similarity onto the truth.

    ``rotation_deg``, ``position_m`` medians, and the largest; ``gap_m``: by how much photos that
    were taken in one place, a round apart, are too far from each other or too near, typically.
    """

    photos: int
    edges: int
    placed: int
    rotation_deg: float
    max_rotation_deg: float
    position_m: float
    max_position_m: float
    gap_m: float
    focal_percent: float
    cpu_seconds: float
    wall_seconds: float
    peak_gb: float
    steps: dict[str, tuple[int, float]]


def main(arguments: Sequence[str]) -> int:
    """Align a walk of each length, print the table, write all figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.alignment_scale", description="")
    parser.description = __doc__
    parser.add_argument(
        "--photos", type=int, nargs="+", default=[50, 100, 200, 500, 1000], metavar="N"
    )
    parser.add_argument("--loop", type=int, default=260, help="photos once around a building")
    parser.add_argument("--steps", action="store_true", help="time of each step (costs some)")
    parser.add_argument("--json", type=Path, help="file for all figures")
    options = parser.parse_args(arguments)
    found = []
    for count in options.photos:
        # A process of its own, so that the peak of memory is this run's.
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            found.append(pool.apply(measured, (count, options.loop, options.steps)))
        print("   ".join(_row(found[-1])), file=sys.stderr, flush=True)
        for name, (calls, seconds) in found[-1].steps.items():
            print(f"      {seconds:8.2f} s in {calls:4d} x {name}", file=sys.stderr, flush=True)
    print(markdown(COLUMNS, [_row(figures) for figures in found]))
    if options.steps:
        print("\n" + _steps_table(found))
    if len(found) > 1:
        slope = exponent([f.photos for f in found], [f.cpu_seconds for f in found])
        print(f"\nExponent of CPU seconds over photos: {slope:.2f}.")
    write_figures(options.json, walks=found)
    return 0


def measured(count: int, loop: int, steps: bool) -> Figures:
    """Align one walk and score it; ``steps`` runs it under a profiler."""
    walk = make_walk(count, loop=loop)
    # Once beforehand: the first run also pays for loading libraries.
    align(*_inputs(make_walk(6, loop=24)))
    profiler = cProfile.Profile()
    wall, cpu = time.perf_counter(), time.process_time()
    if steps:
        found = profiler.runcall(align, *_inputs(walk), features=walk.features)
    else:
        found = align(*_inputs(walk), features=walk.features)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
    told = _steps(profiler) if steps else {}
    return scored(walk, found, cpu, wall, peak, told)


def _inputs(walk: Walk) -> tuple[object, object]:
    return walk.photos, walk.evidence


def scored(
    walk: Walk,
    found: Alignment,
    cpu_seconds: float = 0.0,
    wall_seconds: float = 0.0,
    peak_gb: float = 0.0,
    steps: dict[str, tuple[int, float]] | None = None,
) -> Figures:
    """Return how right the cameras of a walk are, beside what finding them took."""
    placed = np.array([pose is not None for pose in found.cam_to_world])
    poses = np.stack([np.eye(4) if pose is None else pose for pose in found.cam_to_world])
    scale, turn, shift = fit_similarity(poses[placed, :3, 3], walk.cam_to_world[placed, :3, 3])
    centres = scale * poses[:, :3, 3] @ turn.T + shift
    off = np.linalg.norm(centres - walk.cam_to_world[:, :3, 3], axis=1)[placed]
    turned = (turn @ poses[:, :3, :3]).transpose(0, 2, 1) @ walk.cam_to_world[:, :3, :3]
    wrong = rotation_angle_deg(turned)[placed]
    i, j = walk.revisits[placed[walk.revisits].all(axis=1)].T
    gap = 0.0
    if len(i):
        mine = (invert_rigid(poses[i]) @ poses[j])[:, :3, 3] * scale
        true = (invert_rigid(walk.cam_to_world[i]) @ walk.cam_to_world[j])[:, :3, 3]
        gap = float(np.median(np.linalg.norm(mine - true, axis=1)))
    focal = float(np.median(found.intrinsics[placed, 0, 0]))
    return Figures(
        photos=len(placed),
        edges=len(walk.evidence.edges),
        placed=int(placed.sum()),
        rotation_deg=float(np.median(wrong)),
        max_rotation_deg=float(wrong.max()),
        position_m=float(np.median(off)),
        max_position_m=float(off.max()),
        gap_m=gap,
        focal_percent=100 * abs(focal / FOCAL_PX - 1),
        cpu_seconds=cpu_seconds,
        wall_seconds=wall_seconds,
        peak_gb=peak_gb,
        steps=steps or {},
    )


def _steps(profiler: cProfile.Profile) -> dict[str, tuple[int, float]]:
    told = dict.fromkeys(STEPS.values(), (0, 0.0))
    profile = pstats.Stats(profiler)
    for (file, _, function), row in profile.stats.items():  # type: ignore[attr-defined]
        if function in STEPS and "alignment" in Path(file).parts:
            calls, seconds = told[STEPS[function]]
            told[STEPS[function]] = (calls + row[1], seconds + row[3])
    return told


def _steps_table(found: Sequence[Figures]) -> str:
    rows = [
        [name, *(f"{f.steps[name][1]:.1f} ({f.steps[name][0]})" for f in found)]
        for name in STEPS.values()
    ]
    return markdown(("step: seconds (calls)", *(f"{f.photos} photos" for f in found)), rows)


def exponent(counts: Sequence[float], seconds: Sequence[float]) -> float:
    """Return the slope of the least-squares line through log seconds over log counts."""
    return float(np.polyfit(np.log(counts), np.log(seconds), 1)[0])


def _row(found: Figures) -> tuple[str, ...]:
    return (
        str(found.photos),
        str(found.edges),
        str(found.placed),
        f"{found.rotation_deg:.3f} ({found.max_rotation_deg:.2f})",
        f"{found.position_m:.3f} ({found.max_position_m:.2f})",
        f"{found.gap_m:.3f}",
        f"{found.focal_percent:.2f}",
        f"{found.cpu_seconds:.1f}",
        f"{found.wall_seconds:.1f}",
        f"{1000 * found.cpu_seconds / found.photos:.0f}",
        f"{found.peak_gb:.2f}",
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
