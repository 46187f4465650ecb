"""The folder of a pretrained model, wherever it comes from: its content and its licence."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from pointmap.errors import InputError
from pointmap.file_digest import file_sha256
from pointmap.outside.regular_file import read_regular
from recon.work.content_key import content_key

_MOST_CARD_BYTES = 2**20
# Settings and weights; ONNX keeps large ones in a second file.
_CONTENT = (".json", ".safetensors", ".onnx", ".onnx_data", ".data")
# Model cards begin with a block of YAML between lines of three dashes.
_LICENCE = re.compile(r"^license(?:_name)?:\s*['\"]?([^\s'\"]+)", re.MULTILINE)


def licence_of(folder: Path) -> str:
    """Return the licence that the model card in ``folder`` names, "unknown" without one."""
    try:
        card = read_regular(folder / "README.md", most_bytes=_MOST_CARD_BYTES)
    except OSError:
        return "unknown"
    head = card.decode("utf-8", "replace")
    if not head.startswith("---"):
        return "unknown"
    found = dict.fromkeys(_LICENCE.findall(head.split("\n---", 1)[0]))
    return " ".join(name for name in found if name != "other") or "unknown"


def folder_key(folder: Path) -> str:
    """Return a name of what a model's folder holds: its settings and weights."""
    files = sorted(path for path in folder.rglob("*") if path.suffix in _CONTENT and path.is_file())
    parts = [(path.relative_to(folder).as_posix(), _digest(path, _stamp(path))) for path in files]
    return content_key("model folder", 1, parts)


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


@lru_cache(maxsize=256)
def _digest(path: Path, stamp: tuple[int, int]) -> str:
    """Return the SHA-256 of a file; ``stamp`` tells it from later ones."""
    return file_sha256(path)


@contextmanager
def library_errors(folder: Path, *others: type[Exception]) -> Iterator[None]:
    """Turn whatever the library raises about a folder into one line; ``others``: errors of its own
    that are none of Python's.
    """
    from safetensors import SafetensorError

    caught: tuple[type[Exception], ...] = (
        OSError,
        ValueError,
        LookupError,
        TypeError,
        RuntimeError,
        AttributeError,
        ImportError,
        SafetensorError,
        *others,
    )
    try:
        yield
    except caught as error:
        reason = str(error).strip().partition("\n")[0][:200]
        raise InputError(
            f"{folder} cannot be loaded by the library ({type(error).__name__}: {reason}); "
            "download it again, or update the library: pip install -U 'pointmap[models]'"
        ) from error
