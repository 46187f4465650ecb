"""What the stages are given, and what they say."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Row:
    """One figure: ``what`` was measured, its ``value`` (text where something is missing) in
    ``unit``, and the ``goal``, if it has one.
    """

    what: str
    value: float | str
    unit: str = ""
    goal: str = ""


@dataclass(frozen=True)
class StageOptions:
    """``tiny``: sizes for a rehearsal. ``work`` is kept between calls, what is in ``out`` returns.

    ``parity``: folder of the reference's outputs. ``frames``: folder of the photos to reconstruct.
    ``textures``: photographs, a folder or packed .npz. ``seconds``, ``budget``: of training, in
    this call and in all.
    """

    device_name: str
    tiny: bool
    work: Path
    out: Path
    parity: Path | None
    frames: Path | None
    textures: Path | None
    seconds: float
    budget: float

    @property
    def device(self) -> torch.device:
        """Where everything is to run."""
        import torch

        return torch.device(self.device_name)

    @staticmethod
    def of(given: argparse.Namespace) -> StageOptions:
        """Return what the command line says."""
        return StageOptions(
            given.device, given.tiny, given.work, given.out, given.parity,
            given.frames, given.textures, given.seconds, given.budget,
        )  # fmt: skip
