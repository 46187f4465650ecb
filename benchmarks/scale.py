"""How accuracy and cost grow with the number of photos, beside COLMAP: python -m benchmarks.scale.

See benchmarks/README.md for the photos and the columns.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.figures import write_figures
from benchmarks.handed_on import parse
from benchmarks.measure import Measured, run_measured
from benchmarks.scale_scenes import CACHE, PhotoSet, render_set
from benchmarks.scenes import spaced
from pointmap.decoding import open_picture
from pointmap.errors import InputError
from pointmap.metrics import auc_at
from pointmap.photo_files import find_photos
from recon.evaluation.poses import centre_error, relative_pose_errors
from recon.evaluation.scene import SceneTruth, read_truth
from recon.evaluation.tables import markdown
from recon.export.cameras_json import read_cameras

ROOT = Path(__file__).resolve().parents[1]
OURS, INCREMENTAL, GLOBAL = "pointmap", "COLMAP incremental", "COLMAP global"
LAST_SPARSE_STAGE = "Aligning cameras"
QUICK_DEPTH = (
    "--no-refine-depth", "--depth-size", "64",
    "--fusion.max-triangles", "20000", "--fusion.max-points", "20000",
)  # fmt: skip
"""What makes the rest quick where only the cameras are asked for; it comes after they are found."""
_LARGE_QUALITY = 92
"""Of the JPEG files that enlarged photos are written as."""
SUMMARY = ("photos", "method", "registered", "AUC@5", "drift %", "wall s", "CPU s", "peak GB")


@dataclass(frozen=True)
class Cost:
    """Wall ``seconds``, ``cpu_seconds`` of all threads and the largest resident size so far."""

    seconds: float
    cpu_seconds: float
    peak_gb: float


@dataclass(frozen=True)
class Outcome:
    """What ``method`` made of ``photos`` photos.

    ``stages``: what each cost, in their order, and ``total``, which may hold more than they do.
    ``auc5`` in percent (SuperGlue's, over all pairs); ``drift_percent``: RMS error of the centres
    after the best similarity over the length of the walk. Both None without truth, and the drift
    with fewer than three photos placed. ``failure`` says why there is no result.
    """

    photos: int
    method: str
    stages: Mapping[str, Cost]
    total: Cost
    registered: int = 0
    auc5: float | None = None
    drift_percent: float | None = None
    failure: str | None = None


@dataclass(frozen=True)
class Photos:
    """N photos of one folder in the order of the walk and what is known of their cameras."""

    folder: Path
    names: tuple[str, ...]
    truth: SceneTruth | None


@dataclass(frozen=True)
class ScaleOptions:
    """``until``: "aligned" or "all", how much of the pipeline is measured. ``matching``:
    "exhaustive" or "sequential", how COLMAP chooses pairs. ``recon_arguments`` are handed on.
    """

    until: str = "all"
    matching: str = "exhaustive"
    threads: int = 1
    timeout_s: float = 14400.0
    recon_arguments: tuple[str, ...] = ()


def street_photos(count: int, cache: Path, seed: int) -> Photos:
    """Return the photos of a generated walk, rendered where the cache has none."""
    folder = render_set(PhotoSet("street", count, seed), cache)
    truth = read_truth(folder / "cameras.json")
    return Photos(folder / "images", truth.names, truth)


def given_photos(folder: Path, truth: Path | None, count: int) -> Photos:
    """Return ``count`` photos of a folder, evenly spaced in the order of their names.

    Raises ``InputError`` when there are fewer.
    """
    found = find_photos([folder])
    if count > len(found):
        raise InputError(f"{folder} has {len(found)} photos, not {count}")
    names = tuple(path.name for path in spaced(found, count))
    return Photos(folder, names, read_truth(truth) if truth else None)


def enlarged(photos: Photos, folder: Path, long_side: int) -> Photos:
    """Return the photos with a longer side of ``long_side`` pixels, written to ``folder``."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    for name in photos.names:
        with open_picture(photos.folder / name) as picture:
            scale = long_side / max(picture.size)
            size = round(picture.width * scale), round(picture.height * scale)
            picture.convert("RGB").resize(size, Image.Resampling.BICUBIC).save(
                folder / name, quality=_LARGE_QUALITY
            )
    return replace(photos, folder=folder)


def run_ours(photos: Photos, out: Path, options: ScaleOptions) -> Outcome:
    """Reconstruct by ``run_recon.py`` and score the cameras it wrote."""
    quick = QUICK_DEPTH if options.until == "aligned" else ()
    command = [
        sys.executable, ROOT / "run_recon.py", *(photos.folder / n for n in photos.names),
        "--out", out, "--overwrite", *quick, *options.recon_arguments,
    ]  # fmt: skip
    measured = run_measured(command, out.with_name(f"{out.name}.log"), timeout_s=options.timeout_s)
    total = Cost(measured.seconds, measured.cpu_seconds, measured.peak_gb)
    if measured.exit_code != 0:
        return _failed(photos, OURS, {}, total, measured)
    stages = recorded_stages(json.loads((out / "run.json").read_text(encoding="utf-8"))["stages"])
    if options.until == "aligned":
        names = list(stages)
        stages = {n: stages[n] for n in names[: names.index(LAST_SPARSE_STAGE) + 1]}
        total = sum_of(stages)
    return _scored(photos, OURS, stages, total, out / "cameras.json")


def recorded_stages(records: Sequence[Mapping[str, Any]]) -> dict[str, Cost]:
    """Return the stages of a ``run.json`` by name; those of one name are one."""
    stages: dict[str, Cost] = {}
    for record in records:
        peak_gb = record["peak_memory_mb"] * 2**20 / 1e9
        cost = Cost(record["seconds"], record["cpu_seconds"], peak_gb)
        before = stages.get(record["name"])
        stages[record["name"]] = sum_of({"": before, " ": cost}) if before else cost
    return stages


def run_colmap(photos: Photos, out: Path, options: ScaleOptions) -> list[Outcome]:
    """Run COLMAP's features and matching once and both of its mappers, each step in a process."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    (out / "photos.txt").write_text("\n".join(photos.names), encoding="utf-8")
    stages: dict[str, Cost] = {}

    def step(name: str) -> tuple[Measured, Cost]:
        script = ROOT / "benchmarks" / "scale_colmap.py"
        command = [sys.executable, script, name, out, photos.folder, str(options.threads)]
        measured = run_measured(command, out / f"{name}.log", timeout_s=options.timeout_s)
        return measured, Cost(measured.seconds, measured.cpu_seconds, measured.peak_gb)

    for name in ("features", options.matching):
        measured, stages[name] = step(name)
        if measured.exit_code != 0:
            total = sum_of(stages)
            return [_failed(photos, m, stages, total, measured) for m in (INCREMENTAL, GLOBAL)]
    outcomes = []
    for method, name in ((INCREMENTAL, "incremental"), (GLOBAL, "global")):
        measured, mapping = step(name)
        every = {**stages, "mapping": mapping}
        if measured.exit_code != 0:
            outcomes.append(_failed(photos, method, every, sum_of(every), measured))
        else:
            found = out / f"{name}.json"
            outcomes.append(_scored(photos, method, every, sum_of(every), found))
    return outcomes


def sum_of(stages: Mapping[str, Cost]) -> Cost:
    """Return what stages cost together: the times add up, of the peaks the largest counts."""
    costs = list(stages.values())
    return Cost(
        sum(cost.seconds for cost in costs),
        sum(cost.cpu_seconds for cost in costs),
        max((cost.peak_gb for cost in costs), default=0.0),
    )


def exponent(counts: Sequence[int], seconds: Sequence[float]) -> float | None:
    """Return the power of the number of photos that times grow with: the slope of a straight line
    through their logarithms, by least squares. None with fewer than two numbers of photos.
    """
    if len(set(counts)) < 2 or min(seconds) <= 0:
        return None
    return float(np.polyfit(np.log(counts), np.log(seconds), 1)[0])


def summary_table(outcomes: Sequence[Outcome]) -> str:
    """Return a Markdown table, one row per number of photos and method."""
    rows = [SUMMARY]
    for outcome in outcomes:
        total = outcome.total
        cells = [
            f"{outcome.registered}/{outcome.photos}",
            "-" if outcome.auc5 is None else f"{outcome.auc5:.1f}",
            "-" if outcome.drift_percent is None else f"{outcome.drift_percent:.3f}",
        ]
        if outcome.failure is not None:
            cells = [f"FAILED: {outcome.failure.replace('|', '/')}", "-", "-"]
        cost = (f"{total.seconds:.0f}", f"{total.cpu_seconds:.0f}", f"{total.peak_gb:.2f}")
        rows.append((str(outcome.photos), outcome.method, *cells, *cost))
    return markdown(rows[0], rows[1:])


def stage_table(outcomes: Sequence[Outcome]) -> str:
    """Return a Markdown table of what stages cost: one row per method and stage, "wall / CPU s /
    peak GB" for each number of photos, and the exponents of wall and CPU seconds.
    """
    counts = sorted({outcome.photos for outcome in outcomes})
    rows = [("stage", *(f"{count} photos" for count in counts), "exponent wall / CPU")]
    for method in dict.fromkeys(outcome.method for outcome in outcomes):
        done = {o.photos: o for o in outcomes if o.method == method and o.failure is None}
        costs = {n: {**o.stages, "all": o.total} for n, o in done.items()}
        for stage in dict.fromkeys(name for stages in costs.values() for name in stages):
            found = {n: stages[stage] for n, stages in costs.items() if stage in stages}
            cells = [
                f"{c.seconds:.1f} / {c.cpu_seconds:.1f} / {c.peak_gb:.2f}" if c else "-"
                for c in (found.get(n) for n in counts)
            ]
            powers = [
                exponent(list(found), times)
                for times in (
                    [c.seconds for c in found.values()],
                    [c.cpu_seconds for c in found.values()],
                )
            ]
            shown = " / ".join("-" if power is None else f"{power:.2f}" for power in powers)
            rows.append((f"{method}: {stage}", *cells, shown))
    return markdown(rows[0], rows[1:])


def _failed(
    photos: Photos, method: str, stages: Mapping[str, Cost], total: Cost, measured: Measured
) -> Outcome:
    failure = f"exit {measured.exit_code}, see its log"
    return Outcome(len(photos.names), method, stages, total, failure=failure)


def _scored(
    photos: Photos, method: str, stages: Mapping[str, Cost], total: Cost, cameras: Path
) -> Outcome:
    """Score the cameras found; photos that ``cameras`` does not list were not placed."""
    listed, _ = read_cameras(cameras)
    found = {name: listed[name].cam_to_world for name in photos.names if name in listed}
    registered = sum(pose is not None for pose in found.values())
    auc5 = drift = None
    if photos.truth is not None:
        wanted = set(photos.names)
        known = {n: c.cam_to_world for n, c in photos.truth.cameras.items() if n in wanted}
        true = [pose for pose in known.values() if pose is not None]
        estimated = [found.get(name) for name in known]
        auc5 = auc_at(relative_pose_errors(estimated, true).pose_deg, 5)
        error = centre_error(estimated, true)
        walk = np.linalg.norm(np.diff([pose[:3, 3] for pose in true], axis=0), axis=1).sum()
        drift = None if error is None else 100 * error / float(walk)
    return Outcome(len(photos.names), method, stages, total, registered, auc5, drift)


def use_threads(threads: int) -> None:
    """Hold everything started from here to so many threads, where the system can to as many cores.

    Some libraries count cores and heed no variable.
    """
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if sys.platform == "linux":
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def main(arguments: Sequence[str]) -> int:
    """Run all numbers of photos, print the tables; exit code 1 when a method failed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scale",
        description=__doc__,
    )
    add = parser.add_argument
    add("--photos", type=Path, metavar="FOLDER", help="photos in place of a generated street")
    add("--truth", type=Path, metavar="FILE", help="cameras.json of --photos")
    add("--counts", type=int, nargs="+", default=[50, 100, 200, 500], metavar="N", help="photos")
    add("--seed", type=int, default=0, help="of the street")
    add("--cache", type=Path, default=CACHE, help=f"folder of generated streets ({CACHE})")
    add("--out", type=Path, default=Path("runs/scale"), help="results and logs (runs/scale)")
    add(
        "--long-side", type=int, metavar="PX", help="enlarge the photos first, as of a large camera"
    )
    add("--until", choices=("aligned", "all"), default="all", help="stop measuring there")
    add("--no-colmap", action="store_true", help="pointmap alone")
    add(
        "--matching",
        choices=("exhaustive", "sequential"),
        default="exhaustive",
        help="COLMAP's pairs: all, or by the order of the walk, which pointmap isn't told",
    )
    add("--threads", type=int, default=os.cpu_count(), help="of every method (all cores)")
    add("--timeout", type=float, default=14400.0, help="seconds per process")
    add("--json", type=Path, help="file for all figures")
    given, handed_on = parse(parser, arguments)
    options = ScaleOptions(
        given.until, given.matching, given.threads, given.timeout, tuple(handed_on)
    )
    use_threads(given.threads)
    given.out.mkdir(parents=True, exist_ok=True)
    outcomes: list[Outcome] = []
    for count in given.counts:
        try:
            photos = (
                given_photos(given.photos, given.truth, count)
                if given.photos
                else street_photos(count, given.cache, given.seed)
            )
        except InputError as error:
            parser.error(str(error))
        if given.long_side is not None:
            photos = enlarged(photos, given.out / f"photos-{count}", given.long_side)
        outcomes.append(run_ours(photos, given.out / f"pointmap-{count}", options))
        if not given.no_colmap:
            outcomes += run_colmap(photos, given.out / f"colmap-{count}", options)
        print(summary_table(outcomes), file=sys.stderr, flush=True)
        write_figures(given.json, options=options, outcomes=outcomes)
    print(f"{summary_table(outcomes)}\n\n{stage_table(outcomes)}")
    return int(any(outcome.failure is not None for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
