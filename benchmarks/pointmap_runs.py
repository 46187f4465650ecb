"""Predictions in, scored cameras out: one measured run of the pipeline's alignment."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pointmap.camera import Array, fit_similarity
from pointmap.images import Photo
from pointmap.inference import PairPrediction
from pointmap.metrics import focal_errors_percent
from recon.alignment import align
from recon.evaluation.poses import relative_pose_errors
from recon.prediction.pair_sketch import sketch_pair
from recon.prediction.photo_prior import PriorAccumulator
from recon.stage_results import Alignment, PairEvidence, PhotoPrior
from recon.two_view.focal_lengths import FocalOptions, solve_focals


@dataclass(frozen=True)
class Truth:
    """``cam_to_world`` (N, 4, 4), ``focal_px`` and ``depth`` (N, h, w) of N photos."""

    cam_to_world: Array
    focal_px: float
    depth: NDArray[np.float32]


@dataclass(frozen=True)
class Run:
    """The result, the photos' ``priors`` and the CPU seconds from predictions to cameras and depth
    scales; making or reading the predictions isn't counted.
    """

    alignment: Alignment
    priors: list[PhotoPrior]
    predictions: int
    cpu_seconds: float


@dataclass(frozen=True)
class Figures:
    """Errors as ``parity/README.md`` of the fixtures defines them.

    ``rotation_deg``, ``max_rotation_deg`` over all pairs of photos; ``translation_percent``: mean
    distance of the centres after a similarity, over the median distance of true centres;
    ``focal_percent``; ``depth_percent``: AbsRel over all pixels after one median scale, and without
    any, ``depth_as_is_percent``. Of the ``placed`` photos.
    """

    placed: int
    rotation_deg: float
    median_rotation_deg: float
    max_rotation_deg: float
    translation_percent: float
    focal_percent: float
    depth_percent: float
    depth_as_is_percent: float


def run_alignment(
    photos: Sequence[Photo],
    predictions: Iterable[PairPrediction],
    *,
    known_focal_px: float | None = None,
    known_cam_to_world: Sequence[Array | None] | None = None,
) -> Run:
    """Return what the pipeline makes of photos without any texture and these predictions."""
    seconds, count = 0.0, 0
    accumulator, sketches = PriorAccumulator(photos), []
    for prediction in predictions:
        start = time.process_time()
        accumulator.add(prediction)
        sketches.append(sketch_pair(prediction, photos[prediction.i]))
        seconds += time.process_time() - start
        count += 1
    start = time.process_time()
    priors = accumulator.finish()
    focals = solve_focals(photos, [], priors, FocalOptions(focal_px=known_focal_px))
    evidence = PairEvidence([], [], focals, sketches, priors)
    alignment = align(photos, evidence, known_cam_to_world=known_cam_to_world)
    return Run(alignment, priors, count, seconds + time.process_time() - start)


def score(run: Run, truth: Truth) -> Figures:
    """Return the errors of a run's placed photos."""
    placed = [k for k, pose in enumerate(run.alignment.cam_to_world) if pose is not None]
    poses = [run.alignment.cam_to_world[k] for k in placed]
    true = truth.cam_to_world[placed]
    rotations = relative_pose_errors(poses, list(true)).rotation_deg
    centres = np.stack([pose[:3, 3] for pose in poses if pose is not None])
    scale, R, t = fit_similarity(centres, true[:, :3, 3])
    misses = np.linalg.norm(scale * centres @ R.T + t - true[:, :3, 3], axis=1)
    apart = np.linalg.norm(true[:, None, :3, 3] - true[None, :, :3, 3], axis=-1)
    typical = np.median(apart[np.triu_indices(len(placed), 1)])
    height, width = truth.depth.shape[1:]
    depth_scale = run.alignment.depth_scale
    depth = np.stack([depth_scale[k] * run.priors[k].points[:height, :width, 2] for k in placed])
    ratio = truth.depth[placed] / depth
    focals = run.alignment.intrinsics[placed, 0, 0]
    return Figures(
        len(placed),
        float(rotations.mean()),
        float(np.median(rotations)),
        float(rotations.max()),
        float(100 * misses.mean() / typical),
        float(focal_errors_percent(focals, np.full(len(placed), truth.focal_px)).mean()),
        float(100 * np.abs(np.median(ratio) / ratio - 1).mean()),
        float(100 * np.abs(1 / ratio - 1).mean()),
    )
