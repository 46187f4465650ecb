"""The stages from matches to cameras: relative poses, alignment, zooms and lenses, each kept."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from pointmap.errors import number_of, some_of
from pointmap.images import Photo, unsqueezed
from recon.alignment.align import align
from recon.alignment.align_by_maps import align_by_maps
from recon.alignment.align_scene import align_scene
from recon.alignment.fisheyes import as_fisheyes
from recon.alignment.refinement import LensModel
from recon.alignment.solved_lenses import solved_lenses
from recon.alignment.stated_focals import as_stated
from recon.alignment.with_depth_maps import with_depth_maps
from recon.alignment.zooms import Zooms, cameras_by_zoom, every_match, with_zooms
from recon.localise.squeezed_photos import odd_shapes, squeezed_photos
from recon.options import Options
from recon.progress import Run
from recon.stage_results import (
    Alignment,
    Focals,
    PairEdge,
    PairEvidence,
)
from recon.two_view.gather_evidence import Matched, gather_evidence
from recon.verdict.better_start import from_better_start
from recon.verdict.evidence import SceneEvidence, scene_evidence
from recon.verdict.solved_again import SolvedAgain, solved_again
from recon.work.content_key import content_key, item_key
from recon.work.folder import Work
from recon.work.steps import Steps

logger = logging.getLogger(__name__)

Solved = tuple[PairEvidence, Alignment]
"""What photos say of each other, and the cameras that follow."""


def solved_cameras(
    matched: Matched, options: Options, run: Run, how: str = "", zooms: Zooms | None = None
) -> Solved:
    """Return what the photos say of each other, and their cameras, going on from those of ``zooms``
    if any were found; ``how`` is added to the stages' names.
    """
    evidence = related(matched, options, run, how, None if zooms is None else zooms.focals)
    start = None if zooms is None else zooms.alignment
    return evidence, aligned_cameras(matched, evidence, options, run, how, start)


def related(
    matched: Matched, options: Options, run: Run, how: str = "", focals: Focals | None = None
) -> PairEvidence:
    """Return what the photos say of each other, with ``focals`` if these are known; ``how`` is
    added to the stage's name.
    """
    with run.stage(f"Relative poses{how}") as advance:
        return gather_evidence(
            matched, options.focal, pose_from=options.pose_from, focals=focals, advance=advance
        )


def without_squeezing(
    matched: Matched, evidence: PairEvidence, options: Options, run: Run
) -> tuple[Photo, ...] | None:
    """Return the photos with those as they were taken that were squeezed or stretched beside the
    others, which is warned of; None where none was.
    """
    inputs, known = matched.inputs, matched.inputs.known
    _, odd = odd_shapes(inputs.photos)
    if not odd or any(one is not None for one in (*known.lenses, *known.cam_to_world)):
        return None
    with run.stage("Comparing shapes"):
        squeezed = inputs.work.once(
            content_key("squeezed photos", 1, inputs.photo_keys, evidence, options.align),
            lambda: squeezed_photos(inputs.photos, evidence, options.align, seed=options.seed),
        )
    if not any(squeezed):
        return None
    names = [photo.name for photo, size in zip(inputs.photos, squeezed, strict=True) if size]
    logger.warning(
        "%s squeezed or stretched beside the others, as their matches tell, and used in the "
        "others' shape: %s",
        number_of(len(names), "photo was", "photos were"),
        some_of(names),
    )
    return tuple(
        photo if size is None else unsqueezed(photo, *size)
        for photo, size in zip(inputs.photos, squeezed, strict=True)
    )


def aligned_cameras(
    matched: Matched,
    evidence: PairEvidence,
    options: Options,
    run: Run,
    place: str = "",
    start: Alignment | None = None,
) -> Alignment:
    """Return the cameras that follow from ``evidence``, going on from ``start`` if it is given."""
    inputs, features = matched.inputs, matched.features
    with run.stage(f"Aligning cameras{place}") as advance:
        names = [item_key(features, k) for k in range(len(features))]
        learned = inputs.matcher is not None
        # Pairs that were asked for are all that are looked at.
        by_place = options.graph.strategy == "auto"
        lens = LensModel(k1=options.lens != "pinhole")
        how = by_place, options.feature_size, options.align, options.seed, lens
        depends_on = names, inputs.known, evidence, learned, how, start
        key = content_key("alignment", 27, *depends_on)
        steps = Steps(inputs.work, key)
        alignment = inputs.work.once(
            key,
            lambda: align_scene(
                inputs,
                features,
                evidence,
                options.align,
                by_place=by_place,
                feature_size=options.feature_size,
                seed=options.seed,
                lens=lens,
                start=start,
                steps=steps,
                advance=advance,
            ),
        )
        steps.forget_passing()
    return _held_by_maps(matched, evidence, alignment, options, lens)


def _held_by_maps(
    matched: Matched,
    evidence: PairEvidence,
    alignment: Alignment,
    options: Options,
    lens: LensModel,
) -> Alignment:
    """Return the alignment with what a depth model's maps tell of cameras that few tracks hold."""
    inputs = matched.inputs
    # Maps of files are of no known kind; cameras that are known stay as they are, and of photos
    # through other lenses than pinholes maps and matches are not of the same picture.
    known = any(pose is not None for pose in inputs.known.cam_to_world) or inputs.known.bent
    if inputs.depth_model is None or inputs.maps is None or known:
        return alignment
    photos, maps, focals = inputs.photos, inputs.maps, evidence.focals

    def again(edges: Sequence[PairEdge], start: Alignment) -> Alignment:
        return align(
            photos,
            replace(evidence, edges=list(edges)),
            options.align,
            seed=options.seed,
            features=matched.features,
            start=start,
            lens=lens,
        )

    def held() -> Alignment:
        found = align_by_maps(photos, alignment, maps, focals, again)
        return found or with_depth_maps(photos, alignment, maps, focals)

    depends_on = alignment, maps, evidence, options.align, options.seed, lens
    return inputs.work.once(content_key("alignment with maps", 4, *depends_on), held)


