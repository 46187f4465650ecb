"""Dense depth of all photos: the prior tied to the scene, then stereo."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pointmap.camera import scale_intrinsics
from pointmap.images import ResizedPhoto
from recon.depth.anchored_prior import fuse_depths
from recon.options import Options
from recon.progress import Advance
from recon.stage_results import Alignment, DepthMap, PhotoPrior
from recon.stereo.refine import refine_depths
from recon.stereo.view import StereoView

if TYPE_CHECKING:
    import torch


def dense_depths(
    frames: Sequence[ResizedPhoto],
    alignment: Alignment,
    priors: Sequence[PhotoPrior],
    device: torch.device,
    options: Options,
    advance: Advance,
) -> list[DepthMap | None]:
    """Return the depth of every photo at its frame's size, None for photos that were not placed."""
    depths = fuse_depths(priors, alignment, frames, options=options.depth)
    placed = [k for k, depth in enumerate(depths) if depth is not None]
    if not options.refine_depth or len(placed) < 2:
        return depths
    views = [_stereo_view(frames[k], alignment, k, depths[k]) for k in placed]
    refined = refine_depths(
        views,
        options=options.stereo,
        device=str(device),
        on_progress=advance,
    )
    for k, depth in zip(placed, refined, strict=True):
        depths[k] = depth
    return depths


def _stereo_view(
    frame: ResizedPhoto, alignment: Alignment, index: int, prior: DepthMap | None
) -> StereoView:
    cam_to_world = alignment.cam_to_world[index]
    assert cam_to_world is not None and prior is not None
    seen = alignment.tracks.point_index[alignment.tracks.view_index == index]
    return StereoView(
        pixels=frame.pixels,
        intrinsics=scale_intrinsics(alignment.intrinsics[index], frame.scale_x, frame.scale_y),
        k1=float(alignment.k1[index]),
        cam_to_world=cam_to_world,
        prior=prior,
        points=alignment.tracks.points[seen],
        point_ids=seen,
    )
