"""Depth models of the transformers library: all that ``AutoModelForDepthEstimation`` runs."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pointmap.errors import InputError
from pointmap.outside.regular_file import check_regular
from recon.depth_models.folder import folder_key, library_errors, read_settings
from recon.depth_models.protocol import DepthPrediction
from recon.prediction.affine_fit import MapKind

if TYPE_CHECKING:
    import torch

_LEAST_VERSION = (5, 0)
# Of the pictures that a model may ask for, in pixels; Depth Pro has 1536.
_LARGEST_SIDE = 4096
_TASK = "ForDepthEstimation"
# Whose processors are nothing without torchvision.
_NEED_TORCHVISION = ("depth_pro", "zoedepth")
# A tied or missing layer of this size is told better by its name.
_FEW_WEIGHTS = 1_000_000
# By the configuration's model_type; the Depth Anything family says itself which of two it is.
_KINDS: dict[str, MapKind | None] = {
    "depth_anything": None,
    "depth_pro": "metres",
    "dpt": "disparity",
    "glpn": "metres",
    "prompt_depth_anything": None,
    "zoedepth": "metres",
}


@dataclass(frozen=True)
class TransformersDepth:
    """A :class:`recon.depth_models.protocol.DepthModel` with its processor, on its device."""

    name: str
    folder: Path
    kind: MapKind
    licence: str
    content_key: str
    processor: Any
    network: Any
    device: torch.device

    def predict(self, pixels: NDArray[np.uint8]) -> DepthPrediction:
        """Return what the library's own pipeline does for this photo, at the photo's size."""
        import torch
        from PIL import Image

        # Half precision pays on GPUs alone: processors convert it back and forth.
        half = self.device.type == "cuda"
        with (
            library_errors(self.folder),
            torch.inference_mode(),
            torch.autocast("cuda", torch.float16, enabled=half),
        ):
            given = self.processor(images=Image.fromarray(pixels), return_tensors="pt")
            outputs = self.network(**given.to(self.device))
            # The first argument after the outputs is the photo's size for all of them; ZoeDepth
            # calls it source_sizes.
            (found,) = self.processor.post_process_depth_estimation(outputs, [pixels.shape[:2]])
        focal = found.get("focal_length")
        return DepthPrediction(
            found["predicted_depth"].float().cpu().numpy(),
            focal_px=None if focal is None else float(focal),
        )


def load_transformers(
    folder: Path, *, name: str, licence: str, device: torch.device
) -> TransformersDepth:
    """Return the model in ``folder``, as ``save_pretrained`` wrote it.

    Raises ``InputError`` for a model of another task, missing or unfit weights, and without a
    fitting version of the library.
    """
    _check_library()
    from transformers import AutoImageProcessor, AutoModelForDepthEstimation

    kind = _kind(folder)
    if not any(folder.glob("*.safetensors")):
        raise InputError(f"{folder}: no weights (.safetensors) in the folder; download it again")
    with quiet_transformers(), library_errors(folder):
        if os.path.lexists(folder / "preprocessor_config.json"):
            read_settings(folder / "preprocessor_config.json", largest=_LARGEST_SIDE)
        _check_size(folder)
        # No code from the folder is run: without trust_remote_code the library has its own alone.
        processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True)
        network, info = AutoModelForDepthEstimation.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
            dtype="float32",
        )
    _check_weights(folder, network, info)
    network = network.eval().to(device)
    return TransformersDepth(
        name, folder, kind, licence, folder_key(folder), processor, network, device
    )


def _check_library() -> None:
    """Raise ``InputError`` unless a fitting version is installed, without importing it."""
    try:
        installed = version("transformers")
    except PackageNotFoundError as error:
        raise InputError(
            "--depth-model needs the package transformers: pip install 'pointmap[models]'"
        ) from error
    if tuple(int(part) for part in installed.split(".")[:2]) < _LEAST_VERSION:
        raise InputError(
            f"transformers {installed} is too old for --depth-model: "
            "pip install -U 'pointmap[models]'"
        )


def _kind(folder: Path) -> MapKind:
    """Return what the maps of the model in ``folder`` hold; ``InputError`` unless it has maps."""
    try:
        config = read_settings(folder / "config.json")
        model_type, architectures = config["model_type"], config.get("architectures") or []
        if not all(isinstance(text, str) for text in (model_type, *architectures)):
            raise TypeError("model_type and architectures are no texts")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{folder}: no config.json of a model of transformers ({error}); give a folder that "
            "save_pretrained wrote"
        ) from error
    if not any(_TASK in name for name in architectures) or model_type not in _KINDS:
        raise InputError(
            f"{folder} is no depth model that is known here but "
            f"{', '.join(architectures) or model_type}; known are {', '.join(_KINDS)}"
        )
    if model_type in _NEED_TORCHVISION and find_spec("torchvision") is None:
        raise InputError(
            f"{folder}: {model_type} needs the package torchvision: pip install 'pointmap[models]'"
        )
    known = _KINDS[model_type]
    if known is not None:
        return known
    relative = "metric" if model_type == "prompt_depth_anything" else "relative"
    return "metres" if config.get("depth_estimation_type", relative) == "metric" else "disparity"


def _check_size(folder: Path) -> None:
    """Raise ``ValueError`` when the settings ask for far more weights than the files hold.

    Those that are missing would be made of random numbers first, whatever memory that takes.
    """
    import torch
    from safetensors import safe_open
    from transformers import AutoConfig, AutoModelForDepthEstimation

    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    with torch.device("meta"):
        network = AutoModelForDepthEstimation.from_config(config)
    asked = sum(weight.numel() for weight in network.parameters())
    held = 0
    for path in folder.glob("*.safetensors"):
        check_regular(path)
        with safe_open(path, framework="np") as file:
            held += sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())
    if asked > 2 * held + _FEW_WEIGHTS:
        raise ValueError(f"config.json asks for {asked:,} weights, and the files hold {held:,}")


def _check_weights(folder: Path, network: Any, info: dict[str, Any]) -> None:
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