def solved_with_zooms(
    matched: Matched, found: Solved, options: Options, run: Run, place: str = ""
) -> tuple[Matched, Solved]:
    """Return the photos, and what was ``found``, with the zooms that they show; as they are where
    they show one. ``place`` is added to the stages' names.
    """
    inputs, (evidence, alignment) = matched.inputs, found
    with run.stage(f"Comparing zooms{place}"):
        zooms = inputs.work.once(
            content_key("zooms", 11, evidence, alignment, options.align, inputs.known),
            lambda: cameras_by_zoom(
                inputs.photos,
                evidence,
                alignment,
                options.align,
                known_cam_to_world=inputs.known.cam_to_world,
            ),
        )
    if zooms is None:
        return matched, found
    # With what has been matched since, which takes far longer than the rest.
    matched = replace(
        matched,
        inputs=replace(inputs, photos=with_zooms(inputs.photos, zooms)),
        matches=every_match(evidence.matches, alignment.edges),
    )
    return matched, solved_cameras(matched, options, run, f" at several zooms{place}", zooms)


def solved_with_lenses(
    matched: Matched, found: Solved, options: Options, run: Run, place: str = ""
) -> Solved:
    """Return what was ``found`` with the lenses that the photos show, as far as they may be;
    ``place`` is added to the stage's name.
    """
    inputs, known = matched.inputs, matched.inputs.known
    if any(one is not None for one in (*known.lenses, *known.cam_to_world)):
        return found
    if inputs.depth_model is not None and inputs.maps is not None:
        # Maps have held the cameras, and with other lenses would have to once more.
        return found
    with run.stage(f"Choosing lenses{place}"):
        stated = _as_stated(matched, found, options)
        bent = _as_fisheyes(matched, stated or found, options)
        if bent is not None:
            return bent
        if options.lens == "pinhole":
            return stated or found
        # Matches that don't tell a focal length tell each photo's own centre even less.
        cut_out = options.lens == "auto" and stated is None
        found = _with_chosen_lenses(matched, stated or found, options, cut_out=cut_out)
    with run.stage(f"Trying other focal lengths{place}"):
        return _from_better_start(matched, found, options) or found


