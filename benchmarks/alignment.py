"""Alignment from pointmaps alone: accuracy, cost, growth, robustness.

python -m benchmarks.alignment [--parity DIR] [--json FILE] [--only SECTION...]

The path measured is the pipeline's own (recon.alignment.align), on photos without texture,
so that nothing but the predictions places them. Seconds are CPU seconds of all threads; making the
synthetic predictions isn't counted.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.figures import write_figures
from benchmarks.parity_cases import (
    REFERENCE,
    REFERENCE_KNOWN_DEPTH,
    kept_bit_equal,
    load_stored,
    stored_functions,
    stored_scenes,
)
from benchmarks.pointmap_runs import Figures, Run, Truth, run_alignment, score
from benchmarks.pointmap_scenes import (
    EXACT,
    Errors,
    Pair,
    RoomScene,
    complete_pairs,
    make_room,
    predictions,
    random_pose,
    ring_pairs,
)
from benchmarks.two_view_methods import by_overlap, degenerate_pairs
from pointmap.camera import Array, invert_rigid
from recon.evaluation.tables import markdown

COLUMNS = (
    "case",
    "predictions",
    "placed",
    "rotation deg (max)",
    "translation %",
    "focal %",
    "depth AbsRel %",
    "CPU s",
)
_COMPLETE = (4, 8, 16, 24)
_RINGS = (100, 200)
_WRONG_RUNS = 3


def main(arguments: Sequence[str]) -> int:
    """Run the sections asked for, print their tables, write all figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.alignment", description=__doc__)
    parser.add_argument("--parity", type=Path, help="folder of the reference's stored results")
    parser.add_argument("--json", type=Path, help="file for all figures")
    parser.add_argument(
        "--only", nargs="+", choices=list(SECTIONS), default=list(SECTIONS), help="sections (all)"
    )
    options = parser.parse_args(arguments)
    figures: dict[str, Any] = {}
    for name in options.only:
        if name == "stored" and options.parity is None:
            continue
        print(f"\n### {SECTIONS[name][0]}\n", flush=True)
        figures[name] = SECTIONS[name][1](options.parity)
    write_figures(options.json, **figures)
    return 0


def _stored(folder: Path) -> dict[str, Any]:
    stored = load_stored(folder)
    rows, figures = [], {}
    # Once beforehand: the first run also pays for loading libraries.
    run_alignment(stored.photos(5), stored.predictions(5))
    for name, (run, found) in stored_scenes(stored).items():
        rows.append(_row(name, run, found))
        figures[name] = {**asdict(found), "cpu_seconds": run.cpu_seconds}
        if "known" not in name:
            views = int(name.split()[0])
            rotation, translation, focal, depth, seconds = REFERENCE[views]
            cells = (f"{rotation:.3f}", f"{translation:.2f}", f"{focal:.2f}", f"{depth:.2f}")
            rows.append(
                (f"{name}, reference", str(run.predictions), str(views), *cells, f"{seconds}")
            )
            continue
        equal = kept_bit_equal(run, stored.truth_of(5))
        rows.append(("5 known, reference", "20", "5", "0", "0", "0", "-", "-"))
        note = (
            f"\nKnown cameras come out bit-equal: {'yes' if equal else 'NO'}. Their depth without "
            f"any rescaling: AbsRel {found.depth_as_is_percent:.2f} % "
            f"(reference {REFERENCE_KNOWN_DEPTH:.2f} %)."
        )
    print(markdown(COLUMNS, rows))
    print(note + "\n")
    functions = stored_functions(folder, stored)
    print(markdown(("stored function", "ours", "reference"), functions))
    return {"scenes": figures, "functions": functions}


