"""What is shown of a batch: a table while it runs, and the rows of its page."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from recon.progress import duration
from viz.pages.batch_page import BatchRow

if TYPE_CHECKING:
    from pathlib import Path

    from recon.batch.outcome import Outcome
    from recon.batch.processes import BatchFolder, Scenes
    from recon.batch.scene_list import SceneEntry

# Of scenes that have ended, while others run.
_LATEST = 10


def progress_table(scenes: Scenes, count: int) -> Table:
    """Return the scenes that run and those that ended last, of ``count``."""
    table = _table()
    for outcome in list(scenes.done.values())[-_LATEST:]:
        table.add_row(*_cells(outcome))
    for running in scenes.running.values():
        seconds = duration(time.monotonic() - running.started)
        table.add_row(escape(running.entry.name), "", "running", seconds, "")
    failed = sum(outcome.reason is not None for outcome in scenes.done.values())
    table.caption = (
        f"{len(scenes.done)} of {count} done, {failed} of them without a scene; "
        f"{len(scenes.running)} running"
    )
    return table


def results_table(outcomes: Sequence[Outcome]) -> Table:
    """Return one row per scene."""
    table = _table()
    for outcome in outcomes:
        table.add_row(*_cells(outcome))
    return table


def page_rows(entries: Sequence[SceneEntry], scenes: Scenes, folder: BatchFolder) -> list[BatchRow]:
    """Return the page's rows of the scenes that have ended, in the order of ``entries``."""
    rows = []
    for entry in entries:
        outcome = scenes.done.get(entry.name)
        if outcome is None:
            continue
        failed = outcome.reason is not None
        # Of a scene that there is not, what was said on the way.
        shown = folder.log(entry.name) if failed else folder.scene(entry.name) / "report.html"
        placed = "" if failed else f"{outcome.placed} of {outcome.photos}"
        rows.append(
            BatchRow(
                entry.name,
                _link(folder, shown),
                outcome.thumbnail,
                placed,
                outcome.reason or outcome.verdict,
                duration(outcome.seconds),
                outcome.warnings,
                failed,
            )
        )
    return rows


def _link(folder: BatchFolder, path: Path) -> str | None:
    return path.relative_to(folder.root).as_posix() if path.is_file() else None


def _table() -> Table:
    table = Table(title_justify="left")
    for name in ("scene", "placed", "cameras", "time", "warnings"):
        table.add_column(name, overflow="fold")
    return table


def _cells(outcome: Outcome) -> tuple[str, str, str, str, str]:
    name, time_taken = escape(outcome.name), duration(outcome.seconds)
    if outcome.reason is not None:
        return name, "", f"[red]no scene:[/] {escape(outcome.reason)}", time_taken, ""
    placed = f"{outcome.placed} of {outcome.photos}"
    # Of what is in order, a word is enough here.
    verdict = "sound" if outcome.verdict.startswith("sound:") else escape(outcome.verdict)
    return name, placed, verdict, time_taken, str(len(outcome.warnings))
