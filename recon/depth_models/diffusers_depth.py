"""Marigold's depth models of the diffusers library: affine depth by a few steps of diffusion."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pointmap.errors import InputError
from pointmap.outside.json_object import parse_object
from pointmap.outside.regular_file import read_regular
from recon.depth_models.protocol import DepthPrediction
from recon.prediction.affine_fit import MapKind
from recon.pretrained.folder import folder_key, library_errors
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

    try:
        installed = version("diffusers")
    except PackageNotFoundError as error:
        raise InputError(
            f"{folder}: Marigold needs the package diffusers: pip install 'pointmap[models]'"
        ) from error
    if tuple(int(part) for part in installed.split(".")[:2]) < _LEAST_VERSION:
        raise InputError(
            f"diffusers {installed} is too old for Marigold: pip install -U 'pointmap[models]'"
        )
    with library_errors(folder):
        index = parse_object(read_regular(folder / "model_index.json"), infinite=True)
        pipeline_name = str(index.get("_class_name"))
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
    return DiffusersDepth(name, licence, folder_key(folder), pipeline, device)
