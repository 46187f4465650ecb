"""The order of the stages: photos in, a reconstruction out. The only module that knows it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pointmap.images import load_photo
from recon.adaptation import adapted_depths
from recon.alignment.align_scene import align_pairs, rematch_loose_photos
from recon.assemble import assemble_views, pair_records
from recon.depth.dense_depths import dense_depths
from recon.depth.given_maps_in_scene import priors_from_scene
from recon.fusion import fuse_points, fuse_surface
from recon.inputs import open_usable
from recon.known_cameras import load_known_cameras
from recon.metric_scale import check_scale_source, in_metres
from recon.options import Options
from recon.prediction.given_maps import read_prior_maps
from recon.prediction.predict_scene import predict_scene
from recon.progress import StageListener, Stages, collected_warnings
from recon.scene import Reconstruction
from recon.single_photo import photo_scene
from recon.two_view.features import find_features
from recon.two_view.gather_evidence import gather_evidence

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
            features = known.ideal_features(find_features(opened, advance))
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
            depths = dense_depths(frames, alignment, priors, device, options, advance)
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
