"""Scores a saved scene against known cameras and depth.

The truth is a folder with ``cameras.json``, {"images": {photo name: {"K", "cam_to_world", "width",
"height"}}}, and, where depth is known, ``depth/STEM.png`` (16 bit, ``depth_scale_mm`` millimetres
per step, default 1) or ``depth/STEM.npz`` (``depth``), 0 = unknown, over the whole photo.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pointmap.camera import Array, sample_at
from pointmap.errors import InputError
from pointmap.metrics import auc_at, focal_errors_percent, mean_accuracy_at, recall_at
from pointmap.outside.values import MAX_LENGTH, matrix, number
from recon.evaluation.depth import DepthScores, score_depths
from recon.evaluation.depth_files import DEPTH_SUFFIXES, read_depth_file
from recon.evaluation.points import CloudScores
from recon.evaluation.poses import (
    RelativePoseError,
    centre_error,
    relative_pose_errors,
    similarity_of_cameras,
    step_errors,
)
from recon.evaluation.scene_cloud import TrueView, score_cloud
from recon.export.cameras_json import ListedCamera, read_cameras
from recon.export.depth_npz import read_depth_npz
from recon.scene import Camera

THRESHOLDS_DEG = (5, 10, 20, 30)
"""Of AUC, RRA and RTA: those that the literature reports (SuperGlue: 5, 10, 20; RelPose: 30)."""


@dataclass(frozen=True)
class SceneTruth:
    """What is known of a scene: ``names`` of all photos, ``cameras`` where K and pose are known,
    and readers' paths of ``depth_files``; ``depth_unit`` is the size of a 16-bit step.
    """

    names: tuple[str, ...]
    cameras: dict[str, Camera]
    depth_files: dict[str, Path]
    depth_unit: float = 0.001


@dataclass(frozen=True)
class PoseScores:
    """Over all pairs of photos with a true camera, an unregistered photo's at 180 degrees.

    ``auc``, ``rra``, ``rta``: percent by threshold in degrees; medians in degrees;
    ``focal_error_percent``: median over registered photos, None without any; ``centre_error``: RMS
    after the best similarity in units of the truth, None with fewer than three registered;
    ``maa30`` the papers' mAA(30), a flipped direction forgiven; ``step``: the relative pose error
    from each photo to the next in the truth's list, None without three registered or any step.
    """

    auc: dict[int, float]
    rra: dict[int, float]
    rta: dict[int, float]
    median_rotation_deg: float
    median_translation_deg: float
    focal_error_percent: float | None
    centre_error: float | None
    maa30: float
    step: RelativePoseError | None


@dataclass(frozen=True)
class SceneScores:
    """Scores of one scene; parts without truth are None. Depth is scaled by medians, all photos as
    one or each, or as the cameras' centres are (:func:`similarity_to_truth`; one transform for all
    then); the cloud is registered (see :func:`recon.evaluation.scene_cloud.score_cloud`).
    """

    photos: int
    registered: int
    poses: PoseScores | None
    depth_one_scale: DepthScores | None
    depth_each_scale: DepthScores | None
    depth_by_cameras: DepthScores | None
    cloud: CloudScores | None


def read_truth(cameras_json: Path, depth_folder: Path | None = None) -> SceneTruth:
    """Read the truth of a scene; depth from ``depth_folder``, or ``depth/`` beside the file.

    ``cam_to_world_sfm`` wins over ``cam_to_world`` where a scene has both (see its notes). Raises
    ``InputError`` when the file is missing or of another form.
    """
    listed, data = read_cameras(cameras_json)
    cameras = {
        name: true for name, camera in listed.items() if (true := _true_camera(camera)) is not None
    }
    try:
        step_mm = number(data.get("depth_scale_mm", 1.0), "depth_scale_mm", 1e-9, 1e9)
    except ValueError as error:
        raise InputError(f"{cameras_json}: {error}") from error
    names, unit = tuple(listed), step_mm / 1000
    folder = depth_folder or cameras_json.parent / "depth"
    # A scene of ours, taken for the truth, has coloured pictures beside its maps.
    candidates = {n: [folder / f"{Path(n).stem}{s}" for s in DEPTH_SUFFIXES] for n in names}
    found = {
        name: next((p for p in paths if p.is_file()), None) for name, paths in candidates.items()
    }
    return SceneTruth(names, cameras, {n: p for n, p in found.items() if p is not None}, unit)


def score_scene(folder: Path, truth: SceneTruth) -> SceneScores:
    """Score a folder that ``run_recon.py`` wrote.

    Photos of the truth that the folder does not list count as unregistered. Raises ``InputError``
    when the folder is no complete scene.
    """
    listed, _ = read_cameras(folder / "cameras.json")
    found = {name: listed[name].camera() for name in truth.names if name in listed}
    placed = {name for name, camera in found.items() if camera.cam_to_world is not None}
    known = {name: truth.cameras[name] for name in truth.names if name in truth.cameras}
    one_scale = each_scale = by_cameras = cloud = None
    if truth.depth_files:
        pairs = [
            _depth_pair(
                listed[name].depth_file(folder) if name in placed else None,
                read_depth_file(path, unit=truth.depth_unit),
            )
            for name, path in truth.depth_files.items()
        ]
        predicted, true = zip(*pairs, strict=True)
        one_scale = score_depths(predicted, true, per_sequence=True)
        each_scale = score_depths(predicted, true)
        fit = similarity_to_truth(found, known)
        if fit is not None:
            scale = float(np.linalg.norm(fit[:3, 0]))
            by_cameras = score_depths([scale * p for p in predicted], true, alignment="none")
        maps = dict(zip(truth.depth_files, pairs, strict=True))
        cloud = score_cloud(
            folder / "points.ply",
            [
                TrueView(known[name], maps[name][1], found[name], maps[name][0])
                for name in maps
                if name in placed and name in known
            ],
        )
    return SceneScores(
        photos=len(truth.names),
        registered=len(placed),
        poses=_score_poses(found, known) if len(known) > 1 else None,
        depth_one_scale=one_scale,
        depth_each_scale=each_scale,
        depth_by_cameras=by_cameras,
        cloud=cloud,
    )


def similarity_to_truth(
    found: Mapping[str, Camera | ListedCamera], truth: Mapping[str, Camera]
) -> Array | None:
    """Return what takes a scene into its truth's frame and unit, (4, 4), by the cameras of both;
    None with fewer than two.
    """
    pairs = [
        (pose, camera.cam_to_world)
        for name, camera in truth.items()
        if name in found
        and (pose := found[name].cam_to_world) is not None
        and camera.cam_to_world is not None
    ]
    return similarity_of_cameras(*zip(*pairs, strict=True)) if len(pairs) > 1 else None


def _score_poses(found: dict[str, Camera], truth: dict[str, Camera]) -> PoseScores:
    estimated = [found[name].cam_to_world if name in found else None for name in truth]
    true = [camera.cam_to_world for camera in truth.values() if camera.cam_to_world is not None]
    errors = relative_pose_errors(estimated, true)
    placed = [
        n for n, cam_to_world in zip(truth, estimated, strict=True) if cam_to_world is not None
    ]
    focals = focal_errors_percent(
        [_focal_in(found[name], truth[name]) for name in placed],
        [_focal_in(truth[name], truth[name]) for name in placed],
    )
    return PoseScores(
        auc={t: auc_at(errors.pose_deg, t) for t in THRESHOLDS_DEG},
        rra={t: recall_at(errors.rotation_deg, t) for t in THRESHOLDS_DEG},
        rta={t: recall_at(errors.translation_deg, t) for t in THRESHOLDS_DEG},
        median_rotation_deg=float(np.median(errors.rotation_deg)),
        median_translation_deg=float(np.median(errors.translation_deg)),
        focal_error_percent=float(np.median(focals)) if placed else None,
        centre_error=centre_error(estimated, true),
        maa30=mean_accuracy_at(
            np.maximum(errors.rotation_deg, errors.unsigned_translation_deg), 30
        ),
        step=step_errors(estimated, true),
    )


def _focal_in(camera: Camera, at: Camera) -> float:
    """Return the mean of fx and fy, in pixels of a photo of ``at``'s size."""
    scaled = camera.intrinsics_at(at.width, at.height)
    return float(scaled[0, 0] + scaled[1, 1]) / 2


def _true_camera(listed: ListedCamera) -> Camera | None:
    """Return a photo's true camera, or None where K or the pose is not known."""
    by_sfm = listed.entry.get("cam_to_world_sfm")
    pose = listed.cam_to_world
    if by_sfm is not None:
        try:
            pose = matrix(by_sfm, "cam_to_world_sfm", 4, 4, MAX_LENGTH)
        except ValueError as error:
            raise InputError(f"{listed.place}: {error}") from error
    if listed.intrinsics is None or pose is None:
        return None
    return replace(listed.camera(), cam_to_world=pose)


def read_depth_truth(truth: SceneTruth, name: str) -> Array | None:
    """Return the true z-depth (h, w) of photo ``name`` in the truth's unit, None where unknown."""
    path = truth.depth_files.get(name)
    return None if path is None else read_depth_file(path, unit=truth.depth_unit)


def _depth_pair(predicted: Path | None, true: Array) -> tuple[Array, Array]:
    """Return the predicted depth at the truth's pixels, all unknown without one, and the truth."""
    if predicted is None:
        return np.zeros_like(true), true
    return sample_at(read_depth_npz(predicted).depth, *true.shape), true
