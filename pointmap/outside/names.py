"""Names of files of ours that are made of names of others."""

from __future__ import annotations

import hashlib

MOST_BYTES = 200
"""File systems take names of 255 bytes; endings, and what tells names apart, come behind."""


def shortened(stem: str) -> str:
    """Return a name without its ending. Longer than ``MOST_BYTES`` in UTF-8 it is cut, and ends in
    a digest of what it was.
    """
    data = stem.encode("utf-8", "surrogatepass")
    if len(data) <= MOST_BYTES:
        return stem
    digest = hashlib.sha256(data).hexdigest()[:8]
    return f"{data[: MOST_BYTES - 9].decode('utf-8', 'ignore')}_{digest}"
