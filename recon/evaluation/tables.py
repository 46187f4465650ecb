"""Scores as Markdown tables: what the commands print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple

from recon.evaluation.depth_folder import AlignedScores
from recon.evaluation.two_view import AUC_DEG, PoseSummary, TwoViewSummary


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def with_decimals(value: float | None, digits: int = 3) -> str:
    """Return ``value`` with that many decimals, "-" for None."""
    return "-" if value is None else f"{value:.{digits}f}"


def two_view_table(summaries: Mapping[str, TwoViewSummary]) -> str:
    """Return a table with a row per set; poses by Procrustes / by PnP."""
    columns = (
        "set",
        "pairs",
        "RRA@15",
        "RTA@15",
        f"AUC@{'/'.join(map(str, AUC_DEG))} Procrustes",
        "PnP",
        "focal %",
        "point error",
        "AbsRel",
        "delta",
    )
    return markdown(columns, [_two_view_row(name, s) for name, s in summaries.items()])


def _two_view_row(name: str, summary: TwoViewSummary) -> list[str]:
    poses = (summary.procrustes, summary.pnp)
    return [
        name,
        str(summary.pairs),
        " / ".join(with_decimals(pose.rra15 if pose else None, 1) for pose in poses),
        " / ".join(with_decimals(pose.rta15 if pose else None, 1) for pose in poses),
        *(_auc(pose) for pose in poses),
        with_decimals(summary.focal_error_percent, 1),
        with_decimals(summary.point_error_normalised),
        with_decimals(summary.depth_abs_rel),
        with_decimals(summary.depth_delta),
    ]


def _auc(pose: PoseSummary | None) -> str:
    return "-" if pose is None else " / ".join(f"{value:.1f}" for value in pose.auc.values())


def depth_table(rows: Sequence[AlignedScores]) -> str:
    """Return a table of depth errors, a row per alignment."""
    columns = ("aligned by", "AbsRel", "SqRel", "RMSE", "RMSE log", "SILog", "log10")
    deltas = ("delta<1.25", "<1.25^2", "<1.25^3")
    return markdown((*columns, *deltas), [_depth_row(row) for row in rows])


def _depth_row(row: AlignedScores) -> list[str]:
    robust = ", robust" if row.robust else ""
    whole = ", whole sequence" if row.per_sequence else ""
    values = astuple(row.scores.errors) if row.scores.errors else (None,) * 9
    return [f"{row.alignment}{robust}{whole}", *(with_decimals(value) for value in values)]
