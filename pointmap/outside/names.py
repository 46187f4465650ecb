"""Names of files of ours that are made of names of others."""

from __future__ import annotations

MOST_BYTES = 200
"""File systems take names of 255 bytes; endings, and what tells names apart, come behind."""


def shortened(stem: str) -> str:
    """Return a name without its ending, cut where it is longer than ``MOST_BYTES`` in UTF-8."""
    while len(stem.encode("utf-8", errors="surrogatepass")) > MOST_BYTES:
        stem = stem[:-1]
    return stem
