"""``python -m recon.batch SCENES --out DIR``: many scenes, each on its own."""

from __future__ import annotations

import os
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from pointmap.command_line import read_arguments
from pointmap.commands import run_command
from pointmap.errors import InputError, number_of
from pointmap.saved_scene import refuse_saved_scene
from pointmap.version import answer_version

if TYPE_CHECKING:
    from recon.batch.processes import BatchFolder, Scenes
    from recon.batch.scene_list import SceneEntry

EXIT_SOME_FAILED = 3
_LOCK = ".lock"
# How often the page is written while scenes come in.
_PAGE_SECONDS = 10.0
# Of more scenes the closing table has those alone that failed.
_MOST_ROWS = 100


@dataclass(frozen=True)
class Command:
    """Reconstruct many scenes, each in a process of its own; what fails does not stop the rest.

    Example: python -m recon.batch survey/ --out results -- --quality draft

    What follows -- is options of run_recon.py, for every scene. DIR gets scenes/NAME for each
    scene, logs/NAME.log with what was said of it, and index.html with all results. The same command
    goes on where it was stopped: scenes whose files and options are the same are left as they are,
    those that failed are tried again.

    Exit code: 0 if every scene was reconstructed, 3 if some were not, 2 if the list cannot be used.
    """

    scenes: tyro.conf.Positional[Path]
    """A folder with a folder of photos for each scene, or a CSV file: a row for each, the column
    photos is a folder, file or pattern (from the CSV file's folder), the column name, if any, the
    scene's."""

    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """Folder for the results."""

    at_once: int = 1
    """Scenes that are reconstructed side by side; they share the cores."""


def main(arguments: list[str] | None = None, prog: str = "python -m recon.batch") -> int:
    """Run the command with ``arguments`` (``sys.argv`` by default) and return its exit code."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    answer_version(arguments)
    given = sys.argv[1:] if arguments is None else list(arguments)
    cut = given.index("--") if "--" in given else len(given)
    command, options = read_arguments(Command, given[:cut], prog), given[cut + 1 :]
    return run_command(
        lambda: _run(command, options, prog), left=lambda: "the same command goes on from here"
    )


def _run(command: Command, options: list[str], prog: str) -> int:
    from recon.batch.processes import BatchFolder, Scenes
    from recon.batch.scene_list import read_scenes
    from recon.export.staging import real_path
    from recon.work.lock import Busy, exclusive_file

    if command.at_once < 1:
        raise InputError("--at-once must be at least 1")
    _check_options(options, prog)
    entries = read_scenes(command.scenes)
    folder = BatchFolder(real_path(command.out))
    if folder.root.is_relative_to(real_path(command.scenes)):
        raise InputError(
            f"{command.out} lies in {command.scenes}, of which every folder is a scene: choose an "
            "output folder outside it"
        )
    refuse_saved_scene(folder.root)
    with ExitStack() as stack:
        try:
            folder.make()
            stack.enter_context(exclusive_file(folder.root / _LOCK))
            scenes = stack.enter_context(Scenes(entries, folder, options, command.at_once))
            _reconstruct(entries, scenes, folder)
        except Busy:
            raise InputError(
                f"another batch is writing to {folder.root}: wait until it ends, or choose another "
                "output folder"
            ) from None
        except OSError as error:
            raise InputError(
                f"cannot write to {folder.root} ({error.strerror or error}): mend that and run the "
                "same command again, it goes on where it stopped"
            ) from error
    return EXIT_SOME_FAILED if any(o.reason for o in scenes.done.values()) else 0


def _check_options(options: list[str], prog: str) -> None:
    """End with a message unless all scenes can be made with the ``options``."""
    from recon.cli import read_command

    marks = "photos", "scene"
    command = read_command([marks[0], "--out", marks[1], *options], f"{prog} ... --")
    own = command.photos == marks[:1] and command.out == Path(marks[1])
    if not own or command.view is not None or command.video is not None:
        raise InputError(
            "after -- come options for every scene: not photos, --out, --view or --video"
        )
    command.options.check()
    command.export.check()


def _reconstruct(entries: list[SceneEntry], scenes: Scenes, folder: BatchFolder) -> None:
    """Reconstruct the scenes, and show how it goes; the page is written now and then, and last."""
    from rich.console import Console
    from rich.live import Live
    from rich.markup import escape

    from recon.batch.table import page_rows, progress_table, results_table
    from recon.terminal import error_console
    from viz.pages.batch_page import batch_page
    from viz.pages.html_page import write_page

    console = error_console()
    if scenes.done:
        console.print(f"{len(scenes.done)} of {len(entries)} scenes are done already")
    written = time.monotonic()
    try:
        with Live(console=console, auto_refresh=False, transient=True) as live:
            for outcome in scenes.outcomes():
                if console.is_terminal:
                    live.update(progress_table(scenes, len(entries)), refresh=True)
                elif outcome is not None:
                    console.print(f"{len(scenes.done)} of {len(entries)}: {escape(outcome.name)}")
                if outcome is not None and time.monotonic() - written > _PAGE_SECONDS:
                    write_page(batch_page(page_rows(entries, scenes, folder)), folder.page)
                    written = time.monotonic()
    finally:
        write_page(batch_page(page_rows(entries, scenes, folder)), folder.page)
    outcomes = [scenes.done[entry.name] for entry in entries]
    failed = [outcome for outcome in outcomes if outcome.reason is not None]
    out = Console(highlight=False)
    out.print(results_table(outcomes if len(outcomes) <= _MOST_ROWS else failed))
    sys.stdout.write(
        f"{number_of(len(outcomes) - len(failed), 'scene', 'scenes')}, {len(failed)} without one; "
        f"all of them on one page: {folder.page}\n"
    )
