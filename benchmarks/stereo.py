"""Depth before and after refinement, against the truth: python -m benchmarks.stereo.

See benchmarks/README.md for the scenes and the columns.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.figures import write_figures
from benchmarks.scenes import BenchmarkOptions, run_scene
from pointmap.camera import Array, invert_rigid, project, transform_points, unproject
from recon.evaluation.tables import markdown
from recon.stage_results import CONFIRMED, DepthMap
from recon.stereo.refine import refine_depths
from recon.stereo.view import StereoOptions, StereoView

SIZE = (384, 512)
VIEWS = 10
PRIOR_ERROR = 0.1
GOOD_PRIOR_ERROR = 0.01
RIGHT = 0.01
TEXTURED_SCENES = 3
"""How many of the generator's seeds are scored: the first that show enough texture."""
TEXTURE_LEVELS = 2.0
"""Standard deviation in grey levels of 5 x 5 pixels from which they count as textured."""
TEXTURED_SHARE = 0.5
"""Share of textured pixels, among those that two photos see, from which a scene counts as such."""
COLUMNS = (
    "scene",
    "AbsRel % before",
    "after",
    "share within 1 %",
    "confirmed",
    "AbsRel % where kept, before",
    "after",
    "CPU seconds",
)


@dataclass(frozen=True)
class TrueView:
    """One rendered photo with the truth: ``pixels`` (h, w, 3) uint8, ``depth`` (h, w) float32
    along z (0 = sky), K (3, 3) and cam_to_world (4, 4).
    """

    pixels: NDArray[np.uint8]
    depth: NDArray[np.float32]
    intrinsics: Array
    cam_to_world: Array


@dataclass(frozen=True)
class RefinedScores:
    """AbsRel in percent and shares in percent, over all pixels that another photo sees truly.

    ``kept`` are those whose depth no other photo confirmed: their prior, before and as it came out.
    """

    scene: str
    before: float
    after: float
    within: float
    confirmed: float
    kept_before: float
    kept_after: float
    cpu_seconds: float


@dataclass(frozen=True)
class RealScores:
    """A real scene: AbsRel in percent of all placed photos after one scale, without and with
    refinement; None where it failed, ``failure`` says why.
    """

    scene: str
    before: float | None
    after: float | None
    failure: str | None


def courtyard(seed: int, *, views: int = VIEWS, size: tuple[int, int] = SIZE) -> list[TrueView]:
    """Return photos of the sample photos' courtyard under another seed, on an arc of 90 degrees."""
    import torch

    from pointmap.training.rendering.ray_tracing import SceneTracer
    from pointmap.training.rendering.shading import Shader, render_view
    from pointmap.training.sample_photos import arc_cameras, develop
    from pointmap.training.scenes.courtyard import make_courtyard
    from pointmap.training.scenes.courtyard_textures import make_courtyard_bank

    bank = make_courtyard_bank(seed)
    tracer = SceneTracer(make_courtyard(seed, bank), "cpu")
    shader = Shader(tracer, bank, light_samples=1, sky_samples=4, sharpness=0.4)
    rng = np.random.default_rng(seed)
    shots = []
    for camera in arc_cameras(rng, count=views, arc_deg=90.0, size=size):
        with torch.inference_mode():
            linear, depth, _ = render_view(tracer, shader, camera, samples=1)
        pose = np.asarray(camera.cam_to_world, np.float64)
        K = np.asarray(camera.intrinsics, np.float64)
        shots.append(TrueView(develop(linear, rng), depth.numpy(), K, pose))
    return shots


def generated(seed: int, *, views: int = VIEWS, size: tuple[int, int] = SIZE) -> list[TrueView]:
    """Return photos of one of the training generator's scenes, of a seed kept from training."""
    from pointmap.training.rendering.render_views import render_synthetic_scene
    from pointmap.training.scenes.textures import make_texture_bank

    scene = render_synthetic_scene(
        seed, textures=make_texture_bank(seed), size=size, views=views, difficulty=0.2
    )
    return [
        TrueView(
            scene.images[k].permute(1, 2, 0).numpy(),
            scene.depth[k].numpy(),
            scene.intrinsics[k].double().numpy(),
            scene.cam_to_world[k].double().numpy(),
        )
        for k in range(views)
    ]


