"""What all pages share: one file that holds everything, and asks for nothing else."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

FOOTER = "<footer>Made by pointmap. This page needs no network.</footer>"


def page_head(title: str, scripts: Sequence[str] = ()) -> str:
    """Return a page up to the beginning of its body; ``scripts`` are those that may run in it."""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f"{_policy_tag(scripts)}"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_page_file('report.css')}</style></head><body>"
    )


def warning_list(warnings: Sequence[str]) -> str:
    """Return a list of warnings, empty where there are none."""
    items = "".join(f"<li>{escape(text)}</li>" for text in warnings)
    return f"<ul class='warnings'>{items}</ul>" if items else ""


def page_html(title: str, body: str, data: dict[str, Any], *, scripts: Sequence[str]) -> str:
    """Return a page of ``body`` with the styles, ``scripts`` of this folder and their ``data``."""
    # Nothing in the data can end the script element.
    packed = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    codes = [_page_file(name) for name in scripts]
    code = "".join(f"<script>{text}</script>" for text in codes)
    return (
        f'{page_head(title, codes)}{body}<script type="application/json" id="scene-data">{packed}'
        f"</script>{code}</body></html>\n"
    )


def _policy_tag(scripts: Sequence[str]) -> str:
    """Return what tells a browser to run these scripts alone, and to ask no other place.

    Whatever a photo's name or a file's text might smuggle into a page, it would not run (Content
    Security Policy, https://www.w3.org/TR/CSP3).
    """
    digests = (hashlib.sha256(text.encode("utf-8")).digest() for text in scripts)
    allowed = " ".join(f"'sha256-{base64.b64encode(d).decode()}'" for d in digests) or "'none'"
    policy = (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    return f'<meta http-equiv="Content-Security-Policy" content="{policy}">'


def write_page(page: str, path: str | Path) -> Path:
    """Write ``page`` to ``path`` and return it: whole or not at all.

    Raises OSError when it cannot be written.
    """
    path = Path(path)
    # Short, whatever the page is called; and with the rights that the user's new files have.
    unfinished = path.with_name(f".page-{secrets.token_hex(8)}")
    try:
        # Undecodable file names arrive as lone surrogates.
        with unfinished.open("x", encoding="utf-8", errors="backslashreplace") as file:
            file.write(page)
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    return path


def _page_file(name: str) -> str:
    return files("viz.pages").joinpath(name).read_text(encoding="utf-8")
