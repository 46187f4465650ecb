"""Marigold's depth models of the diffusers library: affine depth by a few steps of diffusion."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pointmap.errors import InputError
from recon.depth_models.protocol import DepthPrediction
from recon.prediction.affine_fit import MapKind
from recon.pretrained.folder import folder_key, library_errors, read_settings
from recon.pretrained.package import check_package
from recon.pretrained.transformers_folder import quiet_transformers

if TYPE_CHECKING:
    import torch

# What model_index.json calls it.
_PIPELINE = "MarigoldDepthPipeline"
_LEAST_VERSION = (0, 33)
# As many as its publishers give for a single look; noise of one seed, so that maps repeat.
_STEPS, _SEED = 4, 0


@dataclass(frozen=True)
class DiffusersDepth:
    """A :class:`recon.depth_models.protocol.DepthModel` with its pipeline, on its device."""

    name: str
    folder: Path
    licence: str
    content_key: str
    pipeline: Any
    device: torch.device

    @property
    def kind(self) -> MapKind:
        """Depth between the nearest and the farthest that is seen, as 0 to 1."""
        return "depth"

    def predict(self, pixels: NDArray[np.uint8]) -> DepthPrediction:
        """Return what the library's own pipeline does for this photo, at the photo's size."""
        import torch
        from PIL import Image

        with library_errors(self.folder):
            found = self.pipeline(
                Image.fromarray(pixels),
                num_inference_steps=_STEPS,
                ensemble_size=1,
                generator=torch.Generator(self.device).manual_seed(_SEED),
                output_type="np",
            )
        # 0 is the nearest and would count as unknown: the shift is solved anyway.
        return DepthPrediction((found.prediction[0, ..., 0] + 1).astype(np.float32))


def load_marigold(folder: Path, *, name: str, licence: str, device: torch.device) -> DiffusersDepth:
    """Return the model in ``folder``, as ``save_pretrained`` wrote it.

    Raises ``InputError`` for another pipeline, unfit files, and without a fitting version of the
    library.
    """
    import torch

    check_package("diffusers", least=_LEAST_VERSION, needed_by="Marigold")
    with library_errors(folder):
        pipeline_name = str(read_settings(folder / "model_index.json").get("_class_name"))
        for path in folder.glob("*/*config.json"):
            if path.parent.name != "tokenizer":  # where a length without bound is 10^30
                read_settings(path)
    if pipeline_name != _PIPELINE:
        raise InputError(f"{folder} is no depth model that is known here but {pipeline_name}")
    from diffusers import MarigoldDepthPipeline
    from diffusers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    with quiet_transformers(), library_errors(folder):
        pipeline = MarigoldDepthPipeline.from_pretrained(
            folder, local_files_only=True, use_safetensors=True
        )
    pipeline.set_progress_bar_config(disable=True)
    # Half precision pays on GPUs alone.
    pipeline.to(device, torch.float16 if device.type == "cuda" else torch.float32)
    return DiffusersDepth(name, folder, licence, folder_key(folder), pipeline, device)
