"""Render the bundled sample photos: python -m pointmap.training.sample_photos.

Ten views on an arc around a courtyard's fountain, with the true cameras. Everything is procedural
and seeded above the seeds of training, so the same command gives the same photos again.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pointmap.commands import run_command
from pointmap.training.generate import parse_size
from pointmap.training.rendering.ray_tracing import PinholeCamera, SceneTracer
from pointmap.training.rendering.render_views import HELD_OUT_SEED
from pointmap.training.rendering.shading import Shader, render_view
from pointmap.training.rendering.trajectories import look_at
from pointmap.training.scenes.courtyard import TARGET, make_courtyard
from pointmap.training.scenes.courtyard_textures import make_courtyard_bank
from pointmap.version import VERSION_LINE

_log = logging.getLogger(__name__)

_JPEG_QUALITY = 92


def arc_cameras(
    rng: np.random.Generator, *, count: int, arc_deg: float, size: tuple[int, int]
) -> list[PinholeCamera]:
    """Hand-held cameras on an arc around the target; size is (height, width)."""
    height, width = size
    focal = 0.86 * width
    K = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    cameras = []
    for n in range(count):
        turn = np.radians(arc_deg * (n / (count - 1) - 0.5) + rng.normal(0, 0.8))
        away = 5.4 + rng.normal(0, 0.15)
        up = 0.75 + 0.35 * np.sin(2.1 * n) + rng.normal(0, 0.05)
        place = TARGET + np.array([away * np.sin(turn), -away * np.cos(turn), up])
        aim = TARGET + rng.normal(0, 0.12, 3) + np.array([0, 0.4, 0.15])
        pose = look_at(place, aim, roll=np.radians(rng.normal(0, 1.0)))
        cameras.append(PinholeCamera(K, pose, height, width))
    return cameras


def develop(linear: Tensor, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return an 8-bit photo (H, W, 3) of linear light (3, H, W): exposure, noise, filmic tone."""
    light = linear.permute(1, 2, 0).double().numpy() * np.exp(rng.normal(0, 0.03))
    light = light * (1 + rng.normal(0, 0.01, 3))
    light += rng.standard_normal(light.shape) * np.sqrt(2e-5 + 2e-4 * np.clip(light, 0, 2))
    x = np.clip(light, 0, None) * 0.7
    # Rational fit of a filmic curve (K. Narkowicz, "ACES filmic tone mapping curve", 2015).
    tone = x * (2.51 * x + 0.03) / (x * (2.43 * x + 0.59) + 0.14)
    return np.asarray(np.clip(tone, 0, 1) ** (1 / 2.2) * 255 + 0.5, np.uint8)


def write_photos(
    out: Path, *, seed: int, count: int, arc_deg: float, size: tuple[int, int], quality: int
) -> None:
    """Render and write ``out/images/*.jpg`` and ``out/cameras.json``.

    quality: 1 is for a quick look, 3 is what is bundled (3x3 rays at edges, soft shadows).
    """
    from PIL import Image

    bank = make_courtyard_bank(seed)
    tracer = SceneTracer(make_courtyard(seed, bank), "cpu")
    shader = Shader(
        tracer, bank, light_samples=1 + 4 * (quality - 1), sky_samples=12 * quality, sharpness=0.4
    )
    rng = np.random.default_rng([seed, 12])
    cameras = arc_cameras(rng, count=count, arc_deg=arc_deg, size=size)
    (out / "images").mkdir(parents=True, exist_ok=True)
    images = {}
    for n, camera in enumerate(cameras):
        with torch.inference_mode():
            linear, _, _ = render_view(tracer, shader, camera, samples=quality)
        name = f"{out.name}_{n:02d}.jpg"
        photo = Image.fromarray(develop(linear, rng))
        photo.save(out / "images" / name, quality=_JPEG_QUALITY, optimize=True)
        images[name] = {
            "K": camera.intrinsics.tolist(),
            "cam_to_world": camera.cam_to_world.tolist(),
            "width": camera.width,
            "height": camera.height,
        }
        _log.info("%s written", name)
    record = {
        "images": images,
        "units": "metres",
        "source": f"rendered by python -m pointmap.training.sample_photos, seed {seed}",
        "licence": "CC0-1.0",
        "ground_truth": True,
        "pixel_centre": 0.5,
        "conventions": "camera axes x right, y down, z forward; cam_to_world maps camera to world",
    }
    (out / "cameras.json").write_text(json.dumps(record, indent=1) + "\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with ``arguments`` (``sys.argv`` by default) and return its exit code."""
    prog = "python -m pointmap.training.sample_photos"
    parser = argparse.ArgumentParser(prog=prog, description=__doc__)
    parser.add_argument("--version", action="version", version=VERSION_LINE)
    add = parser.add_argument
    add("--out", type=Path, default=Path("examples/courtyard"), help="folder (examples/courtyard)")
    add("--seed", type=int, default=HELD_OUT_SEED + 1, help="of courtyard and sensor noise")
    add("--count", type=int, default=10, help="number of photos (10)")
    add("--arc", type=float, default=120.0, help="degrees of the arc (120)")
    add("--size", default="640x480", metavar="WxH", help="pixels of a photo (640x480)")
    add("--quality", type=int, default=3, choices=(1, 2, 3), help="rays by each pixel's side (3)")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")

    def run() -> int:
        write_photos(
            options.out, seed=options.seed, count=options.count, arc_deg=options.arc,
            size=parse_size(options.size), quality=options.quality,
        )  # fmt: skip
        return 0

    return run_command(run)


if __name__ == "__main__":
    sys.exit(main())
