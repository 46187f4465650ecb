"""Folders of the transformers library: what they hold, before and after the library loads them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pointmap.errors import InputError
from pointmap.outside.json_object import parse_object
from pointmap.outside.regular_file import read_regular

_LEAST_VERSION = (5, 0)


def check_transformers(option: str) -> None:
    """Raise ``InputError`` unless a fitting version is installed, without importing it.

    ``option``: of the command line, that asks for it.
    """
    try:
        installed = version("transformers")
    except PackageNotFoundError as error:
        raise InputError(
            f"{option} needs the package transformers: pip install 'pointmap[models]'"
        ) from error
    if tuple(int(part) for part in installed.split(".")[:2]) < _LEAST_VERSION:
        raise InputError(
            f"transformers {installed} is too old for {option}: pip install -U 'pointmap[models]'"
        )


def model_config(folder: Path) -> dict[str, Any]:
    """Return what config.json of a model's folder says, model_type and architectures among it.

    Raises ``InputError`` where there is none of the library's.
    """
    try:
        config = parse_object(read_regular(folder / "config.json"), infinite=True)
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


def check_weights(folder: Path, network: Any, info: dict[str, Any]) -> None:
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