def wrong_prior(depth: NDArray[np.float32], seed: int, error: float = PRIOR_ERROR) -> DepthMap:
    """Return the truth times a smooth random field whose logarithm has deviation ``error``."""
    import cv2

    coarse = np.random.default_rng(seed).normal(size=(5, 7))
    field = cv2.resize(coarse, depth.shape[::-1], interpolation=cv2.INTER_CUBIC)
    prior = depth * np.exp(error * (field - field.mean()) / field.std())
    return DepthMap(prior.astype(np.float32), np.full(depth.shape, 0.5, np.float32))


def textured_share(views: Sequence[TrueView]) -> float:
    """Return which share of the pixels that another photo sees lies in textured surroundings."""
    import cv2

    textured = []
    for k, view in enumerate(views):
        grey = cv2.cvtColor(view.pixels, cv2.COLOR_RGB2GRAY).astype(np.float32)
        mean, square = cv2.blur(grey, (5, 5)), cv2.blur(grey * grey, (5, 5))
        rough = square - mean * mean > TEXTURE_LEVELS**2
        textured.append(rough[seen_by_another(views, k)])
    return float(np.concatenate(textured).mean())


def seen_by_another(views: Sequence[TrueView], index: int) -> NDArray[np.bool_]:
    """Return which pixels (h, w) of a photo show a surface that another photo sees, too."""
    view = views[index]
    world = transform_points(view.cam_to_world, unproject(view.depth, view.intrinsics))
    seen = np.zeros(view.depth.shape, bool)
    height, width = view.depth.shape
    for j, other in enumerate(views):
        if j == index:
            continue
        points = transform_points(invert_rigid(other.cam_to_world), world)
        xy = project(points, other.intrinsics)
        with np.errstate(invalid="ignore"):
            inside = np.all((xy >= 0) & (xy < [width, height]), axis=-1)
        column, row = np.moveaxis(np.where(inside[..., None], xy, 0).astype(int), -1, 0)
        z = points[..., 2]
        seen |= inside & (np.abs(other.depth[row, column] - z) < 0.01 * np.abs(z))
    return seen & (view.depth > 0)


def score_rendered(
    name: str, views: Sequence[TrueView], error: float = PRIOR_ERROR, device: str = "cpu"
) -> RefinedScores:
    """Refine a wrong prior with the true cameras, without scene points, and score it."""
    none = np.zeros(0, np.int64)
    given = [
        StereoView(
            view.pixels,
            view.intrinsics,
            view.cam_to_world,
            wrong_prior(view.depth, k, error),
            np.zeros((0, 3)),
            none,
        )
        for k, view in enumerate(views)
    ]
    start = time.process_time()
    refined = list(refine_depths(given, options=StereoOptions(), device=device))
    seconds = time.process_time() - start
    before, after, sure = [], [], []
    for k, view in enumerate(views):
        seen = seen_by_another(views, k)
        truth = view.depth[seen]
        before.append(np.abs(given[k].prior.depth[seen] / truth - 1))
        after.append(np.abs(refined[k].depth[seen] / truth - 1))
        sure.append(refined[k].confidence[seen] > CONFIRMED)
    b, a, confirmed = (np.concatenate(part) for part in (before, after, sure))
    return RefinedScores(
        name,
        100 * float(b.mean()),
        100 * float(a.mean()),
        100 * float((a <= RIGHT).mean()),
        100 * float(confirmed.mean()),
        100 * float(b[~confirmed].mean()) if (~confirmed).any() else 0.0,
        100 * float(a[~confirmed].mean()) if (~confirmed).any() else 0.0,
        seconds,
    )


