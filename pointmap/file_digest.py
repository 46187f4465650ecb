"""What a file holds, in one line."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pointmap.outside.regular_file import open_regular

# Read at once.
_CHUNK_BYTES = 1 << 20


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content, hexadecimal."""
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
