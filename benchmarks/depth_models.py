"""Scenes with the maps of a depth model, against those with the network's: benchmarks.depth_models.

The models are stand-ins: the true depth of rendered scenes, distorted as a good model's is. See
benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import recon
from benchmarks.figures import write_figures
from benchmarks.stereo import TrueView, courtyard, generated, seen_by_another
from pointmap.training.rendering.render_views import HELD_OUT_SEED
from recon.depth_models import DepthPrediction
from recon.evaluation.tables import markdown
from recon.options import Options
from recon.prediction.affine_fit import MapKind
from recon.work.content_key import content_key

NOISE = 0.03
"""Standard deviation of the logarithm of a good model's depth, smooth over a third of the photo."""
COLUMNS = ("scene", "depth of single photos", "placed", "focal %", "AbsRel % scene / photo",
           "noise %", "CPU seconds")  # fmt: skip


@dataclass(frozen=True)
class StandIn:
    """A :class:`recon.depth_models.DepthModel` that knows the ``maps`` by the photos' pixels."""

    name: str
    kind: MapKind
    maps: dict[str, NDArray[np.float32]]
    licence: str = "none"

    @property
    def content_key(self) -> str:
        """Equal for equal maps."""
        return content_key("stand-in", 1, self.kind, self.maps)

    def predict(self, pixels: NDArray[np.uint8]) -> DepthPrediction:
        """Return the map of a photo that is known."""
        return DepthPrediction(self.maps[_name(pixels)])


def _name(pixels: NDArray[np.uint8]) -> str:
    return hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()


def noise(shape: tuple[int, int], seed: int) -> NDArray[np.float64]:
    """Return a smooth field (h, w) of mean 0 and standard deviation :data:`NOISE`."""
    import cv2

    coarse = np.random.default_rng(seed).normal(size=(5, 7))
    field = cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC)
    return np.asarray(NOISE * (field - field.mean()) / field.std(), np.float64)


def stand_in(views: Sequence[TrueView], kind: MapKind, *, wrong: bool = False) -> StandIn:
    """Return a good model of these photos; ``wrong``: a third of its maps are other photos' maps,
    mirrored and turned inside out.

    Its scale and shift differ from photo to photo, by a factor of up to 3 and by up to 30 % of the
    median value.
    """
    rng = np.random.default_rng(7)
    maps = {}
    for k, view in enumerate(views):
        depth = np.where(view.depth > 0, view.depth, np.nan) * np.exp(noise(view.depth.shape, k))
        if wrong and k % 3 == 1:
            other = views[(k + 3) % len(views)].depth[:, ::-1]
            depth = 1 / np.where(other > 0, other, np.nan)
        values = 1 / depth if kind == "disparity" else depth
        if kind != "metres":
            middle = np.nanmedian(values)
            values = np.exp(rng.uniform(0, np.log(3))) * (values + rng.uniform(-0.3, 0.3) * middle)
        maps[_name(view.pixels)] = np.nan_to_num(values).astype(np.float32)
    return StandIn(f"{kind}{', a third wrong' if wrong else ''}", kind, maps)


@dataclass(frozen=True)
class Scores:
    """Of one scene: photos ``placed``, median error of focal lengths and AbsRel, both in percent,
    the latter over all pixels whose surface another photo sees, after one scale for all photos
    that were placed and (``abs_rel_each``) one for each; ``noise``: AbsRel of the model's noise on
    the same pixels.
    """

    scene: str
    model: str
    placed: int
    photos: int
    focal: float
    abs_rel: float
    abs_rel_each: float
    noise: float
    cpu_seconds: float


def score(name: str, views: Sequence[TrueView], model: StandIn | None) -> Scores:
    """Reconstruct the photos, with a depth model or with the bundled network alone."""
    with TemporaryDirectory() as folder:
        for k, view in enumerate(views):
            Image.fromarray(view.pixels).save(Path(folder) / f"{k:02}.png")
        start = time.process_time()
        scene = recon.reconstruct(folder, Options(device="cpu"), depth_model=model)
        seconds = time.process_time() - start
        ratios, off, focals = [], [], []
        for k, (view, found) in enumerate(zip(views, scene.views, strict=True)):
            seen = seen_by_another(views, k)
            off.append(np.abs(np.exp(noise(view.depth.shape, k)[seen]) - 1))
            if found.registered:
                use = seen & (found.depth > 0)
                ratios.append(found.depth[use] / view.depth[use])
                focals.append(abs(found.camera.intrinsics[0, 0] / view.intrinsics[0, 0] - 1))
    every = np.concatenate(ratios)
    return Scores(
        name,
        "the network's" if model is None else model.name,
        len(ratios),
        len(views),
        100 * float(np.median(focals)),
        100 * float(np.abs(every / np.median(every) - 1).mean()),
        100 * float(np.concatenate([np.abs(r / np.median(r) - 1) for r in ratios]).mean()),
        100 * float(np.concatenate(off).mean()),
        seconds,
    )


def table(results: Sequence[Scores]) -> str:
    """Return a Markdown table, one row per run."""
    rows = [
        (r.scene, r.model, f"{r.placed}/{r.photos}", f"{r.focal:.2f}",
         f"{r.abs_rel:.2f} / {r.abs_rel_each:.2f}", f"{r.noise:.2f}", f"{r.cpu_seconds:.0f}")
        for r in results
    ]  # fmt: skip
    return markdown(COLUMNS, rows)


def scenes(names: Sequence[str]) -> dict[str, list[TrueView]]:
    """Return the photos of the scenes called ``names``: "courtyard", or "+N" of the generator."""
    return {
        name: courtyard(HELD_OUT_SEED + 21)
        if name == "courtyard"
        else generated(HELD_OUT_SEED + int(name))
        for name in names
    }


def main(arguments: Sequence[str]) -> int:
    """Render, reconstruct and score."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.depth_models", description=__doc__)
    parser.add_argument(
        "--scenes",
        nargs="+",
        default=["+23", "+24", "courtyard"],
        help="courtyard, or the generator's seeds, such as +23",
    )
    parser.add_argument(
        "--models",
        nargs="+",
        default=["network", "disparity", "depth", "wrong"],
        choices=["network", "disparity", "depth", "metres", "wrong"],
        help="what tells the depth of single photos; wrong: disparity, a third of it wrong",
    )
    parser.add_argument("--json", type=Path, help="file for all figures")
    given = parser.parse_args(arguments)
    logging.getLogger("recon").setLevel(logging.ERROR)
    results = []
    for name, views in scenes(given.scenes).items():
        for kind in given.models:
            model = None
            if kind != "network":
                wrong = kind == "wrong"
                model = stand_in(views, "disparity" if wrong else kind, wrong=wrong)
            results.append(score(name, views, model))
            print(table(results[-1:]).splitlines()[-1], file=sys.stderr, flush=True)
    print(table(results))
    write_figures(given.json, results=results)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