def _growth(_: Path | None) -> dict[str, Any]:
    rows: list[tuple[str, ...]] = []
    complete: list[tuple[int, float]] = []
    rings: list[tuple[int, float]] = []
    cases = [(n, 96, 72, 0) for n in _COMPLETE] + [(n, 224, 168, 10) for n in _RINGS]
    for count, width, height, neighbours in cases:
        # A process of its own, so that the peak of memory is this run's.
        context = multiprocessing.get_context("spawn")
        with context.Pool(1) as pool:
            run, found, gigabytes = pool.apply(_grown, (count, width, height, neighbours))
        kind = f"{neighbours} neighbours" if neighbours else "complete"
        rows.append((*_row(f"{count} at {width}x{height}, {kind}", run, found), f"{gigabytes:.2f}"))
        (rings if neighbours else complete).append(run)
        print("   ".join(rows[-1]), file=sys.stderr, flush=True)
    print(markdown((*COLUMNS, "peak GB"), rows))
    exponents = {
        name: _slope(np.log(np.array(runs, np.float64)))
        for name, runs in (("complete", complete), ("neighbours", rings))
    }
    told = ", ".join(f"{name} {value:.2f}" for name, value in exponents.items())
    print(f"\nExponent of CPU seconds over the number of predictions: {told}.")
    return {"rows": rows, "exponents": exponents}


def _slope(points: Array) -> float:
    """Return the slope of the least-squares line through points (M, 2)."""
    x, y = (points - points.mean(axis=0)).T
    return float(x @ y / (x @ x))


def _grown(
    count: int, width: int, height: int, neighbours: int
) -> tuple[tuple[int, float], Figures, float]:
    """Run one scene; return (predictions, CPU seconds), its figures and the peak memory in GB."""
    scene = make_room(count, width, height, span_deg=360 if neighbours else 80)
    pairs = ring_pairs(count, neighbours) if neighbours else complete_pairs(count)
    warm = make_room(3, 32, 24)
    run_alignment(warm.photos, predictions(warm, complete_pairs(3)))
    run = run_alignment(scene.photos, predictions(scene, pairs))
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
    return (run.predictions, run.cpu_seconds), score(run, _truth(scene)), peak


def _robustness(_: Path | None) -> dict[str, Any]:
    rows, figures = [], {}
    scene, pairs = make_room(16, 96, 72, span_deg=360), ring_pairs(16, 10)
    cases: list[tuple[str, Errors, float]] = [
        ("clean", Errors(), 0.0),
        ("20 % of the pairs random", Errors(), 0.2),
        ("40 % of the pairs random", Errors(), 0.4),
        ("30 % wild pixels", Errors(outliers=0.3), 0.0),
        ("both: 40 %, 30 %", Errors(outliers=0.3), 0.4),
    ]
    for name, errors, share in cases:
        medians, found = [], None
        for seed in range(_WRONG_RUNS):
            lies = wrong_pairs(pairs, share, seed)
            said = predictions(scene, pairs, errors, wrong=lies, seed=seed)
            run = run_alignment(scene.photos, said)
            found = score(run, _truth(scene))
            medians.append(found.median_rotation_deg)
        assert found is not None
        cells = _row(name, (run.predictions, run.cpu_seconds), found)
        rows.append((*cells, f"{np.median(medians):.3f}"))
        figures[name] = {**asdict(found), "median_of_medians_deg": float(np.median(medians))}
    print(markdown((*COLUMNS, f"median rotation deg, of {_WRONG_RUNS} runs"), rows))
    told = {"exact": _exact(), "elsewhere": _elsewhere(), "doppelganger": _doppelganger()}
    print()
    for sentence in told.values():
        print(f"- {sentence}")
    return {"rows": figures, **told}


def wrong_pairs(pairs: Sequence[Pair], share: float, seed: int) -> dict[Pair, Array]:
    """Return random poses for a ``share`` of the pairs, the same in both orders: a pair that
    contradicts itself would be found out too easily.
    """
    rng = np.random.default_rng([seed, 77])
    both = pairs[::2]
    lies: dict[Pair, Array] = {}
    for k in rng.permutation(len(both))[: round(share * len(both))]:
        i, j = both[k]
        lies[i, j] = random_pose(rng, rng.uniform(0.5, 4.0))
        lies[j, i] = invert_rigid(lies[i, j])
    return lies


