"""What must not be in a scene: python -m benchmarks.left_out SCENE_DIR --out FOLDER [-- ARGUMENTS].

The photos of a scene (``images/``, ``cameras.json``) are reconstructed three times: as they are;
with the left third of each masked; and with a figure in colours that nothing else has walking
through eight of them. Told are the poses' AUC@5, what there is in the masked third (pixels with
depth, observations of points, points of the cloud that no photo shows outside it), and of the cloud
and the mesh what has the figure's colours. ``ARGUMENTS`` are handed to ``run_recon.py``.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.handed_on import parse
from benchmarks.scenes import BenchmarkOptions, run_scene
from pointmap.camera import invert_rigid, project, transform_points
from pointmap.decoding import open_picture
from pointmap.photo_files import find_photos
from recon.evaluation.tables import markdown
from recon.export import load_scene
from recon.scene import Scene

_COLUMNS = (
    "scene",
    "AUC@5",
    "points",
    "triangles",
    "in the masked third",
    "with the figure's colours",
)
_MASKED = 1 / 3
_WALKING = 8
# The figure's height and width in shares of the photo's, and where it starts and ends: against the
# way of the cameras, or it might as well be standing still.
_HEIGHT, _WIDTH, _FROM, _TO = 0.55, 0.14, 0.8, 0.06
# Red and blue above green by more levels than this are the figure's: magenta, light and dark.
_MAGENTA = 60


def main(arguments: Sequence[str]) -> int:
    """Make the photos, run, print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.left_out", description=__doc__)
    parser.add_argument("scene", type=Path, metavar="SCENE_DIR")
    parser.add_argument("--out", type=Path, required=True, help="folder for photos and results")
    given, handed_on = parse(parser, arguments)
    made = given.out / "made"
    masks = _with_masks(given.scene, made / "masks")
    walked = _with_figure(given.scene, made / "walked")
    runs = {
        "as it is": (given.scene, ()),
        "masked third": (given.scene, ("--masks", str(masks))),
        f"figure in {_WALKING}": (walked, ()),
    }
    rows = []
    for name, (scene, own) in runs.items():
        out = given.out / name.replace(" ", "-")
        result = run_scene(scene, out, BenchmarkOptions(recon_arguments=(*own, *handed_on)))
        if result.scores is None or result.scores.poses is None:
            rows.append((name, result.failure or "no poses", *["-"] * (len(_COLUMNS) - 2)))
            continue
        rows.append((name, f"{result.scores.poses.auc[5]:.1f}", *_cells(load_scene(out))))
    print(markdown(_COLUMNS, rows))
    return 0


def _with_masks(scene: Path, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for path in find_photos([scene / "images"]):
        with open_picture(path) as photo:
            mask = np.full((photo.height, photo.width), 255, np.uint8)
        mask[:, : round(mask.shape[1] * _MASKED)] = 0
        Image.fromarray(mask).save(folder / f"{path.name}.png")
    return folder


def _with_figure(scene: Path, folder: Path) -> Path:
    (folder / "images").mkdir(parents=True, exist_ok=True)
    shutil.copy(scene / "cameras.json", folder)
    for k, path in enumerate(find_photos([scene / "images"])):
        if k >= _WALKING:
            shutil.copy(path, folder / "images")
            continue
        with open_picture(path) as photo:
            pixels = np.array(photo.convert("RGB"))
        height, width = pixels.shape[:2]
        figure, shape = _figure(round(_HEIGHT * height), round(_WIDTH * width))
        left = round(width * (_FROM + (_TO - _FROM) * k / (_WALKING - 1)))
        window = pixels[-len(figure) - 4 : -4, left : left + figure.shape[1]]
        window[shape] = figure[shape]
        target = folder / "images" / path.name
        Image.fromarray(pixels).save(target, quality=97)
    return folder


def _figure(height: int, width: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return a person's picture (h, w, 3), patterned as clothes are, and its shape (h, w)."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(60, 255, (24, 12), np.uint8))
    light = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.float64)
    colours = np.stack([light, 0.1 * light, 0.9 * light], axis=-1).astype(np.uint8)
    y, x = np.mgrid[:height, :width] / np.array([height, width])[:, None, None]
    head = ((x - 0.5) / 0.28) ** 2 + ((y - 0.09) / 0.09) ** 2 < 1
    body = (y > 0.19) & (y < 0.6) & (np.abs(x - 0.5) < 0.4)
    legs = (y >= 0.6) & (np.abs(np.abs(x - 0.5) - 0.2) < 0.15)
    return colours, head | body | legs


def _cells(scene: Scene) -> tuple[str, ...]:
    cloud, surface = scene.cloud, scene.surface
    ghosts = [int(_magenta(part).sum()) for part in (cloud.colours, surface.colours)]
    return (
        f"{len(cloud.points):,}",
        f"{len(surface.faces):,}",
        "{:,} pixels, {:,} observations, {:,} points".format(*_in_masked(scene)),
        f"{ghosts[0]:,} points, {ghosts[1]:,} corners",
    )


def _in_masked(scene: Scene) -> tuple[int, int, int]:
    """Return how many pixels with depth, observations, and points are in the masked third alone."""
    pixels, tracks = 0, scene.tracks
    outside = np.zeros(len(scene.cloud.points), bool)
    for view in scene.views:
        pixels += int((view.depth[:, : int(view.depth.shape[1] * _MASKED)] > 0).sum())
        if view.camera.cam_to_world is None:
            continue
        there = transform_points(invert_rigid(view.camera.cam_to_world), scene.cloud.points)
        x, y = project(there, view.camera.intrinsics, view.camera.lens).T
        inside = (there[:, 2] > 0) & (x < view.camera.width) & (y >= 0) & (y < view.camera.height)
        outside |= inside & (x >= view.camera.width * _MASKED)
    widths = np.array([view.camera.width for view in scene.views])
    seen = tracks.xy[:, 0] < np.round(widths[tracks.view_index] * _MASKED)
    return pixels, int(seen.sum()), int((~outside).sum())


def _magenta(colours: NDArray[np.uint8]) -> NDArray[np.bool_]:
    red, green, blue = colours.astype(np.int64).T
    return np.asarray(np.minimum(red, blue) - green > _MAGENTA)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
