"""The figures of a benchmark as a file."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any


def write_figures(path: Path | None, **figures: Any) -> None:
    """Write figures, unrounded, with the machine they were measured on; dataclasses become objects.

    None: nothing was asked for.
    """
    if path is None:
        return
    machine = {
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "platform": platform.platform(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"machine": machine, **figures}, indent=2, default=asdict)
    path.write_text(text + "\n", encoding="utf-8")
