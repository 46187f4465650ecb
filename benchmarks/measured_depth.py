"""How straight a sensor's depth is, and what the best a reconstruction can score against it.

    python -m benchmarks.measured_depth SCENE_DIR [--tilt-of SCENE_DIR] [--model MODEL... --out DIR]

Maps of one photo are seen from the others by the true cameras: where both show one surface they
should agree. The depth of a sensor whose axis is not the photo's is z (1 + n . (X / z, Y / z)) for
a point (X, Y, z) of the photo's camera; the tilt n that makes the maps agree best is found
(``--tilt-of``: from another scene of the same sensor). Triangulated key points, of any COLMAP model
folder, are scored as a mesh is, against depth as it is and straightened. ``--out`` writes the scene
with straightened depth, for ``python -m recon.evaluation mesh SCENE_OUT --truth DIR/cameras.json``.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pycolmap
from numpy.typing import NDArray
from PIL import Image

from pointmap.camera import (
    Array,
    invert_rigid,
    pixel_centres,
    pixel_rays,
    project,
    transform_points,
    unproject,
)
from recon.evaluation.mesh import RIGHT_METRES, RIGHT_SHARE
from recon.evaluation.poses import similarity_of_cameras
from recon.evaluation.scene import SceneTruth, read_depth_truth, read_truth
from recon.evaluation.tables import markdown

_MAPS = 20
_SAMPLES = 6000
# Two maps show one surface where they differ by less than this, in natural logarithms; a pixel is
# at an outline where depths beside it spread by more than that share.
_ONE_SURFACE = 0.12
_OUTLINE = 0.03
# Steps of the fit, and the residual, in logarithms, from which a pixel counts less (Huber).
_STEPS = 5
_HUBER = 0.01
_SCALES = np.linspace(0.95, 1.05, 101)


@dataclass(frozen=True)
class MeasuredMap:
    """Depth (h, w) as measured, 0 where it was not or at an outline; K (3, 3); the true pose."""

    depth: Array
    intrinsics: Array
    cam_to_world: Array


@dataclass(frozen=True)
class _Agreement:
    """Pixels of maps that others show, too: slopes (X / z, Y / z) in both, (N, 2), depth seen from
    the other's camera and measured there, (N,), both straightened.
    """

    own: Array
    other: Array
    seen: Array
    measured: Array


def main(arguments: Sequence[str]) -> int:
    """Fit, score, print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.measured_depth")
    parser.add_argument("scene", type=Path, metavar="SCENE_DIR", help="scene with measured depth")
    parser.add_argument(
        "--tilt-of", type=Path, metavar="SCENE_DIR", help="scene to find the tilt from (this one)"
    )
    parser.add_argument(
        "--model", type=Path, nargs="*", default=[], help="COLMAP model folders to score"
    )
    parser.add_argument("--out", type=Path, help="folder for the scene with straightened depth")
    given = parser.parse_args(arguments)
    truth = read_truth(_cameras(given.scene))
    maps = measured_maps(truth)
    other = maps if given.tilt_of is None else measured_maps(read_truth(_cameras(given.tilt_of)))
    tilt = fit_tilt(other)
    straight, level = [f"{100 * agreement(maps, t):.1f}" for t in (np.zeros(2), tilt)]
    right, down = np.degrees(np.arctan(tilt))
    print(f"Tilt: {right:.2f} degrees to the right, {down:.2f} down.")
    print(f"Maps agree in {straight} % of what two photos see; straightened in {level} %.\n")
    rows = [
        (str(model), *[f"{100 * s:.1f}" for s in score_key_points(model, truth, tilt)])
        for model in given.model
    ]
    if rows:
        print(markdown(("model", "key points right, %", "straightened", "at the best scale"), rows))
    if given.out is not None:
        write_straightened(given.scene, truth, tilt, given.out)
    return 0


def measured_maps(truth: SceneTruth) -> list[MeasuredMap]:
    """Return at most 20 maps, spaced evenly, without what lies at outlines."""
    names = [name for name in truth.depth_files if name in truth.cameras]
    chosen = np.unique(np.linspace(0, len(names) - 1, min(_MAPS, len(names))).round().astype(int))
    maps = []
    for name in (names[i] for i in chosen):
        camera, depth = truth.cameras[name], read_depth_truth(truth, name)
        assert depth is not None and camera.cam_to_world is not None
        K = camera.intrinsics_at(depth.shape[1], depth.shape[0])
        maps.append(MeasuredMap(_without_outlines(depth), K, camera.cam_to_world))
    return maps


def fit_tilt(maps: Sequence[MeasuredMap]) -> Array:
    """Return the tilt n (2,) with which maps agree best, 0 for a sensor that looks along the
    photo's axis: Gauss-Newton on the logarithms of depth, with Huber's weights.
    """
    tilt = np.zeros(2)
    for _ in range(_STEPS):
        found = _agreement(maps, tilt)
        residuals = np.log(found.seen / found.measured)
        slopes = _by_tilt(found.other, tilt) - _by_tilt(found.own, tilt)
        step = np.zeros(2)
        for _ in range(_STEPS):
            left = np.abs(residuals + slopes @ step)
            weights = np.sqrt(np.minimum(1, _HUBER / np.maximum(left, 1e-12)))
            step = np.linalg.lstsq(weights[:, None] * slopes, -weights * residuals, rcond=None)[0]
        tilt = tilt + step
    return tilt


def agreement(maps: Sequence[MeasuredMap], tilt: Array) -> float:
    """Return the share of what two maps show in which they agree as a mesh has to."""
    found = _agreement(maps, tilt)
    return float(_right(found.seen, found.measured).mean())


