"""From what people write after ``--matcher`` to a matcher."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from recon.matchers.kornia_matchers import (
    KORNIA_MATCHERS,
    kornia_is_installed,
    load_kornia_matcher,
    weights_are_here,
)
from recon.matchers.protocol import Matcher
from recon.matchers.transformers_matchers import TRANSFORMERS_MATCHERS, load_transformers_matcher
from recon.pretrained.licences import warn_of_licence
from recon.pretrained.repository import model_folder

if TYPE_CHECKING:
    import torch

# The files of a repository that are needed, or tell its licence.
_PATTERNS = ("*.json", "*.safetensors", "README.md")


def load_matcher(given: str, *, device: torch.device) -> Matcher | None:
    """Return the matcher that ``given`` names: a short name, an id on the hub, or a folder.

    "sift": None, key points of SIFT are matched anyway. "auto": the first of kornia's that is
    installed with its weights, None where there is none; nothing is downloaded. Raises
    ``InputError`` where it cannot be had or used.
    """
    if given == "sift":
        return None
    if given == "auto":
        here = [known for known in KORNIA_MATCHERS if weights_are_here(known)]
        if here and kornia_is_installed():
            return load_kornia_matcher(here[0], device=device)
        return None
    for known in KORNIA_MATCHERS:
        if known.name == given:
            return load_kornia_matcher(known, device=device)
    folder, licence = locate_matcher(given)
    warn_of_licence(given, licence)
    return load_transformers_matcher(folder, name=given, licence=licence, device=device)


def fetch_matcher(given: str) -> None:
    """Download a matcher of transformers unless it is here: under the hub's own progress bar."""
    if given not in ("auto", "sift", *(known.name for known in KORNIA_MATCHERS)):
        locate_matcher(given)


def locate_matcher(given: str) -> tuple[Path, str]:
    """Return the folder of a matcher of transformers, downloaded if need be, and its licence."""
    others = ("auto", "sift", *(known.name for known in KORNIA_MATCHERS))
    folder, licence, _ = model_folder(
        "--matcher", given, TRANSFORMERS_MATCHERS, _PATTERNS, others=others
    )
    return folder, licence
