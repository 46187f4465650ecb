"""Training objectives. They need torch alone.

:mod:`pointmap` and :func:`log_depth_loss` are what the bundled network's depth is trained with.
The others are the field's, for those who train on depth of their own; all of them take (B, ...)
tensors and a ``valid`` mask, are differentiable, and give 0 with finite gradients where nothing is
valid.
"""

from pointmap.training.losses.affine import affine_invariant_loss, fit_scale_and_z_shift
from pointmap.training.losses.depth import (
    log_depth_loss,
    ranking_loss,
    scale_invariant_gradient_loss,
    silog_loss,
)
from pointmap.training.losses.normals import normal_loss, surface_normals
from pointmap.training.losses.pointmap import PointmapLoss, mean_distance, pointmap_loss
from pointmap.training.losses.scale_shift import (
    gradient_matching_loss,
    ssi_mae_loss,
    ssi_mse_loss,
)

__all__ = [
    "PointmapLoss",
    "affine_invariant_loss",
    "fit_scale_and_z_shift",
    "gradient_matching_loss",
    "log_depth_loss",
    "mean_distance",
    "normal_loss",
    "pointmap_loss",
    "ranking_loss",
    "scale_invariant_gradient_loss",
    "silog_loss",
    "ssi_mae_loss",
    "ssi_mse_loss",
    "surface_normals",
]
