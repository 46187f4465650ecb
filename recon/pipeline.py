"""The order of the stages: photos in, a reconstruction out. The only module that knows it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pointmap.camera import scale_intrinsics
from pointmap.images import Photo, ResizedPhoto, load_photo
from recon.adaptation import adapted_depths
from recon.alignment.align_scene import align_pairs, rematch_loose_photos
from recon.assemble import assemble_views, pair_records
from recon.depth import fuse_depths
from recon.fusion import fuse_points, fuse_surface
from recon.inputs import open_usable
from recon.known_cameras import load_known_cameras
from recon.metric_scale import check_scale_source, in_metres
from recon.network_result import predict_scene
from recon.options import Options
from recon.pair_evidence import gather_evidence
from recon.prior_depth import priors_from_scene, read_prior_maps
from recon.progress import Advance, StageListener, Stages, collected_warnings
from recon.scene import Reconstruction
from recon.single_photo import photo_scene
from recon.stage_results import Alignment, DepthMap, PhotoFeatures, PhotoPrior
from recon.stereo import StereoView, refine_depths

if TYPE_CHECKING:
    import torch


logger = logging.getLogger(__name__)


def reconstruct(
    photos: Sequence[str | Path] | str | Path,
    options: Options | None = None,
    *,
    listener: StageListener | None = None,
) -> Reconstruction:
    """Reconstruct one scene from photos: files, folders or patterns.

    Files that cannot be used are left out with a warning. Raises ``InputError`` when no photo is
    left or the checkpoint cannot be used.
    """
    from pointmap.checkpoint import load_network
    from pointmap.inference import choose_device

    options = options or Options()
    options.check()
    stages = Stages(listener)
    inputs = [photos] if isinstance(photos, (str, Path)) else list(photos)
    with collected_warnings() as warnings:
        with stages.stage("Reading photos"):
            # Everything that can be wrong with the input shows here, before the long stages.
            opened = open_usable(inputs)
            known = load_known_cameras(options.known_cameras, opened)
            check_scale_source(options, [photo.name for photo in opened])
            maps = None
            if options.prior_depth is not None:
                maps = read_prior_maps(Path(options.prior_depth), opened)
            device = choose_device(options.device)
            network = load_network(options.weights)
        if len(opened) == 1 and options.known_cameras is None and maps is None:
            if options.adapt is not None:
                logger.warning("--adapt needs photos that confirm each other: one alone has none")
            with stages.stage("Depth"):
                alone = photo_scene(opened[0], network, device=device, options=options)
            return replace(alone, stages=tuple(stages.records), warnings=tuple(warnings))
        with stages.stage("Finding features") as advance:
            features = known.ideal_features(_features(opened, advance))
        with stages.stage("Predicting pointmaps") as advance:
            seen = predict_scene(opened, network, device, options, advance)
        with stages.stage("Matching and poses") as advance:
            pairs = gather_evidence(opened, features, seen, known, maps, options, advance)
        with stages.stage("Aligning cameras") as advance:
            alignment = align_pairs(opened, features, pairs, known, options)
            pairs, alignment = rematch_loose_photos(
                opened, features, pairs, alignment, known, options, advance
            )
            for photo, reason in zip(opened, alignment.reasons, strict=True):
                if reason is not None:
                    logger.warning("%s could not be placed: %s", photo.name, reason)
        with stages.stage("Depth") as advance:
            frames = [load_photo(photo, long_side=options.depth_size) for photo in opened]
            priors = pairs.priors
            if maps is not None:
                priors = priors_from_scene(maps, frames, alignment, priors)
            depths = _depths(frames, alignment, priors, device, options, advance)
        if options.adapt is not None:
            with stages.stage("Adapting the network") as advance:
                depths = adapted_depths(
                    opened, network, priors, frames, depths, alignment, options, advance
                )
        views = assemble_views(frames, alignment, depths)
        with stages.stage("Fusing the surface"):
            cloud = fuse_points(views, options=options.fusion)
            # Apple's devices have no double precision.
            fast = str(device) if device.type == "cuda" else "cpu"
            surface = fuse_surface(views, options=options.fusion, device=fast)
    scene = Reconstruction(
        views=views,
        tracks=alignment.tracks,
        cloud=cloud,
        surface=surface.mesh,
        textured=surface.textured,
        statistics=surface.statistics,
        pairs=pair_records(pairs, alignment),
        stages=tuple(stages.records),
        warnings=tuple(warnings),
        options=options.to_dict(),
    )
    return in_metres(scene, seen.priors, options)


def _features(photos: Sequence[Photo], advance: Advance) -> list[PhotoFeatures]:
    from recon.matching import FEATURE_LONG_SIDE, extract_features

    features = []
    for number, photo in enumerate(photos):
        features.append(extract_features(load_photo(photo, long_side=FEATURE_LONG_SIDE)))
        advance(number + 1, len(photos))
    return features


def _depths(
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
