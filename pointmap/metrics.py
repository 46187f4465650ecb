"""The field's summaries of errors, for the training loop and for evaluation. Needs NumPy alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from pointmap.camera import Array

MAD_TO_SIGMA = 1.4826
"""Standard deviation of a Gaussian over its median absolute deviation, 1 / 0.6745."""


def recall_at(errors_deg: ArrayLike, threshold_deg: float) -> float:
    """Return the share, in percent, of errors below ``threshold_deg``.

    RRA@t of ``rotation_deg`` and RTA@t of ``translation_deg`` (RelPose, arXiv 2208.05963). No
    errors (fewer than two photos) give 0.
    """
    errors = np.asarray(errors_deg, np.float64)
    return 100.0 * float(np.mean(errors < threshold_deg)) if errors.size else 0.0


def auc_at(errors_deg: ArrayLike, threshold_deg: float) -> float:
    """Return the area under the recall curve up to ``threshold_deg``, in percent of its maximum.

    As SuperGlue scores poses (arXiv 1911.11763, section 5.2): the n sorted errors e_k give the
    curve through (0, 0) and (e_k, k / n), joined by straight lines and level after the last one
    below the threshold; its area is divided by the threshold. 0 when there are no errors.
    """
    errors = np.sort(np.asarray(errors_deg, np.float64).ravel())
    if not errors.size:
        return 0.0
    below = int(np.searchsorted(errors, threshold_deg))
    recall = np.arange(below + 1) / errors.size
    x = np.concatenate([[0.0], errors[:below], [threshold_deg]])
    y = np.concatenate([recall, recall[-1:]])
    return 100.0 * float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2)) / threshold_deg


def mean_accuracy_at(errors_deg: ArrayLike, threshold_deg: int) -> float:
    """Return the mean over k = 1 .. ``threshold_deg`` of the share below k degrees, in percent.

    AUC as PoseDiffusion (arXiv 2306.15667) computes it and DUSt3R's mAA(30) (arXiv 2312.14132,
    section 4.2), of the larger of rotation and (unsigned) translation error: a histogram of whole
    degrees where :func:`auc_at` is exact, so that it comes out a little lower.
    """
    return float(np.mean([recall_at(errors_deg, k) for k in range(1, threshold_deg + 1)]))


def focal_errors_percent(estimated_px: ArrayLike, true_px: ArrayLike) -> Array:
    """Return ``100 |f - f_true| / f_true`` of focal lengths (N,), at one photo size."""
    true_px = np.asarray(true_px, np.float64)
    return 100.0 * np.abs(np.asarray(estimated_px, np.float64) - true_px) / true_px
