"""Dense depth of all photos: the prior tied to the scene, then stereo."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pointmap.camera import scale_intrinsics
from pointmap.images import ResizedPhoto
from recon.depth.anchored_prior import DepthOptions, fuse_depths
from recon.depth.given_maps_in_scene import priors_from_scene
from recon.progress import Advance, unheard
from recon.stage_results import Alignment, DenseDepths, DepthMap, PhotoPrior
from recon.stereo.refine import refine_depths
from recon.stereo.view import StereoOptions, StereoView

if TYPE_CHECKING:
    from recon.inputs import Inputs


def dense_depths(
    inputs: Inputs,
    alignment: Alignment,
    priors: Sequence[PhotoPrior],
    *,
    long_side: int,
    prior: DepthOptions,
    stereo: StereoOptions | None,
    advance: Advance = unheard,
) -> DenseDepths:
    """Return the depth of every photo that was placed, its long side at most ``long_side`` pixels.

    The ``priors``, or given maps in their place, are tied to the scene as ``prior`` says. Without
    ``stereo`` options they stay as they are.
    """
    frames = inputs.frames(long_side)
    if inputs.maps is not None:
        priors = priors_from_scene(inputs.maps, frames, alignment, priors)
    depths = fuse_depths(priors, alignment, frames, options=prior)
    placed = [k for k, depth in enumerate(depths) if depth is not None]
    if stereo is not None and len(placed) > 1:
        views = [_stereo_view(frames[k], alignment, k, depths[k]) for k in placed]
        refined = refine_depths(
            views, options=stereo, device=str(inputs.device), on_progress=advance
        )
        for k, depth in zip(placed, refined, strict=True):
            depths[k] = depth
    return DenseDepths(frames, tuple(priors), tuple(depths))


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
