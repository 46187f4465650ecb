"""From what people write after ``--depth-model`` to a model."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from pointmap import hub
from pointmap.errors import InputError
from pointmap.outside.regular_file import home_expanded
from recon.depth_models.folder import licence_of
from recon.depth_models.protocol import DepthModel
from recon.depth_models.table import KNOWN_MODELS, Library, known_model, may_be_sold

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

# The files of a repository that are needed, or tell its licence; diffusers has folders of them.
_PATTERNS = ("*.json", "*.txt", "*.safetensors", "README.md")


def load_depth_model(given: str, *, device: torch.device) -> DepthModel:
    """Return the model that ``given`` names: a short name, an id on the hub, or a folder.

    It is downloaded unless it is in the cache. Raises ``InputError`` where it cannot be had or
    used.
    """
    folder, library, licence = locate_depth_model(given)
    if not may_be_sold(licence):
        logger.warning("the weights of %s are for non-commercial use alone: %s", given, licence)
    if library == "transformers":
        from recon.depth_models.transformers_depth import load_transformers

        return load_transformers(folder, name=given, licence=licence, device=device)
    from recon.depth_models.diffusers_depth import load_marigold

    return load_marigold(folder, name=given, licence=licence, device=device)


def locate_depth_model(given: str) -> tuple[Path, Library, str]:
    """Return the folder of a model, downloaded if need be, its library and its licence."""
    folder = home_expanded(given)
    if os.path.isdir(folder):
        return folder, _library_of(folder), licence_of(folder)
    known = known_model(given)
    if known is None and not hub.is_repository(given):
        raise InputError(
            f"--depth-model {given}: neither a folder nor a known name; give an id on the Hugging "
            f"Face hub, or one of {', '.join(m.name for m in KNOWN_MODELS)}"
        )
    folder = hub.download_folder(given if known is None else known.id, _PATTERNS)
    if known is not None:
        return folder, known.library, known.licence
    return folder, _library_of(folder), licence_of(folder)


def _library_of(folder: Path) -> Library:
    """Return the library that a model's folder was written for."""
    return "diffusers" if (folder / "model_index.json").is_file() else "transformers"
