"""Depth models of the transformers library: all that ``AutoModelForDepthEstimation`` runs."""

from __future__ import annotations

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
from pointmap.outside.json_object import parse_object
from pointmap.outside.regular_file import read_regular
from recon.depth_models.folder import folder_key, library_errors
from recon.depth_models.protocol import DepthPrediction
from recon.prediction.affine_fit import MapKind

if TYPE_CHECKING:
    import torch

_LEAST_VERSION = (5, 0)
_TASK = "ForDepthEstimation"
# Whose processors are nothing without torchvision.
_NEED_TORCHVISION = ("depth_pro", "zoedepth")
_PROMPTED = "prompt_depth_anything"
# By the configuration's model_type; Depth Anything says itself which of two it is. A prompted one's
# depth is in the prompt's unit, and without one in none.
_KINDS: dict[str, MapKind | None] = {
    "depth_anything": None,
    "depth_pro": "metres",
    "dpt": "disparity",
    "glpn": "metres",
    _PROMPTED: "depth",
    "zoedepth": "metres",
}


@dataclass(frozen=True)
class TransformersDepth:
    """A :class:`recon.depth_models.protocol.DepthModel` with its processor, on its device."""

    name: str
    kind: MapKind
    licence: str
    content_key: str
    processor: Any
    network: Any
    device: torch.device

    def predict(self, pixels: NDArray[np.uint8]) -> DepthPrediction:
        """Return what the library's own pipeline does for this photo, at the photo's size."""
        return self._run(pixels)

    def _run(self, pixels: NDArray[np.uint8], **prompt: Any) -> DepthPrediction:
        """Return what the network makes of a photo and of what else its processor takes."""
        import torch
        from PIL import Image

        # Half precision pays on GPUs alone: processors convert it back and forth.
        half = self.device.type == "cuda"
        with (
            torch.inference_mode(),
            torch.autocast("cuda", torch.float16, enabled=half),
        ):
            given = self.processor(images=Image.fromarray(pixels), return_tensors="pt", **prompt)
            outputs = self.network(**given.to(self.device))
            # The first argument after the outputs is the photo's size for all of them; ZoeDepth
            # calls it source_sizes.
            (found,) = self.processor.post_process_depth_estimation(outputs, [pixels.shape[:2]])
        focal = found.get("focal_length")
        return DepthPrediction(
            found["predicted_depth"].float().cpu().numpy(),
            focal_px=None if focal is None else float(focal),
        )


@dataclass(frozen=True)
class PromptedTransformersDepth(TransformersDepth):
    """A :class:`recon.depth_models.protocol.PromptedDepthModel`: PromptDepthAnything, made to
    refine the depth of a phone's lidar (arXiv 2412.14015).
    """

    def predict_prompted(
        self, pixels: NDArray[np.uint8], depth: NDArray[np.float32]
    ) -> DepthPrediction:
        """Return depth in the unit of the coarse ``depth`` (h', w')."""
        # Without the factor its processor takes millimetres.
        return self._run(pixels, prompt_depth=depth, prompt_scale_to_meter=1.0)


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
    prompted = network.config.model_type == _PROMPTED
    return (PromptedTransformersDepth if prompted else TransformersDepth)(
        name, kind, licence, folder_key(folder), processor, network, device
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
        config = parse_object(read_regular(folder / "config.json"), infinite=True)
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
    metric = config.get("depth_estimation_type", "relative") == "metric"
    return "metres" if metric else "disparity"


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
