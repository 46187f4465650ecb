"""The order of the stages: photos in, a reconstruction out. The only module that knows it, but for
the stages that solve for cameras (:mod:`recon.camera_stages`).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from pointmap.errors import InputError, some_of
from pointmap.images import Photo
from pointmap.photo_files import natural_key
from recon.alignment.compared_pictures import compare_pictures
from recon.alignment.further_groups import further_groups
from recon.assemble import assemble_scene, assemble_views, in_order
from recon.camera_stages import (
    aligned_cameras,
    evidence_once,
    related,
    solved_again_once,
    solved_with_lenses,
    solved_with_zooms,
    without_squeezing,
)
from recon.depth.adaptation import AdaptOptions, adapted_depths
from recon.depth.dense_depths import dense_depths
from recon.depth_models import DepthModel
from recon.depth_models.predict_maps import model_records, with_model_maps
from recon.fusion.fuse_views import fuse_views
from recon.inputs import Inputs, frames_of_videos, read_inputs
from recon.inputs.known_cameras import check_focal, check_lenses_open
from recon.inputs.poor_photos import looked_at
from recon.matchers import Matcher
from recon.options import Options
from recon.prediction.network_pairs import network_pairs
from recon.prediction.predict_scene import predict_scene
from recon.progress import Run, StageListener
from recon.reconstruction import Reconstruction
from recon.scene import ModelRecord, Scene, Verdict
from recon.single_photos.photo_scene import photo_scene
from recon.stage_results import Alignment, NetworkResult, PairEvidence, PhotoFeatures
from recon.two_view.beside_still import still_parts, without_margin
from recon.two_view.cut_out_copies import without_cut_outs
from recon.two_view.find_features import find_features
from recon.two_view.gather_evidence import Matched
from recon.two_view.learned_matching import match_by_model
from recon.two_view.match_photos import match_photos
from recon.two_view.mirrored_photos import tell_mirrored_group, without_mirrored
from recon.verdict.judge import judge, judge_alike
from recon.verdict.second_look import judge_again
from recon.work.content_key import content_key
from recon.work.folder import Work
from recon.work.pieces import PhotosFailed
from recon.world.frame import settled
from recon.world.metric_scale import check_scale_source, in_metres

logger = logging.getLogger(__name__)


def reconstruct(
    photos: Sequence[str | Path] | str | Path,
    options: Options | None = None,
    *,
    listener: StageListener | None = None,
    work: Work | str | Path | None = None,
    depth_model: DepthModel | None = None,
    matcher: Matcher | None = None,
) -> Reconstruction:
    """Reconstruct one scene from photos: files, folders, patterns or videos.

    What the stages find is kept in ``work``, a folder, and a later call goes on from there: with
    other options, only what depends on them is done again. Deleting the folder loses nothing but
    time; but the views of the result read their pixels and depth there as long as they are used.
    None: a temporary folder, which goes with the result. Frames of videos are there, too.

    ``depth_model``, ``matcher``: of your own, in the place of those that the options name.

    Files that cannot be used are left out with a warning. Raises ``InputError`` when no photo is
    left, the checkpoint cannot be used or the work cannot be kept.
    """
    options = options or Options()
    options.check()
    if not isinstance(work, Work):
        work = Work(None if work is None else Path(work))
    given = [photos] if isinstance(photos, (str, Path)) else list(photos)
    with work.held(), Run(listener) as run:
        frames = frames_of_videos(
            given, run, work, target=options.frames, recursive=options.recursive
        )
        with run.stage("Reading photos"):
            inputs = read_inputs(
                given, options, frames=frames, depth_model=depth_model, matcher=matcher, work=work
            )
            names = [photo.name for photo in inputs.photos]
            check_scale_source(
                options.scale_from, inputs.photos, weights=options.weights, model=inputs.depth_model
            )
            check_focal(options.focal.focal_px, inputs.photos)
            check_lenses_open(inputs.known, options.focal.focal_px, options.lens)
            inputs = looked_at(inputs)
        inputs = inputs.of_photos(_working_order(inputs.photos, options))
        while True:
            try:
                of_all = _one_photo if inputs.is_single_photo else _all_photos
                scene = of_all(inputs, options, run)
                break
            except PhotosFailed as failed:
                inputs = _without(inputs, failed)
        scene = in_order(scene, names)
    models, holds = model_records(inputs), work if frames else None
    return Reconstruction.of(_told(scene, options, run, models, holds))


def _without(inputs: Inputs, failed: PhotosFailed) -> Inputs:
    """Return the inputs without the photos on which a cluster failed again and again."""
    reasons = failed.photos()
    for path, reason in reasons.items():
        logger.warning(
            "%s is left out: the cluster failed on it three times (%s)", Path(path).name, reason
        )
    kept = [k for k, photo in enumerate(inputs.photos) if str(photo.path) not in reasons]
    if not kept:
        raise InputError("the cluster failed on every photo (see the warnings)")
    return inputs.of_photos(kept)


def _working_order(photos: Sequence[Photo], options: Options) -> list[int]:
    """Return the order in which the stages see the photos: that of their paths, unless it has a
    meaning for ``options``. So the order in which they were given doesn't change the result.
    """
    if options.graph.strategy in ("window", "star"):
        return list(range(len(photos)))

    def place(number: int) -> tuple[object, ...]:
        photo = photos[number]
        # Frames lie in the work folder, wherever that is: by name, after all photos.
        if photo.video is not None:
            return 1, natural_key(Path(photo.path.name))
        return 0, natural_key(Path(os.path.abspath(photo.path)))

    return sorted(range(len(photos)), key=place)


def _told(
    scene: Scene,
    options: Options,
    run: Run,
    models: tuple[ModelRecord, ...],
    holds: Work | None,
) -> Scene:
    """Return the scene with how it came about, and those beside it likewise."""
    return replace(
        scene,
        stages=tuple(run.records),
        warnings=tuple(run.warnings),
        options=options.to_dict(),
        models=models,
        further=tuple(_told(other, options, run, models, holds) for other in scene.further),
        holds=holds,
    )


def _all_photos(inputs: Inputs, options: Options, run: Run) -> Scene:
    matched = _matched(inputs, options, run)
    evidence = related(matched, options, run)
    restored = without_squeezing(matched, evidence, options, run)
    if restored is not None:
        inputs = replace(matched.inputs, photos=restored, still=None)
        return _all_photos(inputs, options, run)
    found = evidence, aligned_cameras(matched, evidence, options, run)
    matched, found = solved_with_zooms(matched, found, options, run)
    inputs, evidence = matched.inputs, found[0]
    solved = solved_with_lenses(matched, found, options, run)
    groups = further_groups(solved[1])
    scene = in_metres(
        _aligned_scene(inputs, *solved, matched.seen, options, run),
        matched.seen.priors,
        options.scale_from,
        maps=inputs.maps,
    )
    if groups and not options.all_scenes:
        logger.warning(
            "%d more photos show %s, which nothing ties to this scene: "
            "--all-scenes reconstructs what they show, too",
            sum(map(len, groups)),
            "another place" if len(groups) == 1 else f"{len(groups)} other places",
        )
    placed = [k for k, pose in enumerate(solved[1].cam_to_world) if pose is not None]
    for group in groups:
        tell_mirrored_group(inputs, matched.features, group, placed)
    names = tuple(tuple(inputs.photos[k].name for k in group) for group in groups)
    further = _further_scenes(matched, evidence, groups, options, run) if options.all_scenes else ()
    return replace(scene, other_places=names, further=tuple(further))


def _matched(inputs: Inputs, options: Options, run: Run) -> Matched:
    """Return what matches in the photos, those that stay of them, and what the network sees."""
    if inputs.depth_model is not None:
        with run.stage("Depth of each photo") as advance:
            inputs = with_model_maps(inputs, advance=advance)
    with run.stage("Finding features") as advance:
        features: Sequence[PhotoFeatures] = find_features(
            inputs, limit=options.features, long_side=options.feature_size, advance=advance
        )
    with run.stage("Matching") as advance:
        matches = match_photos(inputs, features, options.graph, advance=advance)
        inputs, features, matches = without_mirrored(inputs, features, matches)
        inputs, features, matches = without_cut_outs(inputs, features, matches)
        still = still_parts(inputs, features, matches)
    if still is not None:
        inputs = replace(inputs, still=tuple(still))
        with run.stage("Features of what moves") as advance:
            features = find_features(
                inputs, limit=options.features, long_side=options.feature_size, advance=advance
            )
            matches = match_photos(inputs, features, options.graph, again=True)
    if inputs.matcher is not None:
        with run.stage(f"Matching by {inputs.matcher.name}") as advance:
            matches, features = match_by_model(
                inputs, features, matches, always=options.matcher != "auto", advance=advance
            )
    with run.stage("Predicting pointmaps") as advance:
        seen = predict_scene(
            inputs,
            network_pairs(inputs, matches, options.pose_from, partners=options.partners),
            advance=advance,
        )
    return Matched(inputs, features, matches, seen)


def _further_scenes(
    matched: Matched,
    evidence: PairEvidence,
    groups: Sequence[Sequence[int]],
    options: Options,
    run: Run,
) -> list[Scene]:
    """Return the scenes of ``groups`` of photos that show other places than the largest scene."""
    further: list[Scene] = []
    for group in groups:
        place = f" of scene {len(further) + 2}"
        told = evidence.of_photos(group)
        part = matched.of_photos(group, told)
        own = told, aligned_cameras(part, told, options, run, place)
        part, own = solved_with_zooms(part, own, options, run, place)
        own = solved_with_lenses(part, own, options, run, place)
        if own[1].placed.sum() > 1:
            further.append(_aligned_scene(part.inputs, *own, part.seen, options, run, place))
    return further


def _aligned_scene(
    inputs: Inputs,
    evidence: PairEvidence,
    alignment: Alignment,
    seen: NetworkResult,
    options: Options,
    run: Run,
    place: str = "",
) -> Scene:
    """Return the scene of solved cameras; ``seen``: what the network sees in the photos; ``place``
    is added to the stages' names.
    """
    if inputs.still is not None:
        inputs = replace(inputs, still=without_margin(inputs.still))
    with run.stage(f"Judging the cameras{place}"):
        first_verdict = _first_verdict(inputs, alignment, seen, options)
    _tell(first_verdict, place)
    with run.stage(f"Depth{place}") as advance:
        dense = dense_depths(
            inputs,
            alignment,
            evidence,
            long_side=options.depth_size,
            prior=options.depth,
            stereo=options.stereo if options.refine_depth else None,
            advance=advance,
        )
    verdict = first_verdict
    if options.refine_depth:
        verdict = judge_again(first_verdict, alignment, dense)
    if verdict != first_verdict:
        _tell(verdict, place)
    if options.adapt is not None:
        with run.stage(f"Adapting the network{place}") as advance:
            adapt = AdaptOptions(options.adapt, seed=options.seed)
            dense = adapted_depths(
                inputs, alignment, dense, adapt, evidence.predicted, options.depth, advance=advance
            )
    solved = assemble_views(inputs.photos, alignment, dense)
    with run.stage(f"Fusing the surface{place}"):
        # Depth does not depend on the frame of the world; from here on everything does.
        views, world, turn = settled(solved, options.world, inputs.known.world, work=inputs.work)
        fused = fuse_views(
            views,
            options.fusion,
            device=inputs.device,
            work=inputs.work,
            world=world,
            in_doubt=_single_ones_in_doubt(verdict),
        )
    scene = assemble_scene(inputs.photos, evidence, alignment, views, fused, turn)
    return replace(scene, units=inputs.known.units, world=world, verdict=verdict)


def _first_verdict(
    inputs: Inputs, alignment: Alignment, seen: NetworkResult, options: Options
) -> Verdict | None:
    """Return what is to be thought of the cameras before there is depth."""
    photos, known = inputs.photos, inputs.known
    of_file = options.known_cameras is not None
    poses = of_file and any(pose is not None for pose in known.cam_to_world)
    lenses = of_file and any(lens is not None for lens in known.lenses)
    lenses = lenses or options.focal.focal_px is not None
    learned = inputs.matcher is not None
    by_maps = inputs.depth_model is not None and inputs.maps is not None

    def judged() -> Verdict | None:
        verdict = judge(
            photos,
            alignment,
            compare_pictures(photos, alignment),
            seen,
            learned=learned,
            given_poses=poses,
            given_lenses=lenses,
            by_maps=by_maps,
            tell=partial(evidence_once, inputs.work),
            again=partial(solved_again_once, inputs.work),
        )
        return judge_alike(verdict, photos, alignment)

    names = [photo.name for photo in photos]
    network = inputs.network_key, seen.pairs
    depends_on = inputs.photo_keys, names, alignment, network, learned, poses, lenses, by_maps
    return inputs.work.once(content_key("verdict", 17, *depends_on), judged)


def _single_ones_in_doubt(verdict: Verdict | None) -> list[str]:
    """Return the names of photos in doubt of a scene that is sound."""
    if verdict is None or verdict.word != "sound":
        return []
    return [photo.name for photo in verdict.in_doubt]


def _tell(verdict: Verdict | None, place: str) -> None:
    """Warn of cameras that are not sound, and of photos whose own are not in a scene that is."""
    if verdict is None:
        return
    if verdict.word != "sound":
        logger.warning("the cameras%s are %s: %s", place, verdict.word, verdict.reason)
    elif odd := verdict.in_doubt:
        names, reason = some_of([photo.name for photo in odd]), odd[0].reason
        logger.warning("the cameras%s are sound, but not of %s: %s", place, names, reason)


def _one_photo(inputs: Inputs, options: Options, run: Run) -> Scene:
    if options.adapt is not None:
        logger.warning("--adapt needs photos that confirm each other: one alone has none")
    with run.stage("Depth"):
        return photo_scene(inputs, 0, options)