def _exact() -> str:
    scene = make_room(8, 96, 72)
    run = run_alignment(scene.photos, predictions(scene, complete_pairs(8), EXACT))
    found = score(run, _truth(scene))
    return (
        f"Without noise: rotation {found.max_rotation_deg:.5f} deg at most, translation "
        f"{found.translation_percent:.5f} %, focal {found.focal_percent:.5f} %, depth "
        f"{found.depth_percent:.5f} %."
    )


def _elsewhere() -> str:
    scene = make_room(8, 96, 72)
    rng = np.random.default_rng(5)
    lies: dict[Pair, Array] = {}
    for k in range(7):
        lies[k, 7] = random_pose(rng, 2.0)
        lies[7, k] = invert_rigid(lies[k, 7])
    said = predictions(scene, complete_pairs(8), wrong=lies)
    alignment = run_alignment(scene.photos, said).alignment
    left = [k for k, reason in enumerate(alignment.reasons) if reason is not None]
    return f"A photo of another place (number 7): left out {left}, because {alignment.reasons[7]}."


def _doppelganger() -> str:
    count = 12
    scene = make_room(count, 96, 72, span_deg=170)
    pairs = [(i, j) for i, j in complete_pairs(count) if abs(i - j) <= 3]
    lies: dict[Pair, Array] = {}
    for i, j in ((0, count - 1), (1, count - 2)):
        lies[i, j] = invert_rigid(scene.cam_to_world[i]) @ scene.cam_to_world[i + 1]
        lies[j, i] = invert_rigid(lies[i, j])
    said = list(predictions(scene, [*pairs, *lies], wrong=lies))
    clean, run = (run_alignment(scene.photos, s) for s in (said[: len(pairs)], said))
    errors = [score(r, _truth(scene)).max_rotation_deg for r in (clean, run)]
    used = {tuple(pair) for pair in run.alignment.pointmap_pairs.tolist()} & set(lies)
    return (
        f"Both ends of a row taken for one place: largest rotation error {errors[1]:.2f} deg "
        f"({errors[0]:.2f} without those pairs), false pairs used: {len(used)}."
    )


def _two_view(_: Path | None) -> dict[str, Any]:
    figures, apart = by_overlap()
    rows = [
        (
            f"{f.overlap[0]:.2f} to {min(f.overlap[1], 1):.2f}",
            f.method,
            str(f.pairs),
            f"{f.rotation_deg:.2f} / {f.direction_deg:.2f}",
            str(f.failed),
            f"{f.milliseconds:.1f}",
        )
        for f in figures
    ]
    columns = ("overlap", "method", "pairs", "median R / t deg", "no pose", "ms per pair")
    print(markdown(columns, rows))
    print(f"\nPnP and Procrustes are at most {apart:.2f} degrees apart on these clean pairs.\n")
    degenerate = degenerate_pairs()
    print(markdown(("case", "method", "reported"), degenerate))
    return {
        "by_overlap": [asdict(f) for f in figures],
        "pnp_procrustes_apart_deg": apart,
        "degenerate": degenerate,
    }


def _truth(scene: RoomScene) -> Truth:
    return Truth(scene.cam_to_world, float(scene.intrinsics[0, 0]), scene.depth)


def _row(name: str, run: Run | tuple[int, float], found: Figures) -> tuple[str, ...]:
    count, seconds = run if isinstance(run, tuple) else (run.predictions, run.cpu_seconds)
    return (
        name,
        str(count),
        str(found.placed),
        f"{found.rotation_deg:.3f} ({found.max_rotation_deg:.2f})",
        f"{found.translation_percent:.2f}",
        f"{found.focal_percent:.2f}",
        f"{found.depth_percent:.2f}",
        f"{seconds:.2f}",
    )


SECTIONS: dict[str, tuple[str, Callable[[Any], dict[str, Any]]]] = {
    "stored": ("Stored predictions, against the reference implementation", _stored),
    "growth": ("Growth with the number of photos", _growth),
    "robustness": ("Wrong pairs, wild pixels, look-alikes", _robustness),
    "two-view": ("Two photos: the three methods", _two_view),
}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
