"""How right cameras are: relative pose errors over all pairs, focal error, centre error.

Reconstructions are free in position, orientation and scale, so that cameras are compared pair by
pair, or after the best similarity. Conventions are those of :mod:`pointmap.camera`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pointmap.camera import (
    Array,
    fit_similarity,
    invert_rigid,
    rigid,
    rotation_angle_deg,
)

FAILED_DEG = 180.0
"""The error of a pair with an unregistered photo."""

# Cameras nearer than this share of the scene's spread have no direction between them.
_SAME_PLACE = 1e-9


@dataclass(frozen=True)
class PairErrors:
    """Errors of the relative poses of all P = N (N - 1) / 2 unordered pairs ``i < j``.

    ``pairs`` (P, 2) int; ``rotation_deg``, ``translation_deg`` (P,) in [0, 180].
    """

    pairs: NDArray[np.int64]
    rotation_deg: Array
    translation_deg: Array

    @property
    def pose_deg(self) -> Array:
        """The larger of the two errors (P,): what the AUC is taken of."""
        return np.maximum(self.rotation_deg, self.translation_deg)

    @property
    def unsigned_translation_deg(self) -> Array:
        """Translation errors (P,) in [0, 90] that forgive a flipped direction, as the papers do."""
        return np.minimum(self.translation_deg, 180 - self.translation_deg)


def relative_pose_errors(
    estimated: Sequence[ArrayLike | None], truth: Sequence[ArrayLike]
) -> PairErrors:
    """Compare ``cam_to_world`` matrices (4, 4); ``None`` is an unregistered photo.

    With (R, t) the motion ``camj_to_cami`` of a pair, the rotation error is the angle of
    ``R_true^T R`` and the translation error the angle between t and t_true. The sign of t counts:
    unlike an essential matrix alone, a reconstruction knows it (SuperGlue, arXiv 1911.11763, and
    PoseDiffusion, arXiv 2306.15667, forgive it). An unregistered photo makes both 180 degrees.
    Where the true cameras stand at one place there is no direction to get wrong: error 0. Where
    only the estimated ones do, none was given: 180.
    """
    if len(estimated) != len(truth):
        raise ValueError(f"{len(estimated)} estimated cameras against {len(truth)} true ones")
    pairs = list(combinations(range(len(truth)), 2))
    rotation, translation = np.full((2, len(pairs)), FAILED_DEG)
    spread = _spread([np.asarray(c, np.float64)[:3, 3] for c in truth])
    spread_estimated = _spread([np.asarray(c, float)[:3, 3] for c in estimated if c is not None])
    for p, (i, j) in enumerate(pairs):
        first, second = estimated[i], estimated[j]
        if first is None or second is None:
            continue
        motion = invert_rigid(first) @ np.asarray(second, np.float64)
        true_motion = invert_rigid(truth[i]) @ np.asarray(truth[j], np.float64)
        rotation[p] = rotation_angle_deg(true_motion[:3, :3].T @ motion[:3, :3])
        t, t_true = motion[:3, 3], true_motion[:3, 3]
        if np.linalg.norm(t_true) <= _SAME_PLACE * spread:
            translation[p] = 0.0
        elif np.linalg.norm(t) > _SAME_PLACE * spread_estimated:
            translation[p] = _angle_deg(t, t_true)
    return PairErrors(np.array(pairs, np.int64).reshape(-1, 2), rotation, translation)


def centre_error(estimated: Sequence[ArrayLike | None], truth: Sequence[ArrayLike]) -> float | None:
    """Return the RMS distance of camera centres after the best similarity, in units of ``truth``.

    The absolute trajectory error (Sturm et al., IROS 2012; alignment by Umeyama, PAMI 1991) over
    registered photos. ``None`` with fewer than three of them: a similarity fits two perfectly.
    """
    both = [
        (np.asarray(e, np.float64)[:3, 3], np.asarray(t, np.float64)[:3, 3])
        for e, t in zip(estimated, truth, strict=True)
        if e is not None
    ]
    if len(both) < 3:
        return None
    source, target = (np.stack(centres) for centres in zip(*both, strict=True))
    if _spread(source) == 0.0:
        aligned = np.broadcast_to(target.mean(axis=0), target.shape)
    else:
        scale, R, t = fit_similarity(source, target)
        aligned = scale * source @ R.T + t
    return float(np.sqrt(np.mean(np.sum((aligned - target) ** 2, axis=1))))


@dataclass(frozen=True)
class RelativePoseError:
    """RMS over steps: ``translation`` in the truth's units, ``rotation_deg`` in degrees."""

    translation: float
    rotation_deg: float


