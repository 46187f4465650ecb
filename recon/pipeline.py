"""The order of the stages: photos in, a reconstruction out. The only module that knows it."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pointmap.errors import InputError
from pointmap.images import Photo, natural_key
from recon.alignment.align import align
from recon.alignment.align_by_maps import align_by_maps
from recon.alignment.align_scene import align_scene
from recon.alignment.compared_pictures import compare_pictures
from recon.alignment.fisheyes import as_fisheyes
from recon.alignment.further_groups import further_groups
from recon.alignment.refinement import LensModel
from recon.alignment.solved_lenses import solved_lenses
from recon.alignment.with_depth_maps import with_depth_maps
from recon.alignment.zooms import Zooms, cameras_by_zoom, with_zooms
from recon.assemble import assemble_scene, assemble_views, in_order
from recon.depth.adaptation import AdaptOptions, adapted_depths
from recon.depth.dense_depths import dense_depths
from recon.depth_models import DepthModel
from recon.depth_models.predict_maps import model_records, with_model_maps
from recon.fusion.fuse_views import fuse_views
from recon.inputs import Inputs, frames_of_videos, read_inputs
from recon.inputs.known_cameras import check_focal, check_lenses_open
from recon.inputs.poor_photos import tell_poor_photos
from recon.matchers import Matcher
from recon.options import Options
from recon.prediction.network_pairs import network_pairs
from recon.prediction.predict_scene import predict_scene
from recon.progress import Run, StageListener
from recon.reconstruction import Reconstruction
from recon.scene import ModelRecord, Scene, Verdict
from recon.single_photos.photo_scene import photo_scene
from recon.stage_results import (
    Alignment,
    NetworkResult,
    PairEdge,
    PairEvidence,
    PairMatches,
    PhotoFeatures,
)
from recon.two_view.features import find_features
from recon.two_view.gather_evidence import gather_evidence
from recon.two_view.learned_matching import match_by_model
from recon.two_view.match_photos import match_photos
from recon.two_view.mirrored_photos import without_mirrored
from recon.verdict.judge import judge, judge_alike
from recon.verdict.second_look import judge_again
from recon.work.content_key import content_key, item_key
from recon.work.folder import Work
from recon.work.on_demand import Chosen
from recon.work.pieces import PhotosFailed
from recon.work.steps import Steps
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
                given,
                frames=frames,
                weights=options.weights,
                device=options.device,
                recursive=options.recursive,
                masks=options.masks,
                known_cameras=options.known_cameras,
                extend=options.extend,
                prior_depth=options.prior_depth,
                depth_model=depth_model or options.depth_model,
                matcher=matcher or options.matcher,
                work=work,
            )
            names = [photo.name for photo in inputs.photos]
            check_scale_source(
                options.scale_from, names, weights=options.weights, model=inputs.depth_model
            )
            check_focal(options.focal.focal_px, inputs.photos)
            check_lenses_open(inputs.known, options.focal.focal_px, options.lens)
            tell_poor_photos(inputs)
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
    found = _cameras(inputs, features, matches, seen, options, run)
    inputs, found = _with_zooms(inputs, features, matches, seen, found, options, run)
    evidence, alignment = _with_lenses(inputs, features, matches, seen, found, options, run)
    groups = further_groups(alignment)
    scene = in_metres(
        _aligned_scene(inputs, evidence, alignment, options, run),
        seen.priors,
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
    further: list[Scene] = []
    for group in groups if options.all_scenes else ():
        place = f" of scene {len(further) + 2}"
        part, told = inputs.of_photos(group), found[0].of_photos(group)
        own = Chosen(features, group), told.matches, seen.of_photos(group)
        solved = told, _alignment(part, own[0], told, options, run, place)
        part, solved = _with_zooms(part, *own, solved, options, run, place)
        solved = _with_lenses(part, *own, solved, options, run, place)
        if sum(pose is not None for pose in solved[1].cam_to_world) > 1:
            further.append(_aligned_scene(part, *solved, options, run, place))
    names = tuple(tuple(inputs.photos[k].name for k in group) for group in groups)
    return replace(scene, other_places=names, further=tuple(further))


def _with_zooms(
    inputs: Inputs,
    features: Sequence[PhotoFeatures],
    matches: Sequence[PairMatches],
    seen: NetworkResult,
    found: tuple[PairEvidence, Alignment],
    options: Options,
    run: Run,
    place: str = "",
) -> tuple[Inputs, tuple[PairEvidence, Alignment]]:
    """Return the photos, and what was ``found``, with the zooms that they show; as they are where
    they show one. ``place`` is added to the stages' names.
    """
    evidence, alignment = found
    with run.stage(f"Comparing zooms{place}"):
        zooms = inputs.work.once(
            content_key("zooms", 5, evidence, alignment, options.align, inputs.known),
            lambda: cameras_by_zoom(
                inputs.photos,
                evidence,
                alignment,
                options.align,
                known_cam_to_world=inputs.known.cam_to_world,
            ),
        )
    if zooms is None:
        return inputs, found
    inputs = replace(inputs, photos=with_zooms(inputs.photos, zooms))
    how = f" at several zooms{place}"
    return inputs, _cameras(inputs, features, matches, seen, options, run, how, zooms)


def _with_lenses(
    inputs: Inputs,
    features: Sequence[PhotoFeatures],
    matches: Sequence[PairMatches],
    seen: NetworkResult,
    found: tuple[PairEvidence, Alignment],
    options: Options,
    run: Run,
    place: str = "",
) -> tuple[PairEvidence, Alignment]:
    """Return what was ``found`` with the lenses that the photos show, as far as they may be;
    ``place`` is added to the stage's name.
    """
    known = inputs.known
    if any(one is not None for one in (*known.lenses, *known.cam_to_world)):
        return found
    if inputs.depth_model is not None and inputs.maps is not None:
        # Maps have held the cameras, and with other lenses would have to once more.
        return found
    with run.stage(f"Choosing lenses{place}"):
        evidence, alignment = found
        always = options.lens == "fisheye"
        if always or options.lens == "auto":
            bent = inputs.work.once(
                content_key("fisheyes", 3, *found, matches, options.align, always, options.seed),
                lambda: as_fisheyes(
                    inputs,
                    features,
                    matches,
                    seen,
                    found,
                    options.focal,
                    options.align,
                    seed=options.seed,
                    always=always,
                ),
            )
            if bent is not None:
                priors = evidence.priors, evidence.network_priors
                return replace(bent[0], priors=priors[0], network_priors=priors[1]), bent[1]
        if options.lens == "pinhole":
            return found
        cut_out = options.lens == "auto"
        chosen = inputs.work.once(
            content_key("lenses", 6, *found, options.align, options.seed, cut_out),
            lambda: solved_lenses(
                inputs.photos,
                evidence,
                alignment,
                options.align,
                cut_out=cut_out,
                features=features,
                seed=options.seed,
            ),
        )
        if chosen.cut_out:
            logger.warning(
                "the photos were cut out of larger ones, each elsewhere, as their matches tell, or "
                "show what repeats (windows, tiles): their principal points are solved for one by "
                "one, which matches hardly hold; give the original files"
            )
        return evidence, chosen


def _cameras(
    inputs: Inputs,
    features: Sequence[PhotoFeatures],
    matches: Sequence[PairMatches],
    seen: NetworkResult,
    options: Options,
    run: Run,
    how: str = "",
    zooms: Zooms | None = None,
) -> tuple[PairEvidence, Alignment]:
    """Return what the photos say of each other, and their cameras, going on from those of ``zooms``
    if any were found; ``how`` is added to the stages' names.
    """
    with run.stage(f"Relative poses{how}") as advance:
        evidence = gather_evidence(
            inputs,
            features,
            matches,
            seen,
            options.focal,
            pose_from=options.pose_from,
            focals=None if zooms is None else zooms.focals,
            advance=advance,
        )
    start = None if zooms is None else zooms.alignment
    return evidence, _alignment(inputs, features, evidence, options, run, how, start)


def _alignment(
    inputs: Inputs,
    features: Sequence[PhotoFeatures],
    evidence: PairEvidence,
    options: Options,
    run: Run,
    place: str = "",
    start: Alignment | None = None,
) -> Alignment:
    with run.stage(f"Aligning cameras{place}") as advance:
        names = [item_key(features, k) for k in range(len(features))]
        learned = inputs.matcher is not None
        # Pairs that were asked for are all that are looked at.
        by_place = options.graph.strategy == "auto"
        lens = LensModel(k1=options.lens != "pinhole")
        how = by_place, options.align, options.seed, lens
        depends_on = names, inputs.known, evidence, learned, how, start
        key = content_key("alignment", 19, *depends_on)
        steps = Steps(inputs.work, key)
        alignment = inputs.work.once(
            key,
            lambda: align_scene(
                inputs,
                features,
                evidence,
                options.align,
                by_place=by_place,
                seed=options.seed,
                lens=lens,
                start=start,
                steps=steps,
                advance=advance,
            ),
        )
        steps.forget_passing()
    return _held_by_maps(inputs, features, evidence, alignment, options, lens)


def _held_by_maps(
    inputs: Inputs,
    features: Sequence[PhotoFeatures],
    evidence: PairEvidence,
    alignment: Alignment,
    options: Options,
    lens: LensModel,
) -> Alignment:
    """Return the alignment with what a depth model's maps tell of cameras that few tracks hold."""
    # Maps of files are of no known kind; cameras that are known stay as they are.
    known = any(pose is not None for pose in inputs.known.cam_to_world)
    if inputs.depth_model is None or inputs.maps is None or known:
        return alignment
    photos, maps, focals = inputs.photos, inputs.maps, evidence.focals

    def again(edges: Sequence[PairEdge], start: Alignment) -> Alignment:
        return align(
            photos,
            replace(evidence, edges=list(edges)),
            options.align,
            seed=options.seed,
            features=features,
            start=start,
            lens=lens,
        )

    def held() -> Alignment:
        found = align_by_maps(photos, alignment, maps, focals, again)
        return found or with_depth_maps(photos, alignment, maps, focals)

    depends_on = alignment, maps, evidence, options.align, options.seed, lens
    return inputs.work.once(content_key("alignment with maps", 2, *depends_on), held)


