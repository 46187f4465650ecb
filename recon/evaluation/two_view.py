"""What the network alone knows of two photos: no image features, no bundle adjustment."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pointmap.camera import Array, invert_rigid, sample_at, transform_points, unproject
from pointmap.metrics import auc_at, focal_errors_percent, mean_accuracy_at, recall_at
from recon.evaluation.depth import known_in_both, score_depths
from recon.evaluation.points import PointErrors, point_errors
from recon.evaluation.poses import relative_pose_errors
from recon.evaluation.two_view_data import PosedPhotos, TwoViewPair
from recon.prediction.pair_sketch import original_pixels
from recon.scene import Camera
from recon.two_view.pose_from_pointmaps import (
    both_frames,
    implied_intrinsics,
    pnp,
    procrustes,
    thin,
)

if TYPE_CHECKING:
    import torch

    from pointmap.inference import PairPrediction
    from pointmap.network import PointmapNetwork

AUC_DEG = (5, 10, 20, 30)
RECALL_DEG = 15
"""Thresholds of AUC, and of RRA and RTA (PoseDiffusion, DUSt3R: 15 degrees)."""
BINS = ((0.1, 0.3), (0.3, 0.6), (0.6, 1.01))
"""Overlaps by which rendered pairs are reported: little, half, most of the surface shared."""


@dataclass(frozen=True)
class PairOutcome:
    """What came out for one pair.

    Errors of the pose by Procrustes and by PnP: (rotation, translation direction) in degrees, 180
    both without a pose. ``focal_percent`` (2,) of both photos. ``points`` and ``depth`` (AbsRel,
    delta < 1.25, one median scale per photo) per direction, as far as true depth is known.
    """

    scene: str
    pair: TwoViewPair
    procrustes_deg: tuple[float, float]
    pnp_deg: tuple[float, float]
    focal_percent: tuple[float, float]
    points: tuple[PointErrors, ...]
    depth: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class PoseSummary:
    """Over pairs, in percent: share with a rotation (``rra15``), translation direction (``rta15``)
    right to 15 degrees, and ``auc`` of the larger error by threshold (:func:`auc_at`). ``maa30`` is
    the papers' mAA(30): :func:`mean_accuracy_at`, a flipped direction forgiven.
    """

    rra15: float
    rta15: float
    auc: dict[int, float]
    maa30: float


@dataclass(frozen=True)
class TwoViewSummary:
    """Figures of ``pairs`` pairs: focal error in percent (median), mean errors of points
    (see :class:`PointErrors`) and of depth; None where no truth is known or there is no pair.
    """

    pairs: int
    procrustes: PoseSummary | None
    pnp: PoseSummary | None
    focal_error_percent: float | None
    point_error_relative: float | None
    point_error_normalised: float | None
    depth_abs_rel: float | None
    depth_delta: float | None


def evaluate_pairs(
    network: PointmapNetwork,
    scene: PosedPhotos,
    *,
    device: torch.device,
) -> list[PairOutcome]:
    """Run the network on the scene's pairs and score each."""
    from pointmap.inference import encode_photos, predict_pairs

    if not scene.pairs:
        return []
    encoded = encode_photos(network, scene.photos, device=device)
    wanted = [(pair.i, pair.j) for pair in scene.pairs]
    return score_pairs(scene, predict_pairs(network, encoded, wanted, device=device))


def score_pairs(scene: PosedPhotos, predictions: Iterable[PairPrediction]) -> list[PairOutcome]:
    """Score predictions that come as (i, j), (j, i) for each pair of the scene."""
    known = {(pair.i, pair.j): pair for pair in scene.pairs}
    in_order = iter(predictions)
    return [
        _outcome(scene, known[forth.i, forth.j], forth, back)
        for forth, back in zip(in_order, in_order, strict=True)
    ]


def summarise(outcomes: Sequence[PairOutcome]) -> TwoViewSummary:
    """Return the figures over all pairs of ``outcomes``."""
    points = [error for outcome in outcomes for error in outcome.points]
    depth = [row for outcome in outcomes for row in outcome.depth]
    focal = [error for outcome in outcomes for error in outcome.focal_percent]
    abs_rel, delta = np.mean(depth, axis=0).tolist() if depth else (None, None)
    return TwoViewSummary(
        len(outcomes),
        _pose_summary([outcome.procrustes_deg for outcome in outcomes]),
        _pose_summary([outcome.pnp_deg for outcome in outcomes]),
        float(np.median(focal)) if focal else None,
        float(np.mean([error.relative for error in points])) if points else None,
        float(np.mean([error.normalised for error in points])) if points else None,
        abs_rel,
        delta,
    )


def summarise_by_overlap(outcomes: Sequence[PairOutcome]) -> dict[str, TwoViewSummary]:
    """Return a summary per bin of overlap, and of all pairs that share at least 30 %."""

    def between(low: float, high: float) -> TwoViewSummary:
        return summarise([o for o in outcomes if low <= (o.pair.overlap or 0) < high])

    bins = {f"overlap {100 * a:.0f}-{min(100 * b, 100):.0f} %": between(a, b) for a, b in BINS}
    return {**bins, "overlap from 30 %": between(0.3, 2)}


