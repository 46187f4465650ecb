"""Stage 4, dense depth of each photo: the network's, tied to the scene, then refined."""

from recon.depth.anchored_prior import (
    Anchors,
    DepthOptions,
    fuse_depths,
    photo_anchors,
    tie_to_anchors,
    upsample_prior,
)
from recon.stage_results import DepthMap

__all__ = [
    "Anchors",
    "DepthMap",
    "DepthOptions",
    "fuse_depths",
    "photo_anchors",
    "tie_to_anchors",
    "upsample_prior",
]
