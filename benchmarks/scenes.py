"""Reconstructs scenes with run_recon.py and scores them: python -m benchmarks.scenes.

See benchmarks/README.md for the scene folders and the columns.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.figures import write_figures
from benchmarks.handed_on import parse
from benchmarks.measure import Measured, run_measured
from pointmap.errors import InputError
from pointmap.photo_files import find_photos
from recon.evaluation.scene import SceneScores, SceneTruth, read_truth, score_scene
from recon.evaluation.tables import markdown
from recon.export.cameras_json import read_cameras

ROOT = Path(__file__).resolve().parents[1]
COLUMNS = (
    "scene",
    "registered",
    "AUC@5 / 10 / 20 / 30",
    "median R / t deg",
    "focal %",
    "AbsRel scene / photo",
    "delta scene / photo",
    "seconds",
    "peak GB",
)


@dataclass(frozen=True)
class SceneResult:
    """One scene's outcome; ``failure`` says why there are no scores, None when there are."""

    scene: str
    failure: str | None
    scores: SceneScores | None
    measured: Measured | None


@dataclass(frozen=True)
class BenchmarkOptions:
    """``photos``: take only that many, evenly spaced (None: all); ``recon_arguments`` are handed to
    ``run_recon.py`` as they are.
    """

    photos: int | None = None
    timeout_s: float = 1800.0
    recon_arguments: tuple[str, ...] = ()


def run_scene(scene: Path, out: Path, options: BenchmarkOptions) -> SceneResult:
    """Reconstruct one scene in a process of its own and score what it wrote."""
    name, log, measured = scene.resolve().name, out.with_name(f"{out.name}.log"), None
    try:
        photos = spaced(find_photos([scene / "images"]), options.photos)
        inputs = photos if options.photos is not None else [scene / "images"]
        command: list[str | Path] = [
            sys.executable,
            ROOT / "run_recon.py",
            *inputs,
            "--out",
            out,
            "--overwrite",
        ]
        out.parent.mkdir(parents=True, exist_ok=True)
        measured = run_measured(
            [*command, *options.recon_arguments], log, timeout_s=options.timeout_s
        )
        if measured.exit_code != 0:
            lines = log.read_text(errors="replace").strip().splitlines() or ["no output"]
            return SceneResult(name, f"exit {measured.exit_code}: {lines[-1]}", None, measured)
        return SceneResult(name, None, score(scene, out, [p.name for p in photos]), measured)
    except (InputError, OSError) as error:
        return SceneResult(name, str(error), None, measured)


def spaced(photos: Sequence[Path], count: int | None) -> list[Path]:
    """Return ``count`` photos evenly spaced, first and last included; all when there are fewer."""
    if count is None or count >= len(photos):
        return list(photos)
    return [photos[int(i)] for i in np.rint(np.linspace(0, len(photos) - 1, count))]


def score(scene: Path, out: Path, names: Sequence[str]) -> SceneScores:
    """Score the scene folder ``out`` on the photos ``names``, as far as ``scene`` has truth."""
    known = scene / "cameras.json"
    if not known.is_file():
        return score_scene(out, SceneTruth(tuple(read_cameras(out / "cameras.json")[0]), {}, {}))
    truth = read_truth(known)
    subset = replace(
        truth,
        names=tuple(name for name in truth.names if name in names),
        cameras={n: camera for n, camera in truth.cameras.items() if n in names},
        depth_files={n: path for n, path in truth.depth_files.items() if n in names},
    )
    return score_scene(out, subset)


def table(results: Sequence[SceneResult]) -> str:
    """Return a Markdown table, one row per scene, "-" where there is no truth."""
    return markdown(COLUMNS, [_row(result) for result in results])


def _row(result: SceneResult) -> tuple[str, ...]:
    cost = ["-", "-"]
    if result.measured is not None:
        cost = [f"{result.measured.seconds:.0f}", f"{result.measured.peak_gb:.2f}"]
    if result.scores is None:
        failure = (result.failure or "").replace("|", "/")
        return (result.scene, f"FAILED: {failure}", *["-"] * (len(COLUMNS) - 4), *cost)
    scores = result.scores
    cells = ["-"] * 3
    if scores.poses is not None:
        poses = scores.poses
        focal = poses.focal_error_percent
        cells = [
            " / ".join(f"{value:.1f}" for value in poses.auc.values()),
            f"{poses.median_rotation_deg:.2f} / {poses.median_translation_deg:.2f}",
            "-" if focal is None else f"{focal:.2f}",
        ]
    depth = (scores.depth_one_scale, scores.depth_each_scale)
    return (
        result.scene,
        f"{scores.registered}/{scores.photos}",
        *cells,
        _pair([d.abs_rel if d else None for d in depth]),
        _pair([d.delta if d else None for d in depth]),
        *cost,
    )


def _pair(values: Sequence[float | None]) -> str:
    if all(value is None for value in values):
        return "-"
    return " / ".join("-" if value is None else f"{value:.3f}" for value in values)


def few_photos_table(results: Mapping[int, Sequence[SceneResult]]) -> str:
    """Return a Markdown table of AUC@30 by scene (row) and number of photos (column), and means.

    A scene that failed counts as 0; scenes without true poses have no row.
    """
    rows: dict[str, list[float]] = {}
    for of_count in results.values():
        for result in of_count:
            if result.scores is None or result.scores.poses is not None:
                poses = result.scores.poses if result.scores else None
                rows.setdefault(result.scene, []).append(poses.auc[30] if poses else 0.0)
    head = ("AUC@30", *(f"{count} photos" for count in results))
    lines = [(scene, *(f"{value:.1f}" for value in values)) for scene, values in rows.items()]
    means = np.array(list(rows.values())).reshape(-1, len(results)).mean(axis=0) if rows else []
    lines.append(("mean", *(f"{value:.1f}" for value in means)))
    return markdown(head, lines)


def main(arguments: Sequence[str]) -> int:
    """Run all scenes, print the table; exit code 1 when one failed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scenes",
        description=__doc__,
    )
    parser.add_argument("scenes", nargs="+", type=Path, metavar="SCENE_DIR")
    parser.add_argument("--out", type=Path, required=True, help="folder for results and logs")
    parser.add_argument("--json", type=Path, help="file for all figures")
    parser.add_argument("--weights", help="checkpoint, as for run_recon.py")
    parser.add_argument(
        "--photos",
        type=int,
        nargs="+",
        metavar="N",
        help="take this many photos, evenly spaced; several numbers add a table of AUC@30",
    )
    parser.add_argument("--timeout", type=float, default=1800.0, help="seconds per scene")
    given, handed_on = parse(parser, arguments)
    if given.weights is not None:
        handed_on += ["--weights", given.weights]
    counts: list[int | None] = given.photos or [None]
    by_count: dict[int, list[SceneResult]] = {}
    results = []
    for count in counts:
        options = BenchmarkOptions(count, given.timeout, tuple(handed_on))
        for scene in given.scenes:
            name = scene.resolve().name
            out = given.out / (name if len(counts) == 1 else f"{name}-{count}")
            results.append(run_scene(scene, out, options))
            by_count.setdefault(count or 0, []).append(results[-1])
            print(table(results[-1:]).splitlines()[-1], file=sys.stderr, flush=True)
    print(table(results))
    if len(counts) > 1:
        print(f"\n{few_photos_table(by_count)}")
    write_figures(given.json, options=options, scenes=results)
    return int(any(result.failure is not None for result in results))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
