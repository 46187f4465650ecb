"""What test-time adaptation changes: python -m benchmarks.adaptation SCENE_DIR... --json FILE.

Each scene (a folder with images/, see README.md) is reconstructed up to its depth maps, the
network adapted, and depth made once more. Held-out photos are those that adaptation never saw.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.figures import write_figures
from pointmap.camera import Array, scale_intrinsics
from pointmap.images import ResizedPhoto
from recon.alignment.align_scene import align_scene
from recon.depth.adaptation import AdaptOptions, Agreement, adapt, hide_blocks, refill
from recon.depth.anchored_prior import fuse_depths, upsample_prior
from recon.depth.dense_depths import dense_depths
from recon.evaluation.tables import markdown
from recon.inputs import read_inputs
from recon.options import Options
from recon.prediction.network_pairs import network_pairs
from recon.prediction.predict_scene import predict_scene
from recon.stage_results import CONFIRMED, DepthMap, PhotoPrior
from recon.two_view.find_features import find_features
from recon.two_view.gather_evidence import Matched, gather_evidence
from recon.two_view.match_photos import match_photos

COLUMNS = (
    "scene",
    "held out",
    "kept",
    "CPU s",
    "reprojection %, one scale",
    "reprojection %, tied",
    "reprojection %, filled",
    "network AbsRel",
    "tied AbsRel",
    "holes AbsRel",
    "scene AbsRel",
)


@dataclass(frozen=True)
class DepthErrors:
    """AbsRel against confirmed depth: the network's on held-out photos (``network`` after one
    median scale per photo, ``tied`` to the scene points), and of all photos where confirmed depth
    is hidden in blocks and filled from the prior (``holes``); ``scene``: of the final depth maps of
    all photos against rendered truth, where there is one.
    """

    network: float
    tied: float
    holes: float
    scene: float | None


@dataclass(frozen=True)
class AdaptationResult:
    """One scene's outcome; ``cpu_seconds`` are of the adaptation with its predictions and guard."""

    scene: str
    photos: int
    held_out: int
    kept: bool
    agreement: tuple[Agreement | None, Agreement | None]
    cpu_seconds: float
    before: DepthErrors
    after: DepthErrors


def run_scene(folder: Path, *, seconds: float) -> AdaptationResult:
    """Reconstruct, adapt, reconstruct the depth again, and compare."""
    options = Options(device="cpu", matcher="sift")
    inputs = read_inputs([folder / "images"], options)
    features = find_features(inputs)
    matches = match_photos(inputs, features, options.graph)
    seen = predict_scene(inputs, network_pairs(inputs, matches))
    evidence = gather_evidence(Matched(inputs, features, matches, seen), options.focal)
    alignment = align_scene(inputs, features, evidence, options.align)
    dense = dense_depths(
        inputs,
        alignment,
        evidence,
        long_side=options.depth_size,
        prior=options.depth,
        stereo=options.stereo,
    )
    frames, depths = dense.frames, dense.depths
    start = time.process_time()
    result = adapt(
        inputs,
        alignment,
        dense,
        lambda n: predict_scene(replace(inputs, network=n), seen.pairs).priors,
        AdaptOptions(seconds),
    )
    cpu = time.process_time() - start
    tied = fuse_depths(result.priors, alignment, frames, options=options.depth)
    again = refill(depths, tied) if result.kept else depths
    truth = rendered_truth(folder, frames)

    def errors(priors: list[PhotoPrior], final: Sequence[DepthMap | None]) -> DepthErrors:
        raw = [upsample_prior(p, *f.pixels.shape[:2]) for p, f in zip(priors, frames, strict=True)]
        tied = fuse_depths(priors, alignment, frames, options=options.depth)
        held, all_of_them = result.held_out, range(len(frames))
        return DepthErrors(
            network=_mean(abs_rel(raw[k], _sure(depths[k]), scaled=True) for k in held),
            tied=_mean(abs_rel(tied[k], _sure(depths[k])) for k in held),
            holes=_mean(_hole_error(depths[k], tied[k]) for k in all_of_them),
            scene=None
            if truth is None
            else _mean(abs_rel(final[k], truth[k], scaled=True) for k in all_of_them),
        )

    return AdaptationResult(
        scene=folder.resolve().name,
        photos=len(frames),
        held_out=len(result.held_out),
        kept=result.kept,
        agreement=(result.before, result.after),
        cpu_seconds=cpu,
        before=errors(seen.priors, depths),
        after=errors(result.priors, again),
    )


