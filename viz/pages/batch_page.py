"""The page of many scenes: each with a photo, what became of it, and the way to its report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from urllib.parse import quote

from viz.pages.html_page import FOOTER, page_head


@dataclass(frozen=True)
class BatchRow:
    """A scene as the page shows it: what is said of it, all plain text.

    ``more``: path from the page's folder of its report or, where ``said`` is why it ``failed``, of
    its log; None where there is none. ``thumbnail``: a JPEG in base64, empty where there is none.
    """

    name: str
    more: str | None
    thumbnail: str
    placed: str
    said: str
    time: str
    warnings: Sequence[str]
    failed: bool


def batch_page(rows: Sequence[BatchRow]) -> str:
    """Return the whole page; thumbnails are inside it, the linked reports beside it."""
    failed = sum(row.failed for row in rows)
    title = f"{len(rows)} scene{'s' if len(rows) != 1 else ''}"
    said = f"{len(rows) - failed} reconstructed, {failed} not."
    body = "".join(_row(row) for row in rows)
    return (
        f"{page_head(title)}<main><h1>{title}</h1><p class='soft'>{said}</p>"
        "<div class='wide'><table><thead><tr><th></th><th>Scene</th><th class='number'>Placed</th>"
        "<th>Cameras</th><th class='number'>Time</th><th>Warnings</th></tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
        f"{FOOTER}</main></body></html>\n"
    )


def _row(row: BatchRow) -> str:
    name = escape(row.name)
    picture = ""
    if row.thumbnail:
        source = f"data:image/jpeg;base64,{escape(row.thumbnail)}"
        picture = f'<img src="{source}" width="120" loading="lazy" alt="{name}">'
    if row.more is not None:
        name = f"<a href='{escape(quote(row.more))}'>{name}</a>"
    said = escape(row.said)
    if row.failed:
        said = f"<span class='no'>no scene</span>: {said}"
    warned = ""
    if row.warnings:
        listed = "".join(f"<li>{escape(text)}</li>" for text in row.warnings)
        warned = f"<details><summary>{len(row.warnings)}</summary><ul>{listed}</ul></details>"
    return (
        f"<tr><td>{picture}</td><td class='name'>{name}</td>"
        f"<td class='number'>{escape(row.placed)}</td><td class='why'>{said}</td>"
        f"<td class='number'>{escape(row.time)}</td><td class='why'>{warned}</td></tr>"
    )
