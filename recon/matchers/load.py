"""From what people write after ``--matcher`` to a matcher."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pointmap import hub
from pointmap.errors import InputError
from recon.matchers.kornia_matchers import (
    KORNIA_MATCHERS,
    kornia_is_installed,
    load_kornia_matcher,
    weights_are_here,
)
from recon.matchers.protocol import Matcher
from recon.matchers.transformers_matchers import TRANSFORMERS_MATCHERS, load_transformers_matcher
from recon.pretrained.folder import licence_of
from recon.pretrained.licences import warn_of_licence

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
    """Return the folder of a matcher of transformers, downloaded if need be, and its licence.

    ``given``: a folder, an id or a short name, the latter two with @ and a revision if need be.
    """
    folder = Path(given).expanduser()
    if folder.is_dir():
        return folder, licence_of(folder)
    name, at, revision = given.partition("@")
    known = next((m for m in TRANSFORMERS_MATCHERS if name in (m.name, m.id)), None)
    if known is not None:
        return hub.download_folder(f"{known.id}{at}{revision}", _PATTERNS), known.licence
    if not hub.is_repository(given):
        names = ", ".join(m.name for m in (*KORNIA_MATCHERS, *TRANSFORMERS_MATCHERS))
        raise InputError(
            f"--matcher {given} is not known; give auto, sift, one of {names}, an id on the "
            "Hugging Face hub, or a folder"
        )
    folder = hub.download_folder(given, _PATTERNS)
    return folder, licence_of(folder)