def straightened(depth: Array, intrinsics: Array, tilt: Array) -> Array:
    """Return z (h, w) along the photo's axis of depth along the sensor's (0 stays unknown)."""
    height, width = depth.shape
    slopes = pixel_rays(pixel_centres(width, height), intrinsics)[..., :2]
    return depth / (1 + slopes @ tilt)


def score_key_points(model: Path, truth: SceneTruth, tilt: Array) -> tuple[float, float, float]:
    """Return the share of observed key points at the right depth: as it was measured; straightened;
    and straightened, at the scale of all that suits best.

    Points that three photos and more observe, in places where measured depth has no outline. The
    model is brought into the truth's frame by the cameras alone.
    """
    found = pycolmap.Reconstruction(model)
    placed = {
        image.name: image
        for image in found.images.values()
        if image.has_pose and image.name in truth.cameras
    }
    poses = {name: _cam_to_world(image) for name, image in placed.items()}
    known = [truth.cameras[name].cam_to_world for name in placed]
    fit = similarity_of_cameras(list(poses.values()), [pose for pose in known if pose is not None])
    scale = float(np.cbrt(np.linalg.det(fit[:3, :3])))
    depths: list[Array] = []
    for name, image in placed.items():
        depth = read_depth_truth(truth, name)
        if depth is None:
            continue
        ids = {p.point3D_id: p.xy for p in image.points2D if p.has_point3D()}
        ids = {i: xy for i, xy in ids.items() if found.points3D[i].track.length() >= 3}
        if not ids:
            continue
        K = truth.cameras[name].intrinsics_at(depth.shape[1], depth.shape[0])
        camera = truth.cameras[name]
        x, y = np.array(list(ids.values())).T
        columns = (x * depth.shape[1] / camera.width).astype(int).clip(0, depth.shape[1] - 1)
        rows = (y * depth.shape[0] / camera.height).astype(int).clip(0, depth.shape[0] - 1)
        points = np.array([found.points3D[i].xyz for i in ids])
        z = scale * transform_points(invert_rigid(poses[name]), points)[:, 2]
        plain = _without_outlines(depth)
        kept = plain[rows, columns] > 0
        level = straightened(plain, K, tilt)
        depths.append(np.stack([z, plain[rows, columns], level[rows, columns]])[:, kept])
    z, as_it_is, straight = np.concatenate(depths, axis=1)
    by_scale = [float(_right(scale * z, straight).mean()) for scale in _SCALES]
    return float(_right(z, as_it_is).mean()), float(_right(z, straight).mean()), max(by_scale)


def write_straightened(scene: Path, truth: SceneTruth, tilt: Array, out: Path) -> None:
    """Write a scene's cameras and its depth, straightened, as 16-bit PNG in the truth's steps."""
    (out / "depth").mkdir(parents=True, exist_ok=True)
    shutil.copy(_cameras(scene), out / "cameras.json")
    for name in truth.depth_files:
        depth = read_depth_truth(truth, name)
        assert depth is not None
        K = truth.cameras[name].intrinsics_at(depth.shape[1], depth.shape[0])
        steps = np.round(straightened(depth, K, tilt) / truth.depth_unit).astype(np.uint16)
        Image.fromarray(steps).save(out / "depth" / f"{Path(name).stem}.png")


def _agreement(maps: Sequence[MeasuredMap], tilt: Array) -> _Agreement:
    level = [straightened(m.depth, m.intrinsics, tilt) for m in maps]
    random = np.random.default_rng(0)
    parts: list[tuple[Array, Array, Array, Array]] = []
    for i, own in enumerate(maps):
        at = np.flatnonzero(level[i])
        at = random.choice(at, min(_SAMPLES, len(at)), replace=False)
        points = unproject(level[i], own.intrinsics).reshape(-1, 3)[at]
        slopes = points[:, :2] / points[:, 2:]
        world = transform_points(own.cam_to_world, points)
        for j, other in enumerate(maps):
            if i == j:
                continue
            there = transform_points(invert_rigid(other.cam_to_world), world)
            height, width = other.depth.shape
            ahead = there[:, 2] > 0
            with np.errstate(divide="ignore", invalid="ignore"):
                x, y = np.floor(project(there, other.intrinsics)).T
            seen = ahead & (x >= 0) & (x < width) & (y >= 0) & (y < height)
            z = np.zeros(len(there))
            z[seen] = level[j][y[seen].astype(int), x[seen].astype(int)]
            seen &= z > 0
            seen[seen] = np.abs(np.log(there[seen, 2] / z[seen])) < _ONE_SURFACE
            beside = there[seen, :2] / there[seen, 2:]
            parts.append((slopes[seen], beside, there[seen, 2], z[seen]))
    own_slopes, other_slopes, seen_depth, measured = map(np.concatenate, zip(*parts, strict=True))
    return _Agreement(own_slopes, other_slopes, seen_depth, measured)


def _by_tilt(slopes: Array, tilt: Array) -> Array:
    # Derivative of -ln(straightened depth) by the tilt, (N, 2).
    return slopes / (1 + slopes @ tilt)[:, None]


def _right(found: Array, measured: Array) -> NDArray[np.bool_]:
    return np.abs(found - measured) < np.maximum(RIGHT_METRES, RIGHT_SHARE * measured)


def _without_outlines(depth: Array) -> Array:
    square = np.ones((3, 3), np.uint8)
    spread = cv2.dilate(depth, square) - cv2.erode(depth, square)
    return np.where(spread <= _OUTLINE * depth, depth, 0)


def _cam_to_world(image: pycolmap.Image) -> Array:
    world_to_cam = np.eye(4)
    world_to_cam[:3] = image.cam_from_world().matrix()
    return invert_rigid(world_to_cam)


def _cameras(scene: Path) -> Path:
    return scene / "cameras.json"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
