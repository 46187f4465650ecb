"""How right pointmaps and clouds are, point by point where they correspond, else by neighbours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from pointmap.camera import Array, fit_similarity, rigid, transform_points


@dataclass(frozen=True)
class PointErrors:
    """Errors of corresponding points p against the truth t.

    ``relative`` mean |p - t| / |t|; ``inliers`` the share with |p - t| < 0.25 |t| (MoGe, arXiv
    2410.19115, section 4.1); ``normalised`` mean |p / m_p - t / m_t| with m the mean distance to
    the origin (DUSt3R's training error, arXiv 2312.14132, eq. 3).
    """

    relative: float
    inliers: float
    normalised: float


def point_errors(predicted: ArrayLike, truth: ArrayLike) -> PointErrors | None:
    """Compare points (N, 3) in the frame of the camera at the origin, after the best scale.

    The scale minimises sum |s p - t|_2 / |t|, by iterated re-weighted least squares, so that far
    points don't rule. Rows that are not finite, and true points at the origin, don't count; None
    when nothing is left or every predicted point is 0.
    """
    p, t = np.asarray(predicted, np.float64), np.asarray(truth, np.float64)
    if p.shape != t.shape:
        raise ValueError(f"points of shape {p.shape} against truth of shape {t.shape}")
    p, t = p.reshape(-1, 3), t.reshape(-1, 3)
    usable = np.isfinite(p).all(1) & np.isfinite(t).all(1) & (np.linalg.norm(t, axis=1) > 0)
    p, t = p[usable], t[usable]
    if not len(p) or not np.any(p):
        return None
    reach = np.linalg.norm(t, axis=1)
    scale, weight = 1.0, 1 / reach**2
    for _ in range(30):
        scale = float((weight * (p * t).sum(1)).sum() / (weight * (p * p).sum(1)).sum())
        error = np.linalg.norm(scale * p - t, axis=1)
        weight = 1 / (reach * np.maximum(error, 1e-9 * reach))
    mean_p = np.linalg.norm(p, axis=1).mean()
    normalised = np.linalg.norm(p / mean_p - t / reach.mean(), axis=1).mean()
    return PointErrors(
        float(np.mean(error / reach)), float(np.mean(error < 0.25 * reach)), float(normalised)
    )


@dataclass(frozen=True)
class CloudScores:
    """How two clouds lie to each other, distances in the truth's unit.

    ``accuracy``, ``accuracy_median``: distance of each predicted point to the nearest true one;
    ``completeness``, ``completeness_median``: of each true point to the nearest predicted one
    (Seitz et al., CVPR 2006; as means and medians in Spann3R, arXiv 2408.16061); ``chamfer``: the
    mean of accuracy and completeness (DTU's overall score); ``precision``, ``recall``, ``f1`` in
    [0, 1]: shares of these distances below the threshold and their harmonic mean (Knapitsch et al.,
    Tanks and Temples, 2017); ``normal_consistency``: mean |n . n'| over both directions of nearest
    points (Mescheder et al., arXiv 1812.03828), None without normals.
    """

    accuracy: float
    accuracy_median: float
    completeness: float
    completeness_median: float
    chamfer: float
    precision: float
    recall: float
    f1: float
    normal_consistency: float | None


def cloud_scores(
    predicted: ArrayLike,
    truth: ArrayLike,
    *,
    threshold: float,
    predicted_normals: ArrayLike | None = None,
    true_normals: ArrayLike | None = None,
) -> CloudScores:
    """Compare clouds (N, 3) and (M, 3) that lie in one frame (see :func:`register_clouds`)."""
    from scipy.spatial import KDTree

    p, t = np.asarray(predicted, np.float64), np.asarray(truth, np.float64)
    if not len(p) or not len(t):
        raise ValueError(f"clouds of {len(p)} and {len(t)} points: nothing to compare")
    to_truth, nearest_true = KDTree(t).query(p)
    to_predicted, nearest_predicted = KDTree(p).query(t)
    consistency = None
    if predicted_normals is not None and true_normals is not None:
        a, b = np.asarray(predicted_normals, np.float64), np.asarray(true_normals, np.float64)
        forth = np.abs((a * b[nearest_true]).sum(1)).mean()
        back = np.abs((b * a[nearest_predicted]).sum(1)).mean()
        consistency = float(forth + back) / 2
    precision = float(np.mean(to_truth < threshold))
    recall = float(np.mean(to_predicted < threshold))
    both = precision + recall
    return CloudScores(
        float(to_truth.mean()),
        float(np.median(to_truth)),
        float(to_predicted.mean()),
        float(np.median(to_predicted)),
        float(to_truth.mean() + to_predicted.mean()) / 2,
        precision,
        recall,
        2 * precision * recall / both if both else 0.0,
        consistency,
    )


def register_clouds(
    predicted: ArrayLike,
    truth: ArrayLike,
    *,
    pairs: tuple[ArrayLike, ArrayLike] | None = None,
    threshold: float,
) -> Array:
    """Return the similarity (4, 4) that takes cloud ``predicted`` (N, 3) onto ``truth`` (M, 3).

    First Umeyama's closed form (PAMI 1991) on ``pairs``, corresponding points (K, 3) each such as
    pixels or camera centres known in both; without them the clouds are taken as they lie. Then ICP
    (Besl and McKay, PAMI 1992, Open3D's point to point) with pairs closer than ``threshold``.
    """
    import open3d as o3d

    start = np.eye(4)
    if pairs is not None:
        scale, R, t = fit_similarity(*pairs)
        start = rigid(scale * R, t)
    clouds = [
        o3d.geometry.PointCloud(o3d.utility.Vector3dVector(np.asarray(points, np.float64)))
        for points in (transform_points(start, predicted), truth)
    ]
    fit = o3d.pipelines.registration.registration_icp(*clouds, threshold)
    return np.asarray(fit.transformation, np.float64) @ start
