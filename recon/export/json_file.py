"""JSON as our files hold it: UTF-8, matrices one row per line, floats that read back exactly."""

from __future__ import annotations

import dataclasses
import enum
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np

from pointmap.errors import InputError
from pointmap.outside.json_object import parse_object
from pointmap.outside.regular_file import read_regular

# A list of nothing but numbers. Strings hold no raw newline in JSON, so none can match.
_NUMBER_ROW = re.compile(r"\[\n\s+(-?\d[-+.eE\d]*(?:,\n\s+-?\d[-+.eE\d]*)*)\n\s+\]")


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Write ``data`` in its own key order; NaN or infinity raises ``ValueError``."""
    text = json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False)
    text = _NUMBER_ROW.sub(lambda row: "[" + re.sub(r"\n\s+", " ", row[1]) + "]", text) + "\n"
    # Undecodable file names arrive as lone surrogates; a backslash escape is their JSON form.
    path.write_bytes(text.encode("utf-8", errors="backslashreplace"))


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in ``path``; raise ``InputError`` when it is missing or no JSON object."""
    try:
        return parse_object(read_regular(path))
    except FileNotFoundError:
        raise InputError(
            f"{path} is missing: give a folder that run_recon.py wrote, or one of its form"
        ) from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise InputError(f"{path} cannot be read ({error}): write it anew") from error


def plain(value: object) -> Any:
    """Return ``value`` as JSON can hold it: options may carry paths, enums, arrays, dataclasses."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        items = sorted(value, key=str) if isinstance(value, (set, frozenset)) else value
        return [plain(item) for item in items]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, enum.Enum):
        return plain(value.value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)