def rendered_scenes() -> Iterator[tuple[str, list[TrueView], float]]:
    """Yield name, photos and error of the prior: the courtyard, generated scenes with texture, and
    the first without, which is also given a good prior.
    """
    from pointmap.training.rendering.render_views import HELD_OUT_SEED

    yield "courtyard", courtyard(HELD_OUT_SEED + 21), PRIOR_ERROR
    textured, plain, seed = 0, False, HELD_OUT_SEED + 23
    while textured < TEXTURED_SCENES or not plain:
        views = generated(seed)
        share = textured_share(views)
        name = f"seed +{seed - HELD_OUT_SEED}, {100 * share:.0f} % textured"
        if share < TEXTURED_SHARE and not plain:
            plain = True
            yield name, views, PRIOR_ERROR
            yield f"{name}, good prior", views, GOOD_PRIOR_ERROR
        if share >= TEXTURED_SHARE and textured < TEXTURED_SCENES:
            textured += 1
            yield name, views, PRIOR_ERROR
        seed += 1


def seeded_scenes(seeds: Sequence[int]) -> Iterator[tuple[str, list[TrueView], float]]:
    """Yield name, photos and error of the prior of generated scenes, ``seeds`` counted from the
    first that is kept from training.
    """
    from pointmap.training.rendering.render_views import HELD_OUT_SEED

    for seed in seeds:
        views = generated(HELD_OUT_SEED + seed)
        yield f"seed +{seed}, {100 * textured_share(views):.0f} % textured", views, PRIOR_ERROR


def score_real(scene: Path, out: Path) -> RealScores:
    """Reconstruct a scene folder with true depth twice, without and with refinement."""
    found: list[float | None] = []
    for flag in ("--no-refine-depth", "--refine-depth"):
        options = BenchmarkOptions(recon_arguments=(flag,))
        result = run_scene(scene, out / f"{scene.resolve().name}{flag}", options)
        depth = result.scores.depth_one_scale if result.scores else None
        if depth is None or depth.errors is None:
            failure = result.failure or "the scene has no true depth"
            return RealScores(scene.resolve().name, None, None, failure)
        found.append(100 * depth.errors.abs_rel)
    return RealScores(scene.resolve().name, found[0], found[1], None)


def table(results: Sequence[RefinedScores | RealScores]) -> str:
    """Return a Markdown table, one row per scene."""
    rows: list[tuple[str, ...]] = []
    for result in results:
        if isinstance(result, RefinedScores):
            _, *figures = asdict(result).values()
            rows.append((result.scene, *(f"{figure:.2f}" for figure in figures[:-1]),
                         f"{figures[-1]:.0f}"))  # fmt: skip
        elif result.failure is not None:
            rows.append((result.scene, f"FAILED: {result.failure}", *["-"] * 6))
        else:
            rows.append((result.scene, f"{result.before:.2f}", f"{result.after:.2f}", *["-"] * 5))
    return markdown(COLUMNS, rows)


def main(arguments: Sequence[str]) -> int:
    """Render, refine and score; exit code 1 when a real scene failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stereo", description=__doc__)
    parser.add_argument("scenes", nargs="*", type=Path, metavar="SCENE_DIR")
    parser.add_argument("--out", type=Path, help="folder for the results of SCENE_DIRs")
    parser.add_argument("--json", type=Path, help="file for all figures")
    parser.add_argument("--seeds", nargs="+", type=int, help="these generated scenes alone")
    given = parser.parse_args(arguments)
    if given.scenes and given.out is None:
        parser.error("SCENE_DIR needs --out, a folder for what is reconstructed")
    results: list[RefinedScores | RealScores] = []
    scenes = rendered_scenes() if given.seeds is None else seeded_scenes(given.seeds)
    for name, views, error in scenes:
        results.append(score_rendered(name, views, error))
        print(table(results[-1:]).splitlines()[-1], file=sys.stderr, flush=True)
    results += [score_real(scene, given.out) for scene in given.scenes]
    print(table(results))
    write_figures(given.json, results=results)
    return int(any(isinstance(r, RealScores) and r.failure is not None for r in results))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
