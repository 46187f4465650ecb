"""Training scenes that are soon rendered, and shards of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pointmap.training.generate import Plan, parser_of, plan_of
from pointmap.training.scenes import textures

TINY = ("--scenes", "2", "--shard-scenes", "1", "--size", "64x32", "--views", "2")


def few_textures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have texture banks hold one of each pattern."""
    few = {name: (draw, 1) for name, (draw, _) in textures._PATTERNS.items()}
    monkeypatch.setattr(textures, "_PATTERNS", few)


def tiny_plan(out: Path) -> Plan:
    """Return a plan of two shards of a scene each."""
    return plan_of(parser_of("generate").parse_args(["--out", str(out), *TINY]))


def files_in(folder: Path) -> dict[str, bytes]:
    """Return all that lies there."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}
