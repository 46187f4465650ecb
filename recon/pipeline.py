"""The order of the stages: photos in, a reconstruction out. The only module that knows it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from recon.adaptation import AdaptOptions, adapted_depths
from recon.alignment.align_scene import align_scene
from recon.assemble import assemble_scene, assemble_views
from recon.depth.dense_depths import dense_depths
from recon.fusion import fuse_views
from recon.inputs import Inputs, read_inputs
from recon.metric_scale import check_scale_source, in_metres
from recon.options import Options
from recon.prediction.predict_scene import predict_scene
from recon.progress import Run, StageListener
from recon.reconstruction import Reconstruction
from recon.scene import Scene
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
    options = options or Options()
    options.check()
    with Run(listener) as run:
        with run.stage("Reading photos"):
            inputs = read_inputs(
                photos,
                weights=options.weights,
                device=options.device,
                known_cameras=options.known_cameras,
                extend=options.extend,
                prior_depth=options.prior_depth,
            )
            names = [photo.name for photo in inputs.photos]
            check_scale_source(options.scale_from, names, weights=options.weights)
        scene = (_one_photo if inputs.is_single_photo else _all_photos)(inputs, options, run)
    return Reconstruction.of(
        replace(
            scene,
            stages=tuple(run.records),
            warnings=tuple(run.warnings),
            options=options.to_dict(),
        )
    )


def _all_photos(inputs: Inputs, options: Options, run: Run) -> Scene:
    with run.stage("Finding features") as advance:
        features = find_features(inputs, advance=advance)
    with run.stage("Predicting pointmaps") as advance:
        seen = predict_scene(inputs, options.graph, advance=advance)
    with run.stage("Matching and poses") as advance:
        evidence = gather_evidence(
            inputs, features, seen, options.focal, pose_from=options.pose_from, advance=advance
        )
    with run.stage("Aligning cameras") as advance:
        alignment = align_scene(
            inputs, features, evidence, options.align, seed=options.seed, advance=advance
        )
    with run.stage("Depth") as advance:
        dense = dense_depths(
            inputs,
            alignment,
            evidence.priors,
            long_side=options.depth_size,
            prior=options.depth,
            stereo=options.stereo if options.refine_depth else None,
            advance=advance,
        )
    if options.adapt is not None:
        with run.stage("Adapting the network") as advance:
            adapt = AdaptOptions(options.adapt, seed=options.seed)
            dense = adapted_depths(
                inputs, alignment, dense, adapt, options.graph, options.depth, advance=advance
            )
    views = assemble_views(alignment, dense)
    with run.stage("Fusing the surface"):
        fused = fuse_views(views, options.fusion, device=inputs.device)
    scene = assemble_scene(evidence, alignment, views, fused)
    scene = replace(scene, units=inputs.known.units)
    return in_metres(scene, seen.priors, options.scale_from)


def _one_photo(inputs: Inputs, options: Options, run: Run) -> Scene:
    if options.adapt is not None:
        logger.warning("--adapt needs photos that confirm each other: one alone has none")
    with run.stage("Depth"):
        return photo_scene(
            inputs.photos[0],
            inputs.network,
            device=inputs.device,
            long_side=options.depth_size,
            focal=options.focal,
            fusion=options.fusion,
            scale_from=options.scale_from,
        )
