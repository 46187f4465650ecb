"""Depth models of the transformers library: all that ``AutoModelForDepthEstimation`` runs."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pointmap.errors import InputError
from recon.depth_models.protocol import DepthPrediction
from recon.prediction.affine_fit import MapKind
from recon.pretrained.folder import folder_key, library_errors
from recon.pretrained.transformers_folder import (
    check_kind,
    check_transformers,
    loaded,
    model_config,
)

if TYPE_CHECKING:
    import torch

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
    folder: Path
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
            library_errors(self.folder),
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
    check_transformers("--depth-model")
    from transformers import AutoModelForDepthEstimation

    kind = _kind(folder)
    processor, network = loaded(folder, AutoModelForDepthEstimation, device)
    prompted = network.config.model_type == _PROMPTED
    return (PromptedTransformersDepth if prompted else TransformersDepth)(
        name, folder, kind, licence, folder_key(folder), processor, network, device
    )


def _kind(folder: Path) -> MapKind:
    """Return what the maps of the model in ``folder`` hold; ``InputError`` unless it has maps."""
    config = model_config(folder)
    check_kind(folder, config, "depth model", task="ForDepthEstimation", known=tuple(_KINDS))
    model_type = config["model_type"]
    if model_type in _NEED_TORCHVISION and find_spec("torchvision") is None:
        raise InputError(
            f"{folder}: {model_type} needs the package torchvision: pip install 'pointmap[models]'"
        )
    known = _KINDS[model_type]
    if known is not None:
        return known
    metric = config.get("depth_estimation_type", "relative") == "metric"
    return "metres" if metric else "disparity"
