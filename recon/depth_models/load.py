"""From what people write after ``--depth-model`` to a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from recon.depth_models.moge_onnx import MODEL_FILE
from recon.depth_models.protocol import DepthModel
from recon.depth_models.table import KNOWN_MODELS, Library
from recon.pretrained.licences import warn_of_licence
from recon.pretrained.repository import model_folder

if TYPE_CHECKING:
    import torch

# The files of a repository that are needed, or tell its licence; diffusers has folders of them.
# ONNX files in folders are other forms of the weights beside them.
_PATTERNS = ("*.json", "*.txt", "*.safetensors", "README.md", MODEL_FILE, f"{MODEL_FILE}_data")


def load_depth_model(given: str, *, device: torch.device) -> DepthModel:
    """Return the model that ``given`` names: a short name, an id on the hub, or a folder.

    See :func:`recon.pretrained.repository.model_folder`. Raises ``InputError`` where it cannot be
    had or used.
    """
    folder, library, licence = locate_depth_model(given)
    warn_of_licence(given, licence)
    if library == "transformers":
        from recon.depth_models.transformers_depth import load_transformers

        return load_transformers(folder, name=given, licence=licence, device=device)
    if library == "onnxruntime":
        from recon.depth_models.moge_onnx import load_moge

        return load_moge(folder, name=given, licence=licence, device=device)
    from recon.depth_models.diffusers_depth import load_marigold

    return load_marigold(folder, name=given, licence=licence, device=device)


def locate_depth_model(given: str) -> tuple[Path, Library, str]:
    """Return the folder of a model, downloaded if need be, its library and its licence."""
    folder, licence, known = model_folder("--depth-model", given, KNOWN_MODELS, _PATTERNS)
    return folder, _library_of(folder) if known is None else known.library, licence


def _library_of(folder: Path) -> Library:
    """Return the library that a model's folder was written for."""
    if (folder / "model_index.json").is_file():
        return "diffusers"
    alone = (folder / MODEL_FILE).is_file() and not (folder / "config.json").exists()
    return "onnxruntime" if alone else "transformers"
