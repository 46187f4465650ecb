"""Random depth models of every kind that transformers runs, tiny, as folders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

_STAGES = ["stage1", "stage2", "stage3", "stage4"]


def _dinov2() -> Any:
    return transformers.Dinov2Config(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        image_size=70,
        out_features=_STAGES,
        reshape_hidden_states=False,
    )


def _dpt() -> tuple[Any, Any]:
    config = transformers.DPTConfig(
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=37,
        image_size=64,
        patch_size=16,
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[16, 16, 32, 32],
        fusion_hidden_size=16,
        is_hybrid=False,
    )
    processor = transformers.DPTImageProcessor(
        # As for the published ones: every photo becomes a square.
        size={"height": 64, "width": 64}
    )
    return transformers.DPTForDepthEstimation(config), processor


def _anything(kind: str) -> tuple[Any, Any]:
    config = transformers.DepthAnythingConfig(
        backbone_config=_dinov2(),
        patch_size=14,
        reassemble_hidden_size=16,
        reassemble_factors=[4, 2, 1, 0.5],
        neck_hidden_sizes=[16, 16, 16, 16],
        fusion_hidden_size=16,
        head_hidden_size=16,
        depth_estimation_type=kind,
        max_depth=20 if kind == "metric" else 1,
    )
    processor = transformers.DPTImageProcessor(
        size={"height": 70, "width": 70}, keep_aspect_ratio=True, ensure_multiple_of=14
    )
    return transformers.DepthAnythingForDepthEstimation(config), processor


def _prompted() -> tuple[Any, Any]:
    config = transformers.PromptDepthAnythingConfig(
        backbone_config=_dinov2(),
        patch_size=14,
        reassemble_hidden_size=16,
        reassemble_factors=[4, 2, 1, 0.5],
        neck_hidden_sizes=[16, 16, 16, 16],
        fusion_hidden_size=16,
        head_hidden_size=16,
        depth_estimation_type="metric",
        max_depth=20,
    )
    processor = transformers.PromptDepthAnythingImageProcessor(
        size={"height": 70, "width": 70}, keep_aspect_ratio=True, ensure_multiple_of=14
    )
    return transformers.PromptDepthAnythingForDepthEstimation(config), processor


def _zoe() -> tuple[Any, Any]:
    backbone = transformers.BeitConfig(
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=37,
        image_size=64,
        patch_size=16,
        out_features=_STAGES,
        reshape_hidden_states=False,
        use_relative_position_bias=True,
    )
    config = transformers.ZoeDepthConfig(
        backbone_config=backbone,
        neck_hidden_sizes=[16, 16, 32, 32],
        fusion_hidden_size=16,
        reassemble_factors=[4, 2, 1, 0.5],
        bottleneck_features=16,
        num_relative_features=16,
        bin_configurations=[{"n_bins": 8, "min_depth": 0.001, "max_depth": 10.0, "name": "nyu"}],
        bin_embedding_dim=16,
        num_attractors=[4, 2, 1, 1],
        patch_transformer_hidden_size=16,
        patch_transformer_intermediate_size=16,
        patch_transformer_num_attention_heads=2,
    )
    processor = transformers.ZoeDepthImageProcessor(
        size={"height": 64, "width": 96}, ensure_multiple_of=32
    )
    return transformers.ZoeDepthForDepthEstimation(config), processor


def _glpn() -> tuple[Any, Any]:
    config = transformers.GLPNConfig(
        hidden_sizes=[8, 16, 16, 32],
        depths=[1, 1, 1, 1],
        num_attention_heads=[1, 1, 2, 2],
        decoder_hidden_size=16,
    )
    return transformers.GLPNForDepthEstimation(config), transformers.GLPNImageProcessor()


def _depth_pro() -> tuple[Any, Any]:
    patch = {
        "model_type": "dinov2",
        "num_hidden_layers": 2,
        "hidden_size": 16,
        "num_attention_heads": 2,
        "patch_size": 2,
        "image_size": 8,
        "use_mask_token": False,
    }
    config = transformers.DepthProConfig(
        patch_size=8,
        patch_model_config=patch,
        image_model_config=patch,
        fov_model_config=patch,
        intermediate_hook_ids=[1, 0],
        intermediate_feature_dims=[8, 6],
        scaled_images_ratios=[0.5, 1.0],
        scaled_images_overlap_ratios=[0.0, 0.2],
        scaled_images_feature_dims=[8, 12],
        fusion_hidden_size=8,
        use_fov_model=True,
        num_fov_head_layers=0,
    )
    processor = transformers.DepthProImageProcessor(size={"height": 16, "width": 16})
    return transformers.DepthProForDepthEstimation(config), processor


MODELS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "dpt": _dpt,
    "depth-anything": lambda: _anything("relative"),
    "depth-anything-metric": lambda: _anything("metric"),
    "prompt-depth-anything": _prompted,
    "zoedepth": _zoe,
    "glpn": _glpn,
    "depth-pro": _depth_pro,
}


NEED_TORCHVISION = ("zoedepth", "depth-pro")


def write_model(name: str, folder: Path) -> Path:
    """Write a random model of this name, and return its folder; skips where it cannot be made."""
    if name in NEED_TORCHVISION:
        pytest.importorskip("torchvision", reason="transformers' own processor needs torchvision")
    torch.manual_seed(0)
    network, processor = MODELS[name]()
    with torch.no_grad():
        # Maps of the usual small weights are all but flat.
        for parameter in network.parameters():
            parameter.normal_(std=0.1)
    network.eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