def abs_rel(depth: DepthMap | None, truth: Array, *, scaled: bool = False) -> float | None:
    """Return mean |depth - truth| / truth where both are known; ``scaled``: by the median ratio."""
    if depth is None:
        return None
    both = (depth.depth > 0) & (truth > 0)
    if not both.any():
        return None
    ratio = depth.depth[both] / truth[both]
    return float(np.abs(ratio / (np.median(ratio) if scaled else 1.0) - 1).mean())


def rendered_truth(folder: Path, frames: Sequence[ResizedPhoto]) -> list[Array] | None:
    """Return the exact depth of the bundled sample photos at the frames' sizes; None for others."""
    if not folder.resolve().match("examples/courtyard"):
        return None
    from pointmap.training.rendering.ray_tracing import PinholeCamera, SceneTracer
    from pointmap.training.rendering.render_views import HELD_OUT_SEED
    from pointmap.training.scenes.courtyard import make_courtyard
    from pointmap.training.scenes.courtyard_textures import make_courtyard_bank

    seed = HELD_OUT_SEED + 1
    tracer = SceneTracer(make_courtyard(seed, make_courtyard_bank(seed)), "cpu")
    known = json.loads((folder / "cameras.json").read_text())["images"]
    depths = []
    for frame in frames:
        camera, (height, width) = known[frame.photo.name], frame.pixels.shape[:2]
        K = scale_intrinsics(camera["K"], frame.scale_x, frame.scale_y)
        depth, _ = tracer.trace_view(
            PinholeCamera(K, np.array(camera["cam_to_world"]), height, width)
        )
        depths.append(torch.where(depth.isfinite(), depth, 0.0).double().numpy())
    return depths


def _sure(depth: DepthMap | None) -> Array:
    """Return the depth that another photo confirmed, 0 elsewhere."""
    assert depth is not None
    return np.where(depth.confidence > CONFIRMED, depth.depth, 0).astype(np.float64)


def _hole_error(depth: DepthMap | None, prior: DepthMap | None) -> float | None:
    """Return AbsRel where confirmed depth is hidden, in blocks of a chequerboard, and filled."""
    if depth is None or prior is None:
        return None
    visible, hidden = hide_blocks(depth)
    return abs_rel(refill([visible], [prior])[0], _sure(hidden))


def _mean(values: Iterable[float | None]) -> float:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else float("nan")


def table(results: Sequence[AdaptationResult]) -> str:
    """Return a Markdown table, one row per scene; "a to b" is before and after."""
    rows = []
    for r in results:
        first, last = r.agreement
        if first is None or last is None:
            guard = ["-"] * 3
        else:
            both = zip(astuple(first), astuple(last), strict=True)
            guard = [f"{a:.2f} to {b:.2f}" for a, b in both]
        depth = [
            "-" if a is None or b is None else f"{a:.4f} to {b:.4f}"
            for a, b in zip(astuple(r.before), astuple(r.after), strict=True)
        ]
        held = f"{r.held_out} of {r.photos}"
        rows.append(
            (r.scene, held, "yes" if r.kept else "no", f"{r.cpu_seconds:.0f}", *guard, *depth)
        )
    return markdown(COLUMNS, rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all scenes and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.adaptation", description=__doc__)
    parser.add_argument("scenes", nargs="+", type=Path, metavar="SCENE_DIR")
    parser.add_argument("--seconds", type=float, default=300.0, help="budget of each scene")
    parser.add_argument("--json", type=Path, help="file for all figures")
    given = parser.parse_args(arguments)
    results = []
    for scene in given.scenes:
        results.append(run_scene(scene, seconds=given.seconds))
        print(table(results).splitlines()[-1], file=sys.stderr, flush=True)
    print(table(results))
    write_figures(given.json, results=results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
