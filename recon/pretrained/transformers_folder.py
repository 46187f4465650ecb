"""Folders of the transformers library: what they hold, before and after the library loads them."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pointmap.errors import InputError
from pointmap.outside.regular_file import check_regular
from recon.pretrained.folder import library_errors, read_settings
from recon.pretrained.package import check_package

if TYPE_CHECKING:
    import torch

_LEAST_VERSION = (5, 0)
# Of the pictures that a model may ask for, in pixels; Depth Pro has 1536.
_LARGEST_SIDE = 4096
# A tied or missing layer of this size is told better by its name.
_FEW_WEIGHTS = 1_000_000


def check_transformers(option: str) -> None:
    """Raise ``InputError`` unless a fitting version is installed, without importing it.

    ``option``: of the command line, that asks for it.
    """
    check_package("transformers", least=_LEAST_VERSION, needed_by=option)


def model_config(folder: Path) -> dict[str, Any]:
    """Return what config.json of a model's folder says, model_type and architectures among it.

    Raises ``InputError`` where there is none of the library's.
    """
    try:
        config = read_settings(folder / "config.json")
        names = config["model_type"], *(config.get("architectures") or [])
        if not all(isinstance(text, str) for text in names):
            raise TypeError("model_type and architectures are no texts")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{folder}: no config.json of a model of transformers ({error}); give a folder that "
            "save_pretrained wrote"
        ) from error
    return config


def check_kind(
    folder: Path, config: dict[str, Any], kind: str, *, task: str, known: Sequence[str]
) -> None:
    """Raise ``InputError`` unless a model does a ``task`` (ForDepthEstimation, ...), is of a
    ``known`` type, and its folder has weights that can be read; ``kind``: what is wanted, in words.
    """
    architectures, model_type = config.get("architectures") or [], config["model_type"]
    if not any(task in name for name in architectures) or model_type not in known:
        raise InputError(
            f"{folder} is no {kind} that is known here but "
            f"{', '.join(architectures) or model_type}; known are {', '.join(known)}"
        )
    if not any(folder.glob("*.safetensors")):
        raise InputError(f"{folder}: no weights (.safetensors) in the folder; download it again")


def loaded(folder: Path, library_class: Any, device: torch.device) -> tuple[Any, Any]:
    """Return the image processor and the network in ``folder``, the latter on its device.

    ``library_class``: that loads it (AutoModelFor...). Raises ``InputError`` for weights that are
    missing or unfit, and whatever else the library finds wrong.
    """
    from transformers import AutoImageProcessor

    with quiet_transformers(), library_errors(folder):
        _check_size(folder, library_class)
        # No code from the folder is run: without trust_remote_code the library has its own alone.
        processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True)
        network, info = library_class.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
            dtype="float32",
        )
    _check_weights(folder, network, info)
    return processor, network.eval().to(device)


def _check_size(folder: Path, library_class: Any) -> None:
    """Raise ``ValueError`` when the settings ask for pictures beyond any model's, or for far more
    weights than the files hold; ``library_class``: that will load them (AutoModelFor...).

    Those that are missing would be made of random numbers first, whatever memory that takes.
    """
    import torch
    from safetensors import safe_open
    from transformers import AutoConfig

    if os.path.lexists(folder / "preprocessor_config.json"):
        read_settings(folder / "preprocessor_config.json", largest=_LARGEST_SIDE)
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    with torch.device("meta"):
        network = library_class.from_config(config)
    asked = sum(weight.numel() for weight in network.parameters())
    held = 0
    for path in folder.glob("*.safetensors"):
        check_regular(path)
        with safe_open(path, framework="np") as file:
            held += sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())
    if asked > 2 * held + _FEW_WEIGHTS:
        raise ValueError(f"config.json asks for {asked:,} weights, and the files hold {held:,}")


def _check_weights(folder: Path, network: Any, info: dict[str, Any]) -> None:
    """Raise ``InputError`` where weights are missing, misshapen or not finite; ``info``: of
    from_pretrained.
    """
    import torch

    missing = sorted(info["missing_keys"])
    if missing or info.get("mismatched_keys"):
        raise InputError(
            f"{folder}: {len(missing)} weights are missing, {len(info['mismatched_keys'])} of "
            "another shape; download it again"
        )
    bad = [name for name, tensor in network.named_parameters() if not torch.isfinite(tensor).all()]
    if bad:
        raise InputError(
            f"{folder}: {len(bad)} weights are not finite ({bad[0]}, ...); download it again"
        )


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep the library's own bars and reports off the terminal meanwhile: ours are there."""
    from transformers.utils import logging

    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()
