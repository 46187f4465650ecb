"""Which pairs of many photos are looked at: python -m benchmarks.view_graph SCENE_DIR... .

How many of the truly overlapping pairs the candidates hold, by what tells photos alike. A scene is
a folder with images/, cameras.json and depth/ as in :mod:`recon.evaluation.scene`. Photos overlap
by the share of one's measured pixels that the other sees at the depth it measured itself, the
smaller of both directions.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.figures import write_figures
from pointmap.camera import Array, project, transform_points, unproject
from recon.evaluation.scene import SceneTruth, read_depth_truth, read_truth
from recon.evaluation.tables import markdown
from recon.inputs import Inputs, read_inputs
from recon.options import Options
from recon.prediction.view_graph import Pair, ViewGraphOptions, build_view_graph
from recon.stage_results import PhotoFeatures
from recon.two_view.find_features import find_features
from recon.two_view.match_photos import match_photos
from recon.two_view.photo_descriptors import photo_descriptors

COLUMNS = ("scene", "photos", "pairs of", "pairs", "CPU s", ">= 20 %", ">= 40 %", "right")
# One pixel of so many, along either axis, is looked for in the other photos.
_STRIDE = 16
# Depths of one surface agree to this share.
_TOLERANCE = 0.08


@dataclass(frozen=True)
class PairsResult:
    """One way to choose pairs on one scene: recall of pairs that overlap by 20 and by 40 %, and the
    share of the chosen that overlap by 20 %. ``cpu_seconds`` without finding features.
    """

    scene: str
    photos: int
    way: str
    pairs: int
    cpu_seconds: float
    recall_20: float
    recall_40: float
    right: float


def true_overlaps(truth: SceneTruth, names: Sequence[str]) -> Array:
    """Return the overlap (N, N) of all photos, symmetric."""
    cameras = [truth.cameras[name] for name in names]
    depths = [read_depth_truth(truth, name) for name in names]
    overlap = np.zeros((len(names), len(names)))
    for i, (camera, depth) in enumerate(zip(cameras, depths, strict=True)):
        if depth is None or camera.cam_to_world is None:
            raise SystemExit(f"{names[i]} has no true depth or camera")
        thin = np.s_[_STRIDE // 2 :: _STRIDE, _STRIDE // 2 :: _STRIDE]
        known = depth[thin] > 0
        world = transform_points(
            camera.cam_to_world, unproject(depth, camera.intrinsics)[thin][known]
        )
        for j, (other, measured) in enumerate(zip(cameras, depths, strict=True)):
            if measured is None or other.cam_to_world is None:
                continue
            local = transform_points(np.linalg.inv(other.cam_to_world), world)
            xy = project(local, other.intrinsics)
            inside = (local[:, 2] > 0) & (xy >= 0).all(axis=1)
            inside &= (xy < [other.width, other.height]).all(axis=1)
            column, row = xy[inside].astype(int).T
            seen, z = measured[row, column], local[inside, 2]
            told = len(world) - (seen == 0).sum()
            same = (seen > 0) & (np.abs(seen - z) < _TOLERANCE * z)
            overlap[i, j] = same.sum() / max(told, 1)
    return np.minimum(overlap, overlap.T)


def run_scene(folder: Path, options: ViewGraphOptions) -> list[PairsResult]:
    """Return what each way to choose pairs finds."""
    inputs = read_inputs([folder / "images"], Options(device="cpu", matcher="sift"))
    names = [photo.name for photo in inputs.photos]
    overlap = true_overlaps(read_truth(folder / "cameras.json", folder / "depth"), names)
    upper = np.triu(np.ones_like(overlap, bool), 1)
    features = find_features(inputs)
    results = []
    for way, choose in _ways(inputs, features, options).items():
        start = time.process_time()
        pairs = choose()
        cpu = time.process_time() - start
        chosen = np.zeros_like(upper)
        chosen[tuple(np.array(list(pairs)).T)] = True
        recall_20, recall_40 = (
            float((chosen & (overlap >= least)).sum() / max((upper & (overlap >= least)).sum(), 1))
            for least in (0.2, 0.4)
        )
        right = float((overlap[chosen] >= 0.2).mean())
        scene = folder.resolve().name
        result = PairsResult(scene, len(names), way, len(pairs), cpu, recall_20, recall_40, right)
        results.append(result)
    return results


def _ways(
    inputs: Inputs, features: Sequence[PhotoFeatures], options: ViewGraphOptions
) -> dict[str, Callable[[], Collection[Pair]]]:
    def alike() -> tuple[Pair, ...]:
        descriptors = photo_descriptors(features).astype(np.float64)
        return build_view_graph(len(features), descriptors=descriptors, options=options).pairs

    return {
        "key points": alike,
        "key points, and along matches": lambda: [
            (m.i, m.j) for m in match_photos(inputs, features, options)
        ],
    }


def table(results: Sequence[PairsResult]) -> str:
    """Return a Markdown table, one row per scene and way."""
    rows = []
    for r in results:
        shares = (f"{share:.3f}" for share in (r.recall_20, r.recall_40, r.right))
        rows.append((r.scene, str(r.photos), r.way, str(r.pairs), f"{r.cpu_seconds:.1f}", *shares))
    return markdown(COLUMNS, rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all scenes and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.view_graph", description=__doc__)
    parser.add_argument("scenes", nargs="+", type=Path, metavar="SCENE_DIR")
    parser.add_argument("--neighbours", type=int, default=ViewGraphOptions.neighbours)
    parser.add_argument("--json", type=Path, help="file for all figures")
    given = parser.parse_args(arguments)
    options = ViewGraphOptions(neighbours=given.neighbours, complete_up_to=0)
    results = []
    for scene in given.scenes:
        results += run_scene(scene, options)
    print(table(results))
    write_figures(given.json, results=results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