def _as_stated(matched: Matched, found: Solved, options: Options) -> Solved | None:
    """Return what was ``found`` with focal lengths as files state them, where matches fit alike."""
    photos, (evidence, alignment) = matched.inputs.photos, found
    lens = LensModel(k1=options.lens != "pinhole")
    return _once(
        matched.inputs.work,
        content_key("stated focals", 2, *found, options.align, options.seed, lens),
        evidence,
        lambda: as_stated(
            photos,
            evidence,
            alignment,
            options.align,
            lens=lens,
            features=matched.features,
            seed=options.seed,
        ),
    )


def _as_fisheyes(matched: Matched, found: Solved, options: Options) -> Solved | None:
    """Return the cameras as fisheyes, where they may be and are any."""
    if options.lens not in ("auto", "fisheye"):
        return None
    always = options.lens == "fisheye"
    return _once(
        matched.inputs.work,
        content_key("fisheyes", 8, *found, matched.matches, options.align, always, options.seed),
        found[0],
        lambda: as_fisheyes(
            matched,
            found,
            options.focal,
            options.align,
            seed=options.seed,
            always=always,
            tell=partial(evidence_once, matched.inputs.work),
        ),
    )


def _with_chosen_lenses(
    matched: Matched, found: Solved, options: Options, *, cut_out: bool
) -> Solved:
    """Return what was ``found`` with more of the lenses solved for where the photos show it;
    photos that were ``cut_out`` of larger ones, which is warned of, only if they may be.
    """
    inputs, (evidence, alignment) = matched.inputs, found
    chosen = inputs.work.once(
        content_key("lenses", 13, *found, options.align, options.seed, cut_out),
        lambda: solved_lenses(
            inputs.photos,
            evidence,
            alignment,
            options.align,
            cut_out=cut_out,
            features=matched.features,
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


def _from_better_start(matched: Matched, found: Solved, options: Options) -> Solved | None:
    """Return what follows from other focal lengths, where that fits far better."""
    inputs, (evidence, alignment) = matched.inputs, found
    return _once(
        inputs.work,
        content_key("better start", 5, *found, options.align, options.seed),
        evidence,
        lambda: from_better_start(
            inputs.photos,
            evidence,
            alignment,
            options.align,
            features=matched.features,
            seed=options.seed,
            tell=partial(evidence_once, inputs.work),
            again=partial(solved_again_once, inputs.work),
        ),
    )


def _once(
    work: Work, key: str, evidence: PairEvidence, solve: Callable[[], Solved | None]
) -> Solved | None:
    """Return what ``solve`` does, kept without the priors of the ``evidence`` that it goes on from:
    they are read when they are asked for, and no file holds them twice.
    """

    def solved() -> Solved | None:
        found = solve()
        return found and (replace(found[0], priors=[], network_priors=None), found[1])

    kept = work.once(key, solved)
    if kept is None:
        return None
    priors, network_priors = evidence.priors, evidence.network_priors
    return replace(kept[0], priors=priors, network_priors=network_priors), kept[1]


def evidence_once(work: Work, photos: Sequence[Photo], alignment: Alignment) -> SceneEvidence:
    """Return what :func:`recon.verdict.evidence.scene_evidence` does, kept: lenses and remedies ask
    for it, and so does the verdict on cameras that these left as they were.
    """
    told = [(photo.width, photo.height, photo.exif_focal_px) for photo in photos]
    key = content_key("evidence of matches", 1, told, alignment)
    return work.once(key, lambda: scene_evidence(photos, alignment))


def solved_again_once(
    work: Work, photos: Sequence[Photo], alignment: Alignment
) -> list[SolvedAgain]:
    """Return what :func:`recon.verdict.solved_again.solved_again` does, kept: a remedy asks for it,
    and so does the verdict on cameras that the remedy left as they were.
    """
    told = [(photo.width, photo.height, photo.exif_focal_px) for photo in photos]
    key = content_key("solved again", 2, told, alignment)
    return work.once(key, lambda: solved_again(photos, alignment))
