"""A minute of video as a phone films it, reconstructed: python -m benchmarks.phone_clip --out DIR.

The clip is rendered once into --cache: a slow walk, half a metre a second, along a block of houses
(benchmarks.scale_scenes, ring-100), upright 1080x1920 stored on its side, HEVC, about 30 frames a
second at uneven times. Ten pictures a second are rendered, at half the size, and each is shown
three times with noise of its own. See benchmarks/README.md for the figures.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from scipy.spatial.transform import Rotation, RotationSpline

from benchmarks.clips import write_clip
from benchmarks.figures import write_figures
from benchmarks.handed_on import parse
from benchmarks.measure import run_measured
from benchmarks.scale_scenes import CACHE, PhotoSet, develop_photo, lay_out
from benchmarks.streets.rendering import Renderer
from benchmarks.streets.walks import STEP
from pointmap.camera import pinhole, rigid
from pointmap.training.rendering.ray_tracing import PinholeCamera
from recon.evaluation.scene import read_truth, score_scene
from recon.export.cameras_json import read_cameras

ROOT = Path(__file__).resolve().parents[1]
WIDTH, HEIGHT = 1080, 1920
FOCAL_PX = 0.72 * HEIGHT
"""A phone's main camera: 26 mm on 35 mm film."""
SHOWN = 3
"""Frames that show one rendered picture."""
_PICTURES_A_SECOND = 10
# Metres a second, and of how many cameras of hand-held photos one is passed through.
_SPEED, _SMOOTH = 0.5, 3
_NOISE_LEVELS = 2.0
_VERSION = 1


def walk(photos: PhotoSet, seconds: float) -> Iterator[PinholeCamera]:
    """Yield the cameras of a smooth walk along some of those of ``photos``."""
    stops = lay_out(photos)[1][::_SMOOTH]
    at = np.arange(len(stops)) * STEP * _SMOOTH
    centre = CubicSpline(at, [stop.cam_to_world[:3, 3] for stop in stops])
    turn = RotationSpline(at, Rotation.from_matrix([stop.cam_to_world[:3, :3] for stop in stops]))
    K = pinhole(FOCAL_PX / 2, WIDTH // 2, HEIGHT // 2)
    for metre in np.arange(0, min(seconds * _SPEED, at[-1]), _SPEED / _PICTURES_A_SECOND):
        pose = rigid(turn(metre).as_matrix(), centre(metre))
        yield PinholeCamera(K, pose, HEIGHT // 2, WIDTH // 2)


def render_clip(cache: Path, *, seconds: float, seed: int) -> Path:
    """Render what is missing of the clip and its truth into ``cache``; return its folder.

    ``clip.mp4``; ``poses.json``: ``cam_to_world`` (4, 4) of each rendered picture.
    """
    folder = cache / f"phone-{seconds:g}s-{seed}-v{_VERSION}"
    clip, poses = folder / "clip.mp4", folder / "poses.json"
    if poses.is_file():
        return folder
    photos = PhotoSet("ring", 100, seed)
    cameras = list(walk(photos, seconds))
    pictures = folder / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    renderer = Renderer(lay_out(photos)[0])
    for number, camera in enumerate(cameras):
        file = pictures / f"{number}.npy"
        if not file.is_file():
            part = file.with_name("part.npy")
            np.save(part, develop_photo(renderer, camera, seed, number)[0])
            part.replace(file)
        if number % 50 == 0:
            print(f"{folder.name}: {number} of {len(cameras)}", flush=True)
    rng = np.random.default_rng([seed, 7])
    steps = rng.uniform(0.6, 1.4, SHOWN * len(cameras)) / (SHOWN * _PICTURES_A_SECOND)
    times = np.cumsum(steps) - steps[0]
    frames = _frames(pictures, len(cameras), rng)
    write_clip(
        clip,
        frames,
        codec="libx265",
        times_s=times.tolist(),
        turn=90,
        keyframe_every=60,
        more={"preset": "ultrafast"},
    )
    shutil.rmtree(pictures)
    matrices = [camera.cam_to_world.tolist() for camera in cameras]
    poses.write_text(json.dumps(matrices) + "\n", encoding="utf-8")
    return folder


def _frames(pictures: Path, count: int, rng: np.random.Generator) -> Iterator[NDArray[np.uint8]]:
    noise = rng.normal(0, _NOISE_LEVELS, (HEIGHT, WIDTH, 1))
    for number in range(count):
        picture = np.load(pictures / f"{number}.npy")
        large = cv2.resize(picture, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
        for _ in range(SHOWN):
            shift = tuple(rng.integers(0, (HEIGHT, WIDTH)))
            noisy = large + np.roll(noise, shift, (0, 1))
            yield np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def write_truth(scene: Path, poses: Path, file: Path) -> None:
    """Write the true cameras of the frames that ``scene`` was made of, as ``read_truth`` reads."""
    matrices = json.loads(poses.read_text(encoding="utf-8"))
    K = pinhole(FOCAL_PX, WIDTH, HEIGHT).tolist()
    images = {
        name: {
            "K": K,
            "cam_to_world": matrices[int(Path(name).stem.rpartition("_")[2]) // SHOWN],
            "width": WIDTH,
            "height": HEIGHT,
        }
        for name in read_cameras(scene / "cameras.json")[0]
    }
    record = {"images": images, "pixel_centre": 0.5}
    file.write_text(json.dumps(record) + "\n", encoding="utf-8")


def main(arguments: Sequence[str]) -> int:
    """Render, reconstruct and score; exit code 1 when there is no scene."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.phone_clip",
        description=__doc__,
    )
    add = parser.add_argument
    add("--out", type=Path, required=True, help="folder for the scene and its log")
    add("--cache", type=Path, default=CACHE, help=f"folder of generated walks ({CACHE})")
    add("--seconds", type=float, default=60.0, help="length of the clip, 115 at most (60)")
    add("--seed", type=int, default=0, help="of everything random (0)")
    add("--json", type=Path, help="file for all figures")
    given, handed_on = parse(parser, arguments)
    clip = render_clip(given.cache, seconds=given.seconds, seed=given.seed)
    given.out.mkdir(parents=True, exist_ok=True)
    scene, log = given.out / "scene", given.out / "scene.log"
    measured = run_measured(
        [
            sys.executable, ROOT / "run_recon.py", clip / "clip.mp4", "--out", scene,
            "--overwrite", *handed_on,
        ],
        log,
        timeout_s=7200,
    )  # fmt: skip
    cost = f"{measured.seconds:.0f} s, {measured.cpu_seconds:.0f} CPU s, {measured.peak_gb:.2f} GB"
    if measured.exit_code != 0:
        print(f"FAILED: exit {measured.exit_code}, see {log}; {cost}")
        return 1
    truth = given.out / "truth.json"
    write_truth(scene, clip / "poses.json", truth)
    scores = score_scene(scene, read_truth(truth))
    auc5 = "-" if scores.poses is None else f"{scores.poses.auc[5]:.1f}"
    print(f"{scores.registered} of {scores.photos} frames, AUC@5 {auc5}; {cost}")
    write_figures(given.json, cost=measured, scores=scores)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
