"""What the command prints: warnings as they come, progress, and a closing table."""

from __future__ import annotations

import logging
import shlex
import sys
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from pointmap.errors import one_line, some_of
from recon.progress import PACKAGES
from recon.scene import Scene, StageRecord

# The longest stage, "Fusing the surface of scene 2".
_NAME_WIDTH = 30


def error_console() -> Console:
    """Return a console of what is the standard error stream now."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def print_ending(kind: str, message: str) -> None:
    """Print the last line of a command that has not done its work."""
    style = "bold red" if kind == "error" else "default"
    # Of the stream that stands for the standard error meanwhile.
    error_console().print(f"[{style}]{kind}:[/] {escape(message)}")


def show_warnings(console: Console) -> None:
    """Print the packages' warnings as they come; the pipeline also keeps them for run.json."""

    class Printer(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            colour = "yellow" if record.levelno >= logging.WARNING else "dim"
            console.print(f"[{colour}]{escape(one_line(record.getMessage()))}[/]")

    for name in PACKAGES:
        logger = logging.getLogger(name)
        logger.handlers = [Printer()]
        logger.setLevel(logging.WARNING if name != "viz" else logging.INFO)
        logger.propagate = False


class ProgressBars:
    """One bar per stage with the time left; plain lines where the output is no terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> ProgressBars:
        if self._console.is_terminal:
            self._bars = Progress(
                TextColumn(f"{{task.description:<{_NAME_WIDTH}}}"),
                BarColumn(),
                TextColumn("{task.percentage:>3.0f}%"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=self._console,
            )
            self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bars:
            self._bars.stop()

    def started(self, name: str) -> None:
        """Show a new bar, of unknown length until the stage reports."""
        if self._bars:
            self._task = self._bars.add_task(name, total=None)

    def advanced(self, done: int, total: int) -> None:
        """Move the running stage's bar."""
        if self._bars and self._task is not None:
            self._bars.update(self._task, completed=done, total=max(total, 1))

    def finished(self, record: StageRecord) -> None:
        """Fill the bar, or print the stage's line."""
        if self._bars and self._task is not None:
            self._bars.update(self._task, completed=1, total=1)
        else:
            self._console.print(f"{record.name:<{_NAME_WIDTH}} {record.seconds:5.1f} s")


def print_summary(scene: Scene, folder: Path, *, prog: str) -> None:
    """Print what was reconstructed and written to the ``folder``, and how to look at it with a
    command like ``prog``.
    """
    registered = [view for view in scene.views if view.registered]
    focals = sorted({round(float(view.camera.intrinsics[0, 0]), 1) for view in registered})
    table = Table(show_header=False, title=f"Scene in {escape(str(folder))}", title_justify="left")
    table.add_column()
    table.add_column(overflow="fold")
    table.add_row("photos placed", f"{len(registered)} of {len(scene.views)}")
    if scene.verdict is not None:
        table.add_row("cameras", escape(f"{scene.verdict.word}: {scene.verdict.reason}"))
        if odd := scene.verdict.in_doubt:
            names = some_of([photo.name for photo in odd])
            table.add_row("in doubt", escape(f"{len(odd)} of the photos: {names} (see report)"))
    if scene.other_places:
        table.add_row("scenes", _scenes_text(scene))
    table.add_row("focal length", _focal_text(focals))
    table.add_row("points", f"{len(scene.cloud.points):,}")
    table.add_row("triangles", f"{len(scene.surface.faces):,}")
    glb = folder / "scene.glb"
    table.add_row("scene.glb", f"{glb.stat().st_size / 1e6:.1f} MB")
    table.add_row("seconds", f"{sum(stage.seconds for stage in scene.stages):.0f}")
    table.add_row("warnings", str(len(scene.warnings)))
    for model in scene.models:
        table.add_row(f"{model.used} model", escape(f"{model.name} (licence: {model.licence})"))
    console = Console(highlight=False, soft_wrap=True)
    console.print(table)
    # Not in the table, which would break long paths, that are there to be copied.
    console.print(f"report   {escape(str(folder / 'report.html'))}")
    console.print(f"turn it  {_viewer(prog)} {escape(shlex.quote(str(folder)))}")


def _viewer(prog: str) -> str:
    """Return the command that shows a scene to who has called ``prog``."""
    # The installed command may have a Python of its own, which the user's shell doesn't know.
    installed = prog.startswith("pointmap ")
    return "pointmap view" if installed else f"{Path(sys.executable).name} -m viz"


def _scenes_text(scene: Scene) -> str:
    found = 1 + len(scene.other_places)
    if len(scene.further) == found - 1:
        return f"{found}: this one, and scene-2 and so on in its folder"
    return f"{1 + len(scene.further)} of {found} (the others: see the warnings)"


def _focal_text(focals: list[float]) -> str:
    if not focals:
        return "-"
    if len(focals) == 1:
        return f"{focals[0]:g} px"
    return f"{focals[0]:g} to {focals[-1]:g} px"
