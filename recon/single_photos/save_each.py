"""Photos that are not one scene: each its own depth, cloud and mesh, and one page for all."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryFile

import pointmap
from pointmap.errors import InputError
from pointmap.photo_files import find_photos
from recon.depth_models.predict_maps import model_records
from recon.export.file_names import depth_stems
from recon.export.json_file import plain, write_json
from recon.export.options import ExportOptions
from recon.export.ownership import file_digests
from recon.export.staging import OutputFolder
from recon.inputs import frames_of_videos, read_inputs
from recon.options import Options
from recon.progress import Run, StageListener
from recon.save import write_files
from recon.scene import ModelRecord
from recon.single_photos.photo_scene import photo_scene
from recon.work.folder import Work
from recon.world.metric_scale import check_scale_source

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SavedPhotos:
    """How many photos were ``saved``, and the names of those ``left_out``, each with a warning."""

    saved: int
    left_out: tuple[str, ...]


def for_scenes(option: str) -> InputError:
    """Return what is said of an option that photos by themselves have no use for."""
    return InputError(f"{option} is for scenes: it doesn't go with --mode depth")


def save_each(
    photos: Sequence[str | Path],
    options: Options,
    output: OutputFolder,
    *,
    work: Work,
    export: ExportOptions | None = None,
    listener: StageListener | None = None,
) -> SavedPhotos:
    """Write a scene folder per photo, named after it, into ``output``; return how many.

    What models say of each photo is kept in ``work``: a run that was stopped goes on from there.
    Photos that cannot be used are left out with a warning; one scene is in memory at a time.
    ``report.html`` shows them all. The folder appears complete or not at all. Raises ``InputError``
    when no photo is left, where the scale of a whole scene is asked for, and as
    :meth:`recon.export.staging.OutputFolder.staged` does.
    """
    # viz depends on recon, not the other way: it is imported where it is called.
    from viz.pages.depth_report import depth_card, write_depth_report

    options = _of_single_photos(options)
    saved = set[Path]()
    with (
        work.held(),
        output.staged() as staging,
        Run(listener) as run,
        # Undecodable file names arrive as lone surrogates.
        TemporaryFile("w+", encoding="utf-8", errors="backslashreplace") as cards,
    ):
        frames = frames_of_videos(
            photos, run, work, target=options.frames, recursive=options.recursive
        )
        with run.stage("Reading photos"):
            # Nobody matches a photo by itself.
            inputs = read_inputs(photos, replace(options, matcher="sift"), frames=frames, work=work)
            check_scale_source(
                options.scale_from, [], weights=options.weights, model=inputs.depth_model
            )
            models = model_records(inputs)
        stems = _folder_names([photo.name for photo in inputs.photos])
        with run.stage("Depth of each photo") as advance:
            for number, (photo, stem) in enumerate(zip(inputs.photos, stems, strict=True)):
                advance(number, len(stems))
                try:
                    scene = photo_scene(inputs, number, options)
                except InputError as error:
                    logger.warning("left out: %s", error)
                    continue
                (staging / stem).mkdir()
                write_files(
                    replace(scene, options=options.to_dict(), models=models),
                    staging / stem,
                    scene_folder=output.target / stem,
                    export=export or ExportOptions(),
                    report=False,
                )
                cards.write(depth_card(scene, stem))
                saved.add(photo.path)
        if not saved:
            raise InputError(f"no depth in any of the {len(stems)} photos (see the warnings)")
        cards.seek(0)
        page = (staging / "report.html").open("w", encoding="utf-8", errors="backslashreplace")
        with page:
            write_depth_report(page, cards, len(saved), run.warnings)
        _write_run(staging, options, models, run)
    given = find_photos(photos, frames=frames)
    return SavedPhotos(len(saved), tuple(path.name for path in given if path not in saved))


def _of_single_photos(options: Options) -> Options:
    """Return the options with what goes with single photos; raises ``InputError`` for what is for
    scenes.
    """
    options = replace(options, depth_products=True)
    options.check()
    for name in ("known_cameras", "extend", "prior_depth", "adapt", "all_scenes"):
        if getattr(options, name):
            raise for_scenes(f"--{name.replace('_', '-')}")
    if options.scale_from not in (None, "network", "model"):
        raise InputError(
            "--scale-from names photos of one scene; with --mode depth only network or model"
        )
    return options


def _folder_names(names: Sequence[str]) -> list[str]:
    """Return a folder name per photo, none of them that of a file of the whole."""
    taken = ("report.html", "run.json")
    return [f"{stem}_" if stem.casefold() in taken else stem for stem in depth_stems(names)]


def _write_run(staging: Path, options: Options, models: tuple[ModelRecord, ...], run: Run) -> None:
    """Write the ``run.json`` of the whole, by which the folder is known as ours."""
    data = {
        "program": "pointmap",
        "version": pointmap.__version__,
        "mode": "depth",
        "options": options.to_dict(),
        "models": models,
        "stages": run.records,
        "warnings": run.warnings,
        "files": file_digests(staging),
    }
    write_json(staging / "run.json", plain(data))
