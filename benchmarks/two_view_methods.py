"""The three relative-pose methods on pairs of synthetic photos: accuracy by overlap, and cost."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from benchmarks.pointmap_matches import match_pointmaps
from benchmarks.pointmap_scenes import Errors, RoomScene, make_room, predictions
from pointmap.camera import (
    Array,
    invert_rigid,
    pixel_centres,
    pixel_rays,
    project,
    rigid,
    transform_points,
)
from pointmap.inference import PairPrediction
from recon.prediction.pair_sketch import sketch_pair
from recon.prediction.photo_prior import PriorAccumulator
from recon.stage_results import PairMatches, RelativePose
from recon.two_view.epipolar import angles_between_deg
from recon.two_view.pointmap_pose import pointmap_poses
from recon.two_view.pose_from_pointmaps import both_frames, pnp, procrustes
from recon.two_view.relative_pose import essential

METHODS = ("procrustes", "pnp", "essential")
BINS = ((0.0, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1.01))
_PAIRS_PER_BIN = 12
_PHOTOS = 30
CLEAN = Errors(turn_deg=0.0, baseline=0.0, outliers=0.0)
"""No error of pose and no wild pixels; depth and focal length err as ever."""
_WIDTH, _HEIGHT = 224, 168


@dataclass(frozen=True)
class MethodFigures:
    """Over the pairs of one bin: median rotation and direction errors, pairs without a pose,
    milliseconds of CPU per pair.
    """

    overlap: tuple[float, float]
    method: str
    pairs: int
    rotation_deg: float
    direction_deg: float
    failed: int
    milliseconds: float


def by_overlap() -> tuple[list[MethodFigures], float]:
    """Return the figures of all bins and methods, and the largest rotation, in degrees, between
    what PnP and Procrustes say of the same clean pair.
    """
    scene = make_room(_PHOTOS, _WIDTH, _HEIGHT, span_deg=230)
    rng = np.random.default_rng(0)
    pairs = [(i, j) for i in range(_PHOTOS) for j in range(i + 1, _PHOTOS)]
    for method in METHODS:  # libraries are loaded before anything is timed
        forth, back = predictions(scene, [(0, 1), (1, 0)])
        relative_pose(method, forth, back, scene)
    overlaps = {pair: overlap(scene, *pair) for pair in pairs}
    figures, apart = [], 0.0
    for low, high in BINS:
        inside = [pair for pair in pairs if low <= overlaps[pair] < high]
        chosen = [inside[k] for k in rng.permutation(len(inside))[:_PAIRS_PER_BIN]]
        results: dict[str, list[tuple[float, float, float]]] = {m: [] for m in METHODS}
        for i, j in chosen:
            truth = invert_rigid(scene.cam_to_world[i]) @ scene.cam_to_world[j]
            forth, back = predictions(scene, [(i, j), (j, i)], CLEAN)
            found = {}
            for method in METHODS:
                start = time.process_time()
                pose = relative_pose(method, forth, back, scene)
                spent = 1000 * (time.process_time() - start)
                found[method] = pose
                errors = (np.inf, np.inf)
                if pose is not None:
                    errors = angles_between_deg(pose.cam2_to_cam1, truth)
                results[method].append((*errors, spent))
            if found["pnp"] is not None and found["procrustes"] is not None:
                both = found["pnp"].cam2_to_cam1, found["procrustes"].cam2_to_cam1
                apart = max(apart, angles_between_deg(*both)[0])
        figures += [_figures((low, high), m, results[m]) for m in METHODS if results[m]]
    return figures, apart


def _figures(
    bounds: tuple[float, float], method: str, results: list[tuple[float, float, float]]
) -> MethodFigures:
    rotation, direction, spent = np.array(results).T
    return MethodFigures(
        bounds,
        method,
        len(results),
        float(np.median(rotation)),
        float(np.median(direction)),
        int(np.isinf(rotation).sum()),
        float(spent.mean()),
    )


def relative_pose(
    method: str, forth: PairPrediction, back: PairPrediction, scene: RoomScene
) -> RelativePose | None:
    """Return the pose of a pair by one method, from the predictions in both orders."""
    if method == "procrustes":
        return procrustes(*both_frames(forth, back))
    if method == "pnp":
        thin = np.s_[::3, ::3]
        sure = forth.confidence_j[thin] > 3
        pixels = pixel_centres(_WIDTH, _HEIGHT)[thin]
        return pnp(forth.points_j[thin][sure].astype(float), pixels[sure], scene.intrinsics)
    return essential(match_pointmaps(forth, back, scene.photos), scene.intrinsics, scene.intrinsics)


def overlap(scene: RoomScene, i: int, j: int) -> float:
    """Return the share of photo j's pixels whose surface photo i sees."""
    height, width = scene.depth.shape[1:]
    rays = pixel_rays(pixel_centres(width, height), scene.intrinsics)
    j_to_i = invert_rigid(scene.cam_to_world[i]) @ scene.cam_to_world[j]
    points = transform_points(j_to_i, rays * scene.depth[j][..., None])
    xy = project(points, scene.intrinsics)
    inside = np.all(np.isfinite(xy) & (xy >= 0) & (xy < [width, height]), axis=-1)
    column, row = np.where(inside[..., None], xy, 0).astype(int).transpose(2, 0, 1)
    seen = inside & (points[..., 2] < 1.05 * scene.depth[i][row, column])
    return float(np.mean(seen))


