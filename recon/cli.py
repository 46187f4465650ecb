"""The command: photos in, a scene folder out."""

from __future__ import annotations

import gc
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from pointmap.command_line import read_arguments
from pointmap.commands import interrupted, run_command
from pointmap.errors import InputError, number_of
from pointmap.version import answer_version
from recon.export.options import ExportOptions
from recon.options import Options, Quality

if TYPE_CHECKING:
    from recon.export import OutputFolder
    from recon.scene import Scene
    from recon.terminal import ProgressBars
    from recon.work.folder import Work

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Command:
    """Reconstruct a scene from photos or videos: cameras, depth, cloud, mesh, files for others.

    Example: python run_recon.py my_photos/ --out my_scene; --version alone prints the version.
    """

    photos: Annotated[
        tyro.conf.Positional[tuple[str, ...]],
        tyro.conf.arg(metavar="PHOTO ...", help_behavior_hint=""),
    ]
    """Photo files, folders of photos, quoted patterns such as 'trip/*.jpg', or videos."""

    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """Folder to write the scene to. It must not exist yet, or say --overwrite."""

    overwrite: bool = False
    """Replace the scene that is already in the output folder. Files in it that are not of that
    scene are never deleted."""

    fresh: bool = False
    """Start anew, also where an earlier run was stopped. Without it the same command goes on from
    there: what each step found is kept in DIR.work until the scene is written."""

    keep_work: bool = False
    """Keep DIR.work when the scene is written, too: with --overwrite and other options for the mesh
    or the files, only that is done again."""

    quality: Quality = "standard"
    """draft: a coarse coloured mesh, soon (depth maps of 256 pixels, of three neighbours each, and
    half as many key points).
    high: depth maps of 1024 pixels, at several times the cost. Options that are given, too, win."""

    mode: Literal["scene", "depth"] = "scene"
    """scene: all photos show one scene. depth: each photo by itself; DIR gets a folder for each,
    with its depth, cloud and mesh, and one report."""

    cluster: str = "local"
    """Where the work on single photos and pairs is done. local: in this process. auto, or the
    address host:port of its head: as tasks of a Ray cluster that is running and of which this
    machine is a part (pip install 'pointmap[cluster]')."""

    view: Literal["window", "browser"] | None = None
    """Open the result at the end: in a window (a picture is written where there is no display), or
    served to a browser on this machine until Ctrl-C."""

    video: Path | None = None
    """Also write a film along the path of the cameras to this file (.mp4 or .webm), which must not
    exist yet, or say --overwrite."""

    export: Annotated[ExportOptions, tyro.conf.arg(name="")] = field(default_factory=ExportOptions)
    options: Annotated[Options, tyro.conf.arg(name="")] = field(default_factory=Options)


def main(arguments: list[str] | None = None, prog: str = "run_recon.py") -> int:
    """Run the command with ``arguments`` (``sys.argv`` by default) and return its exit code.

    0: a scene was written. 2: unusable input, with one line that says what and the remedy.
    128 + signal number: interrupted; no scene was written, and the same command goes on from there.
    """
    # Idle OpenMP threads that spin slow everything tenfold when another program is busy. Read once,
    # when torch is imported, so it has to be said before that.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    outputs: list[OutputFolder] = []

    def say(kind: str, message: str) -> None:
        from recon.terminal import print_ending

        print_ending(kind, message)

    return run_command(
        lambda: _run(arguments, prog, outputs),
        say=say,
        left=lambda: _what_was_written(outputs),
    )


def _run(arguments: list[str] | None, prog: str, outputs: list[OutputFolder]) -> int:
    """Do what ``arguments`` say; ``outputs`` gets the folder that is written to."""
    answer_version(arguments)
    command = read_command(arguments, prog)
    from recon.export import reserved_folder
    from recon.terminal import ProgressBars, error_console, print_summary, show_warnings

    logging.basicConfig(level=logging.ERROR, format="%(message)s")
    console = error_console()
    show_warnings(console)
    command.export.check()
    with reserved_folder(command.out, overwrite=command.overwrite) as output:
        outputs.append(output)
        command = replace(command, out=output.as_given(command.out))
        scene = _write(command, output, ProgressBars(console))
    if scene is not None:
        print_summary(scene, command.out, prog=prog)
        _view(command, scene)
    return 0


def read_command(arguments: list[str] | None, prog: str = "run_recon.py") -> Command:
    """Return what ``arguments`` say; a quality settles the options that they leave out."""
    command = read_arguments(Command, arguments, prog)
    if command.quality == "standard":
        return command
    preset = replace(command, options=Options.of_quality(command.quality))
    return read_arguments(Command, arguments, prog, default=preset)


