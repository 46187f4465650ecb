"""Marigold of diffusers: loaded from its folder, run as the library runs it."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from ramps import assert_in_place, ramps

from pointmap.errors import InputError
from recon.depth_models import load_depth_model
from recon.depth_models.diffusers_depth import DiffusersDepth

diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")

CPU = torch.device("cpu")


def write_marigold(folder: Path) -> Path:
    """Write a random pipeline of Marigold's form, tiny."""
    torch.manual_seed(0)
    unet = diffusers.UNet2DConditionModel(
        block_out_channels=(32, 64),
        layers_per_block=1,
        sample_size=32,
        in_channels=8,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=2,
    )
    vae = diffusers.AutoencoderKL(
        block_out_channels=[32, 64],
        down_block_types=["DownEncoderBlock2D"] * 2,
        up_block_types=["UpDecoderBlock2D"] * 2,
    )
    text = transformers.CLIPTextConfig(
        bos_token_id=0, eos_token_id=1, pad_token_id=1, hidden_size=32, intermediate_size=37,
        num_attention_heads=4, num_hidden_layers=2, vocab_size=16,
    )  # fmt: skip
    words = ["<|startoftext|>", "<|endoftext|>", "a", "b", "a</w>", "b</w>", "ab"]
    vocabulary, merges = folder / "vocab.json", folder / "merges.txt"
    vocabulary.write_text(json.dumps({word: n for n, word in enumerate(words)}))
    merges.write_text("#version: 0.2\na b\n")
    diffusers.MarigoldDepthPipeline(
        unet=unet,
        vae=vae,
        scheduler=diffusers.DDIMScheduler(prediction_type="v_prediction", clip_sample=False),
        text_encoder=transformers.CLIPTextModel(text),
        tokenizer=transformers.CLIPTokenizer(str(vocabulary), str(merges), model_max_length=77),
        prediction_type="depth",
        scale_invariant=True,
        shift_invariant=True,
        default_denoising_steps=4,
        default_processing_resolution=64,
    ).save_pretrained(folder / "model")
    return folder / "model"


def passing_brightness(model: DiffusersDepth) -> DiffusersDepth:
    """Let the pipeline's networks hand on the brightness they see, at their own resolutions."""
    pipeline = model.pipeline
    scale = pipeline.vae_scale_factor

    def encode(image: torch.Tensor) -> SimpleNamespace:
        grey = torch.nn.functional.avg_pool2d(image.mean(1, keepdim=True), scale)
        return SimpleNamespace(latents=grey.expand(-1, 4, -1, -1))

    def decode(latent: torch.Tensor, **_: Any) -> tuple[torch.Tensor]:
        return (
            torch.nn.functional.interpolate(latent[:, :3], scale_factor=scale, mode="bilinear"),
        )

    pipeline.vae.encode, pipeline.vae.decode = encode, decode
    pipeline.unet.forward = lambda latent, *_, **__: (latent[:, :4],)
    pipeline.scheduler.register_to_config(prediction_type="sample")
    return model


def test_maps_are_those_of_the_librarys_own_pipeline_and_repeat(tmp_path: Path) -> None:
    path = write_marigold(tmp_path)
    model = load_depth_model(str(path), device=CPU)
    assert model.kind == "depth"
    pipeline = diffusers.MarigoldDepthPipeline.from_pretrained(path)
    rng = np.random.default_rng(0)
    for height, width in ((97, 141), (150, 83)):
        pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
        seeded = torch.Generator().manual_seed(0)
        expected = pipeline(Image.fromarray(pixels), num_inference_steps=4, generator=seeded)
        found = model.predict(pixels)
        assert found.values.shape == (height, width)
        # Above 0, which would count as unknown.
        np.testing.assert_allclose(found.values - 1, expected.prediction[0, ..., 0], atol=1e-5)
        np.testing.assert_array_equal(model.predict(pixels).values, found.values)
    index = path / "model_index.json"
    said = json.loads(index.read_text())
    index.write_text(json.dumps(said | {"_class_name": "StableDiffusionPipeline"}))
    with pytest.raises(InputError, match="no depth model that is known here but StableDiffusion"):
        load_depth_model(str(path), device=CPU)


@pytest.mark.parametrize(("height", "width"), [(200, 301), (333, 190)])
def test_the_maps_grid_is_the_photos(height: int, width: int, tmp_path: Path) -> None:
    """Networks that hand on the brightness they see give a ramp back where it was."""
    loaded = load_depth_model(str(write_marigold(tmp_path)), device=CPU)
    assert isinstance(loaded, DiffusersDepth)
    model = passing_brightness(loaded)
    for ramp in ramps(height, width):
        pixels = np.repeat(np.rint(30 + 190 * ramp)[..., None], 3, 2).astype(np.uint8)
        assert_in_place(model.predict(pixels).values, ramp)