def degenerate_pairs() -> list[tuple[str, str, str]]:
    """Return rows (case, method, what it reports) of pairs that don't tell the relative pose."""
    scene = make_room(2, _WIDTH, _HEIGHT)
    eye, turn = scene.cam_to_world[0], np.radians(20)
    c, s = np.cos(turn), np.sin(turn)
    turned = eye @ rigid([[c, 0, s], [0, 1, 0], [-s, 0, c]], np.zeros(3))
    away = eye @ rigid([[-1, 0, 0], [0, 1, 0], [0, 0, -1]], [0.0, 0.0, -1.0])
    rows = []
    for case, second in (("pure rotation", turned), ("no overlap", away)):
        pair = _retaken(scene, second)
        forth, back = predictions(pair, [(0, 1), (1, 0)], CLEAN)
        for method in METHODS:
            rows.append((case, method, _told(relative_pose(method, forth, back, pair))))
        rows.append((case, "pointmaps' trust", _trust(pair, forth, back)))
    rows.append(("plane", "essential", _told(_plane(scene))))
    return rows


def _retaken(scene: RoomScene, second: Array) -> RoomScene:
    from benchmarks.pointmap_scenes import cast_depth

    depth = cast_depth(second, scene.intrinsics, _WIDTH, _HEIGHT)
    poses = np.stack([scene.cam_to_world[0], second])
    return RoomScene(poses, scene.intrinsics, np.stack([scene.depth[0], depth]))


def _plane(scene: RoomScene) -> RelativePose | None:
    """Return the pose from exact positions of points on one wall, half a pixel of noise."""
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.uniform(-1, 1, (400, 2)), np.full((400, 1), 1.5)], axis=1)
    K = scene.intrinsics
    xy = [project(transform_points(invert_rigid(T), points), K) for T in scene.cam_to_world]
    xy = [p + rng.normal(0, 0.2, p.shape) for p in xy]
    seen = np.isfinite(xy[0]).all(1) & np.isfinite(xy[1]).all(1)
    index = np.arange(int(seen.sum()))
    return essential(PairMatches(0, 1, xy[0][seen], xy[1][seen], index, index, 0.2), K, K)


def _told(pose: RelativePose | None) -> str:
    if pose is None:
        return "no pose"
    flags = ", ".join(sorted(pose.flags)) or "nothing"
    return f"{flags}; score {pose.score:.2f}" + (", a second pose" if pose.alternative is not None
                                                 else "")  # fmt: skip


def _trust(scene: RoomScene, forth: PairPrediction, back: PairPrediction) -> str:
    photos = scene.photos
    accumulator = PriorAccumulator(photos)
    for prediction in (forth, back):
        accumulator.add(prediction)
    priors = accumulator.finish()
    sketches = [sketch_pair(p, photos[p.i]) for p in (forth, back)]
    poses = pointmap_poses(sketches, priors, photos, np.full(2, scene.intrinsics[0, 0]))
    assert poses is not None
    return "trusted" if poses.weights.any() else "not trusted"