def _what_was_written(outputs: list[OutputFolder]) -> str:
    for output in outputs:
        if output.published:
            return f"the scene is in {output.target}"
        work = _work_folder(output)
        if work.exists():
            return f"no scene was written; the same command goes on from what is in {work}"
    return "nothing was written"


def _write(command: Command, output: OutputFolder, listener: ProgressBars) -> Scene | None:
    """Do what ``command`` says and write it to ``output``; return the scene if there is one."""
    if command.options.weights is not None:
        from pointmap.checkpoint import locate

        # A download shows a bar of its own, which ours would hide.
        locate(command.options.weights)
    if command.options.depth_model is not None:
        from recon.depth_models.load import locate_depth_model

        locate_depth_model(command.options.depth_model)
    if command.video is not None:
        from viz.video import check_video_path

        check_video_path(command.video, overwrite=command.overwrite)
    if command.mode == "depth":
        _write_each(command, output, listener)
        return None
    return _write_scene(command, output, listener)


def _write_scene(command: Command, output: OutputFolder, listener: ProgressBars) -> Scene:
    with _without_collecting():
        from recon.cluster.connect import pieces_on
        from recon.export import load_scene
        from recon.matchers.load import fetch_matcher
        from recon.pipeline import reconstruct
        from recon.progress import Run
        from recon.save import save_into

    fetch_matcher(command.options.matcher)
    work = _work(command, output)
    with pieces_on(command.cluster) as work.pieces, listener:
        with _suspecting(work):
            scene = reconstruct(command.photos, command.options, listener=listener, work=work)
            files = Run(listener)
            with files.stage("Writing files"):
                save_into(scene, output, command.export, work)
        if command.video is not None:
            from viz.video import write_video

            with files.stage("Drawing the film") as advance:
                film = write_video(
                    scene, command.video, overwrite=command.overwrite, advance=advance
                )
            if film != command.video:
                logger.warning("%s has appeared meanwhile: the film is in %s", command.video, film)
        scene = replace(scene, stages=(*scene.stages, *files.records))
    if command.view and not command.keep_work:
        # What is viewed is read from the work; from now on, from the scene.
        scene = replace(scene, views=load_scene(output.target).views)
    _end_work(command, work)
    return scene


@contextmanager
def _without_collecting() -> Iterator[None]:
    """Have no garbage looked for while modules are imported, an eighth of what that takes; nor in
    them ever after.
    """
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()


@contextmanager
def _suspecting(work: Work) -> Iterator[None]:
    """Have errors that may come of results of an earlier run say so, in one line.

    Their files are whole, but who made them, and with which version, nobody knows.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        if not work.reused or interrupted():
            raise
        raise InputError(
            f"what an earlier run left in {work.folder} may be damaged "
            f"({type(error).__name__}: {str(error)[:200]}): run the same command with --fresh"
        ) from error


def _work(command: Command, output: OutputFolder) -> Work:
    """Return what earlier runs of the command have found, nothing if it is to start anew."""
    from recon.work.folder import Work

    work = Work(_work_folder(output))
    if command.fresh:
        work.delete()
    return work


def _end_work(command: Command, work: Work) -> None:
    """Delete what was found on the way to what is written now, unless it is to be kept."""
    if not command.keep_work:
        work.delete()
        return
    work.delete_unused()
    size = work.size_bytes() / 2**20
    sys.stdout.write(f"the work is kept in {work.folder} ({size:,.0f} MB)\n")


def _work_folder(output: OutputFolder) -> Path:
    """Return where a run keeps what its stages find until its scene is written."""
    return output.target.with_name(f"{output.target.name}.work")


def _write_each(command: Command, output: OutputFolder, listener: ProgressBars) -> None:
    from recon.single_photos.save_each import for_scenes, save_each

    if command.cluster != "local":
        raise for_scenes("--cluster")
    if command.video is not None:
        raise for_scenes("--video")
    if command.view:
        raise InputError("--view shows one scene: with --mode depth, open the folders one by one")
    work = _work(command, output)
    with listener, _suspecting(work):
        done = save_each(
            command.photos,
            command.options,
            output,
            work=work,
            export=command.export,
            listener=listener,
        )
    _end_work(command, work)
    sys.stdout.write(
        f"{number_of(done.saved, 'photo', 'photos')}, each in a folder of {command.out}; "
        "all of them on one page: "
        f"{command.out / 'report.html'}\n"
    )
    if done.left_out:
        named = ", ".join(done.left_out[:10]) + (", ..." if len(done.left_out) > 10 else "")
        sys.stdout.write(f"{len(done.left_out)} left out (see the warnings): {named}\n")


def _view(command: Command, scene: Scene) -> None:
    if command.view == "window":
        from recon.export.ownership import VIEWER_PICTURE
        from viz.viewers.window import show

        show(scene, picture=command.out / VIEWER_PICTURE)
    elif command.view == "browser":
        from viz.viewers.browser import browse

        browse(scene)
