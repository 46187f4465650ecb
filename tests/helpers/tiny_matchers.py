"""Random matchers of every kind that transformers runs, tiny, as folders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers


def _superpoint() -> Any:
    return transformers.SuperPointConfig(
        encoder_hidden_sizes=[8, 8, 16, 16],
        decoder_hidden_size=16,
        descriptor_decoder_dim=16,
        max_keypoints=200,
        # Of random weights every one of 65 classes is as likely.
        keypoint_threshold=0.016,
    )


def _superglue() -> tuple[Any, Any]:
    config = transformers.SuperGlueConfig(
        keypoint_detector_config=_superpoint(),
        hidden_size=16,
        keypoint_encoder_sizes=[8, 16],
        gnn_layers_types=["self", "cross"],
        num_attention_heads=4,
        sinkhorn_iterations=10,
    )
    network = transformers.SuperGlueForKeypointMatching(config)
    return network, transformers.SuperGlueImageProcessor(size={"height": 96, "width": 128})


def _lightglue() -> tuple[Any, Any]:
    config = transformers.LightGlueConfig(
        keypoint_detector_config=_superpoint(),
        descriptor_dim=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        filter_threshold=0.0,
    )
    network = transformers.LightGlueForKeypointMatching(config)
    return network, transformers.LightGlueImageProcessor(size={"height": 96, "width": 128})


def _efficientloftr() -> tuple[Any, Any]:
    config = transformers.EfficientLoFTRConfig(
        stage_num_blocks=[1, 1, 1, 1],
        out_features=[16, 16, 16, 32],
        hidden_size=32,
        num_attention_layers=1,
        num_attention_heads=8,
        coarse_matching_threshold=0.0,
        coarse_matching_temperature=1e-3,
    )
    network = transformers.EfficientLoFTRForKeypointMatching(config)
    return network, transformers.EfficientLoFTRImageProcessor(size={"height": 96, "width": 128})


MATCHERS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "efficientloftr": _efficientloftr,
    "lightglue": _lightglue,
    "superglue": _superglue,
}


def _see(network: Any) -> None:
    """Make a random EfficientLoFTR tell places apart: by its convolutions, at an even scale."""
    for key, parameter in network.named_parameters():
        if key.endswith("mlp.layer_norm.weight"):
            parameter.zero_()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # a mean of all that it sees
    network.train()
    for _ in range(10):
        noise = torch.rand(2, 3, 24, 24)
        pictures = torch.nn.functional.interpolate(noise, size=(192, 192), mode="bicubic")
        network.efficientloftr(pictures.clamp(0, 1)[None])


def write_matcher(name: str, folder: Path) -> Path:
    """Write a random matcher of this name, and return its folder."""
    torch.manual_seed(0)
    network, processor = MATCHERS[name]()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1:
                # What comes out is as spread as what goes in.
                parameter.normal_(std=(2 / parameter[0].numel()) ** 0.5)
        if name == "efficientloftr":
            _see(network)
    network.eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
