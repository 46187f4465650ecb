"""The folder of a pretrained model, wherever it comes from: its content and its licence."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from pointmap.errors import InputError, first_line
from pointmap.file_digest import file_sha256
from pointmap.outside.json_object import parse_object
from pointmap.outside.regular_file import read_regular
from recon.work.content_key import content_key

_MOST_CARD_BYTES = 2**20
# Settings and weights; ONNX keeps large ones in a second file.
_CONTENT = (".json", ".safetensors", ".onnx", ".onnx_data", ".data")
# Model cards begin with a block of YAML between lines of three dashes.
_LICENCE = re.compile(r"^license(?:_name)?:\s*['\"]?([^\s'\"]+)", re.MULTILINE)

# Beyond any published model: entries of a vocabulary, and how often something is repeated.
_LARGEST, _MOST_LAYERS = 200_000, 128
_REPEATED = re.compile("layers|depths")
_MOST_BYTES_OF_SETTINGS = 2**22


def read_settings(path: Path, *, largest: float = _LARGEST) -> dict[str, Any]:
    """Return the settings in a JSON file of a model; no number is beyond ``largest``.

    The libraries build whatever is asked for, and the sizes of what they build are not bounded by
    that of any file. Raises ``ValueError`` or ``OSError`` for a file that is unfit.
    """
    settings = parse_object(read_regular(path, most_bytes=_MOST_BYTES_OF_SETTINGS), infinite=True)
    held: list[tuple[str, Any]] = [("", settings)]
    while held:
        name, value = held.pop()
        if isinstance(value, dict):
            held.extend(value.items())
        elif isinstance(value, list):
            held.extend((name, item) for item in value)
        elif isinstance(value, (int, float)):
            most = _MOST_LAYERS if _REPEATED.search(name) else largest
            if not abs(value) <= most:
                raise ValueError(f"{name[:40]} is beyond {most:g}")
    return settings


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
def library_errors(folder: Path) -> Iterator[None]:
    """Turn whatever the library raises about a folder into one line."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"{folder} cannot be loaded by the library ({type(error).__name__}: "
            f"{first_line(error)}); download it again, or update the library: "
            "pip install -U 'pointmap[models]'"
        ) from error