def _aligned_scene(
    inputs: Inputs,
    evidence: PairEvidence,
    alignment: Alignment,
    options: Options,
    run: Run,
    place: str = "",
) -> Scene:
    """Return the scene of solved cameras; ``place`` is added to the stages' names."""
    with run.stage(f"Judging the cameras{place}"):
        first_verdict = _first_verdict(inputs, alignment, options)
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
            views, options.fusion, device=inputs.device, work=inputs.work, world=world
        )
    scene = assemble_scene(evidence, alignment, views, fused, turn)
    return replace(scene, units=inputs.known.units, world=world, verdict=verdict)


def _first_verdict(inputs: Inputs, alignment: Alignment, options: Options) -> Verdict | None:
    """Return what is to be thought of the cameras before there is depth."""
    photos, known = inputs.photos, inputs.known
    of_file = options.known_cameras is not None
    poses = of_file and any(pose is not None for pose in known.cam_to_world)
    lenses = of_file and any(lens is not None for lens in known.lenses)
    lenses = lenses or options.focal.focal_px is not None
    learned = inputs.matcher is not None

    def judged() -> Verdict | None:
        verdict = judge(
            photos,
            alignment,
            compare_pictures(photos, alignment),
            learned=learned,
            given_poses=poses,
            given_lenses=lenses,
        )
        return judge_alike(verdict, photos, alignment)

    names = [photo.name for photo in photos]
    depends_on = inputs.photo_keys, names, alignment, learned, poses, lenses
    return inputs.work.once(content_key("verdict", 4, *depends_on), judged)


def _tell(verdict: Verdict | None, place: str) -> None:
    """Warn of cameras that are not sound."""
    if verdict is not None and verdict.word != "sound":
        logger.warning("the cameras%s are %s: %s", place, verdict.word, verdict.reason)


def _one_photo(inputs: Inputs, options: Options, run: Run) -> Scene:
    if options.adapt is not None:
        logger.warning("--adapt needs photos that confirm each other: one alone has none")
    with run.stage("Depth"):
        return photo_scene(
            inputs,
            0,
            long_side=options.depth_size,
            focal=options.focal,
            fusion=options.fusion,
            scale_from=options.scale_from,
            world=options.world,
        )