def step_errors(
    estimated: Sequence[ArrayLike | None], truth: Sequence[ArrayLike], *, step: int = 1
) -> RelativePoseError | None:
    """Return the relative pose error of a trajectory, photos in the order they were taken.

    With P the estimated and Q the true cam_to_world, E_i = (Q_i^-1 Q_(i+step))^-1 (P_i^-1
    P_(i+step)); RMS of its translation and of its angle (Sturm et al., IROS 2012, eq. 2 and 3). P
    is first scaled by the best similarity of the centres, since photos don't tell the scale. Steps
    with an unregistered photo don't count; None without a step or with fewer than three placed.
    """
    placed = [k for k, pose in enumerate(estimated) if pose is not None]
    if len(placed) < 3:
        return None
    poses = {k: np.array(estimated[k], np.float64) for k in placed}
    centres = np.stack([poses[k][:3, 3] for k in placed])
    scale = 1.0
    if _spread(centres) > 0:
        true_centres = np.stack([np.asarray(truth[k], np.float64)[:3, 3] for k in placed])
        scale, _, _ = fit_similarity(centres, true_centres)
    for pose in poses.values():
        pose[:3, 3] *= scale
    moved, turned = [], []
    for k in placed:
        if k + step in poses:
            motion = invert_rigid(poses[k]) @ poses[k + step]
            true_motion = invert_rigid(truth[k]) @ np.asarray(truth[k + step], np.float64)
            error = invert_rigid(true_motion) @ motion
            moved.append(np.linalg.norm(error[:3, 3]))
            turned.append(rotation_angle_deg(error[:3, :3]))
    if not moved:
        return None
    return RelativePoseError(*(float(np.sqrt(np.mean(np.square(v)))) for v in (moved, turned)))


def similarity_of_cameras(source: Sequence[ArrayLike], target: Sequence[ArrayLike]) -> Array:
    """Return the similarity (4, 4) that takes cameras ``source`` onto ``target``, two or more.

    The rotation is the mean of those between the cameras' own, in the chordal metric (Hartley et
    al., IJCV 2013, section 5.3), so that cameras on a line leave nothing open; scale and shift then
    fit the centres by least squares.
    """
    P, Q = (np.stack([np.asarray(c, np.float64) for c in side]) for side in (source, target))
    U, _, Vt = np.linalg.svd((Q[:, :3, :3] @ P[:, :3, :3].transpose(0, 2, 1)).sum(axis=0))
    R = U @ np.diag([1, 1, np.linalg.det(U @ Vt)]) @ Vt
    p, q = P[:, :3, 3] @ R.T, Q[:, :3, 3]
    p_mean, q_mean = p.mean(axis=0), q.mean(axis=0)
    spread = float(np.square(p - p_mean).sum())
    scale = float(((p - p_mean) * (q - q_mean)).sum()) / spread if spread > 0 else 1.0
    return rigid(scale * R, q_mean - scale * p_mean)


def _spread(centres: Sequence[Array] | Array) -> float:
    """Return the largest distance of a centre from the first, 0 for fewer than two."""
    if len(centres) < 2:
        return 0.0
    return float(np.linalg.norm(np.asarray(centres) - centres[0], axis=1).max())


def _angle_deg(a: Array, b: Array) -> float:
    """Return the angle between vectors, accurate also when they are nearly parallel."""
    return float(np.degrees(np.arctan2(np.linalg.norm(np.cross(a, b)), a @ b)))
