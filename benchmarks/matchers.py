"""Cameras of few photos by each matcher: python -m benchmarks.matchers.

See benchmarks/README.md for the scene folders, the weights and the columns.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.figures import write_figures
from benchmarks.scenes import spaced
from pointmap.camera import Array, cross_matrix, invert_rigid
from pointmap.metrics import MAD_TO_SIGMA, auc_at
from pointmap.photo_files import find_photos
from recon.alignment.align_scene import align_scene
from recon.evaluation.poses import relative_pose_errors
from recon.evaluation.scene import SceneTruth, read_truth
from recon.evaluation.tables import markdown
from recon.inputs import Inputs, read_inputs
from recon.options import Options
from recon.prediction.network_pairs import network_pairs
from recon.prediction.predict_scene import predict_scene
from recon.stage_results import PairMatches, PhotoFeatures
from recon.two_view.epipolar import sampson_px
from recon.two_view.find_features import find_features
from recon.two_view.gather_evidence import Matched, gather_evidence
from recon.two_view.learned_matching import match_by_model
from recon.two_view.match_photos import match_photos
from recon.verdict.judge import judge
from recon.work.folder import Work

RIGHT_PX = 3.0
"""Right matches are this near, in pixels of the matched picture, to their true epipolar line."""


@dataclass(frozen=True)
class Scores:
    """Of one scene and number of photos: photos ``placed``, AUC in percent at 5 and 30 degrees,
    focal error in percent; the ``verdict`` on the cameras, "-" where none is placed beside another;
    of the matcher's own matches, over all pairs: CPU seconds a pair, the
    share of right ones, and the robust deviation of these from their epipolar lines in pixels of
    the matched picture. NaN where there are none.
    """

    scene: str
    matcher: str
    photos: int
    placed: int
    auc5: float
    auc30: float
    focal: float
    verdict: str
    cpu_seconds: float
    right: float
    sigma_px: float


def score(scene: Path, count: int, matcher: str, work: Work) -> Scores:
    """Find the cameras of a few photos of a scene, and score them."""
    options = Options(device="cpu", matcher=matcher)
    truth = read_truth(scene / "cameras.json")
    paths = spaced(find_photos([scene / "images"]), count)
    inputs = read_inputs(paths, options, work=work)
    features: Sequence[PhotoFeatures] = find_features(inputs)
    sift = matches = match_photos(inputs, features, options.graph)
    start = time.process_time()
    matches, features = match_by_model(inputs, features, sift, always=matcher != "auto")
    seconds = time.process_time() - start
    seen = predict_scene(inputs, network_pairs(inputs, matches))
    evidence = gather_evidence(Matched(inputs, features, matches, seen), options.focal)
    found = align_scene(inputs, features, evidence, options.align)
    names = [photo.name for photo in inputs.photos]
    cameras = [truth.cameras[name] for name in names]
    true_poses = [c.cam_to_world for c in cameras if c.cam_to_world is not None]
    errors = relative_pose_errors(found.cam_to_world, true_poses)
    focals = [
        K[0, 0] / c.intrinsics[0, 0] - 1 for K, c in zip(found.intrinsics, cameras, strict=True)
    ]
    verdict = judge(inputs.photos, found, learned=inputs.matcher is not None)
    learned = [m for m, before in zip(matches, sift, strict=True) if m is not before]
    residuals = [_residuals(inputs, truth, m) for m in learned if len(m)]
    every = np.concatenate(residuals) if residuals else np.zeros(0)
    right = every[every < RIGHT_PX]
    return Scores(
        scene.resolve().name,
        matcher,
        count,
        sum(pose is not None for pose in found.cam_to_world),
        auc_at(errors.pose_deg, 5),
        auc_at(errors.pose_deg, 30),
        100 * float(np.median(np.abs(focals))),
        "-" if verdict is None else verdict.word,
        seconds / max(len(sift), 1),
        float((every < RIGHT_PX).mean()) if len(every) else np.nan,
        float(MAD_TO_SIGMA * np.median(right)) if len(right) else np.nan,
    )


def _residuals(inputs: Inputs, truth: SceneTruth, pair: PairMatches) -> Array:
    """Return how far matches are from the true epipolar geometry, in pixels of the picture that was
    matched.
    """
    assert inputs.matcher is not None
    i, j = (truth.cameras[inputs.photos[k].name] for k in (pair.i, pair.j))
    assert i.cam_to_world is not None and j.cam_to_world is not None
    pose = invert_rigid(i.cam_to_world) @ j.cam_to_world
    essential = cross_matrix(pose[:3, 3]) @ pose[:3, :3]
    fundamental = np.linalg.inv(i.intrinsics).T @ essential @ np.linalg.inv(j.intrinsics)
    error = np.abs(sampson_px(fundamental, pair.xy_i, pair.xy_j))
    sides = [max(inputs.photos[k].width, inputs.photos[k].height) for k in (pair.i, pair.j)]
    return np.asarray(error * min(1.0, inputs.matcher.long_side / float(np.mean(sides))))


def table(results: Sequence[Scores]) -> str:
    """Return a Markdown table: a row per scene and matcher, AUC@5 / @30 by number of photos, with
    the verdict where that isn't sound.
    """
    counts = sorted({r.photos for r in results})
    head = (
        "scene",
        "matcher",
        *(f"{n} photos" for n in counts),
        "CPU s a pair",
        "right",
        "sigma px",
    )
    lines = []
    names = list(dict.fromkeys(r.scene for r in results))
    matchers = list(dict.fromkeys(r.matcher for r in results))
    for name in [*names, "mean"]:
        for matcher in matchers:
            some = [r for r in results if r.matcher == matcher and name in (r.scene, "mean")]
            cells = []
            for n in counts:
                of_count = [r for r in some if r.photos == n]
                auc5, auc30 = (
                    np.mean([getattr(r, k) for r in of_count]) for k in ("auc5", "auc30")
                )
                told = {r.verdict for r in of_count} - {"sound"} if name != "mean" else set()
                cells.append(" ".join([f"{auc5:.1f} / {auc30:.1f}", *told]))
            cost, right, sigma = (
                np.nanmean([getattr(r, k) for r in some] or [np.nan])
                if np.isfinite([getattr(r, k) for r in some]).any()
                else np.nan
                for k in ("cpu_seconds", "right", "sigma_px")
            )
            lines.append((name, matcher, *cells, f"{cost:.2f}", f"{right:.2f}", f"{sigma:.2f}"))
    return markdown(head, lines)


def main(arguments: Sequence[str]) -> int:
    """Match, align and score."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.matchers", description=__doc__)
    parser.add_argument("scenes", nargs="+", type=Path, metavar="SCENE_DIR")
    parser.add_argument(
        "--photos", type=int, nargs="+", default=[2, 3, 4, 6], help="numbers of photos to take"
    )
    parser.add_argument(
        "--matchers", nargs="+", default=["sift", "auto"], help="as --matcher of run_recon.py"
    )
    parser.add_argument("--work", type=Path, help="folder that keeps what was found")
    parser.add_argument("--json", type=Path, help="file for all figures")
    given = parser.parse_args(arguments)
    logging.getLogger("recon").setLevel(logging.ERROR)
    work, results = Work(given.work), []
    for count in given.photos:
        for scene in given.scenes:
            for matcher in given.matchers:
                results.append(score(scene, count, matcher, work))
                print(results[-1], file=sys.stderr, flush=True)
    print(table(results))
    write_figures(given.json, results=results)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