def _pose_summary(errors_deg: Sequence[tuple[float, float]]) -> PoseSummary | None:
    if not errors_deg:
        return None
    rotation, translation = np.array(errors_deg).T
    both = np.maximum(rotation, translation)
    return PoseSummary(
        recall_at(rotation, RECALL_DEG),
        recall_at(translation, RECALL_DEG),
        {threshold: auc_at(both, threshold) for threshold in AUC_DEG},
        mean_accuracy_at(np.maximum(rotation, np.minimum(translation, 180 - translation)), 30),
    )


def _outcome(
    scene: PosedPhotos, pair: TwoViewPair, forth: PairPrediction, back: PairPrediction
) -> PairOutcome:
    truth = [camera.cam_to_world for camera in (scene.cameras[pair.i], scene.cameras[pair.j])]

    def errors_deg(cam2_to_cam1: Array | None) -> tuple[float, float]:
        errors = relative_pose_errors(
            [np.eye(4), cam2_to_cam1], [matrix for matrix in truth if matrix is not None]
        )
        return float(errors.rotation_deg[0]), float(errors.translation_deg[0])

    registered = procrustes(*both_frames(forth, back))
    K = [_implied_intrinsics(prediction, scene) for prediction in (forth, back)]
    focal = [
        float(focal_errors_percent(_focal(found), _focal(scene.cameras[k].intrinsics)))
        for k, found in zip((pair.i, pair.j), K, strict=True)
    ]
    directions = [
        scored
        for prediction in (forth, back)
        if (scored := _geometry_errors(prediction, scene)) is not None
    ]
    return PairOutcome(
        scene.name,
        pair,
        errors_deg(None if registered is None else registered.cam2_to_cam1),
        errors_deg(_pnp_pose(forth, back, K, scene)),
        (focal[0], focal[1]),
        tuple(points for points, _ in directions),
        tuple(depth for _, depth in directions),
    )


def _implied_intrinsics(prediction: PairPrediction, scene: PosedPhotos) -> Array:
    """Return K (3, 3) of photo i in original pixels, from its own points."""
    photo = scene.photos[prediction.i].photo
    return implied_intrinsics(prediction.points_i, prediction.confidence_i, photo)


def _focal(intrinsics: Array) -> float:
    return float(intrinsics[0, 0] + intrinsics[1, 1]) / 2


def _pnp_pose(
    forth: PairPrediction, back: PairPrediction, K: Sequence[Array], scene: PosedPhotos
) -> Array | None:
    """Return photo j's pose in photo i's frame by PnP, from the direction with more inliers."""
    found = []
    for prediction, other in ((forth, K[1]), (back, K[0])):
        few = thin(prediction.confidence_j.shape)
        photo = scene.photos[prediction.j].photo
        pixels = original_pixels(prediction.confidence_j.shape, photo)[few].reshape(-1, 2)
        points = prediction.points_j[few].reshape(-1, 3).astype(np.float64)
        pose = pnp(points, pixels, other)
        if pose is not None:
            matrix = pose.cam2_to_cam1
            share = float(pose.inliers.mean())
            found.append((share, matrix if prediction is forth else invert_rigid(matrix)))
    return max(found, key=lambda pair: pair[0])[1] if found else None


def _geometry_errors(
    prediction: PairPrediction, scene: PosedPhotos
) -> tuple[PointErrors, tuple[float, float]] | None:
    """Return errors of both photos' points in photo i's frame, and (AbsRel, delta) of i's depth.

    None where the true depth of either photo is unknown, or nothing known was predicted.
    """
    i, j = prediction.i, prediction.j
    depth_i, depth_j = scene.depths[i], scene.depths[j]
    if depth_i is None or depth_j is None:
        return None
    to_world_i, to_world_j = scene.cameras[i].cam_to_world, scene.cameras[j].cam_to_world
    assert to_world_i is not None and to_world_j is not None
    true_i, z_i = _true_points(depth_i, scene.cameras[i], prediction.confidence_i.shape)
    true_j, z_j = _true_points(depth_j, scene.cameras[j], prediction.confidence_j.shape)
    true_j = transform_points(invert_rigid(to_world_i) @ to_world_j, true_j)
    known = np.concatenate([(z_i > 0).ravel(), (z_j > 0).ravel()])
    predicted, truth = (
        np.concatenate([first.reshape(-1, 3), second.reshape(-1, 3)])[known]
        for first, second in ((prediction.points_i, prediction.points_j), (true_i, true_j))
    )
    points = point_errors(predicted, truth)
    if points is None or not known_in_both(prediction.points_i[..., 2], z_i)[0].size:
        return None
    depth = score_depths([prediction.points_i[..., 2]], [z_i])
    assert depth.abs_rel is not None and depth.delta is not None
    return points, (depth.abs_rel, depth.delta)


def _true_points(depth: Array, camera: Camera, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """Return true camera-frame points (h, w, 3) and depth (h, w) at the network's pixels."""
    height, width = shape
    z = sample_at(depth, height, width)
    return unproject(z, camera.intrinsics_at(width, height)), z
